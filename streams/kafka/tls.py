"""TLS for Kafka clients."""

import ssl

from config.settings import Settings
from models.errors import UnusableInput


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the TLS context; None without TLS. The broker's certificate and its name are always checked.

    Raises UnusableInput if a certificate or key cannot be used.
    """
    if not settings.encrypted:
        return None
    key_password = settings.tls_key_password
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
    except OSError as error:
        raise UnusableInput(f"TIDEMARK_TLS_CA: {settings.tls_ca} is no certificate in PEM: {error}") from None
    if settings.tls_cert is not None:
        try:
            context.load_cert_chain(
                settings.tls_cert,
                settings.tls_key,
                # A callable: without one OpenSSL would ask at the terminal.
                lambda: "" if key_password is None else key_password.get_secret_value(),
            )
        except OSError as error:
            raise UnusableInput(f"TIDEMARK_TLS_CERT, TIDEMARK_TLS_KEY: they cannot be used together: {error}") from None
    return context
