"""Throw-away certificates, passwords and tokens for the tests of secured connections, made with openssl.

`Identities` makes two certificate authorities, certificates for the broker on localhost and for a client, a key that
signs tokens, and the settings of a broker that requires them.
"""

import base64
import json
import subprocess
import time
from pathlib import Path

USER, PASSWORD = "worker", "an-unlikely-pass;word"
AUDIENCE = "tidemark-tests"
_JAAS = "org.apache.kafka.common.security"


class Identities:
    """The files, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca, self.other_ca = self._authority("ca"), self._authority("other-ca")
        self.server_cert, self.server_key = self._certificate("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.client_cert, self.client_key = self._certificate("client", "extendedKeyUsage=clientAuth")
        self.signing_key = directory / "signing.key"
        self._openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(self.signing_key))
        self.jwks = directory / "jwks.json"
        self.jwks.write_text(json.dumps({"keys": [self._public_jwk()]}))
        self.keystore = directory / "server.pem"
        self.keystore.write_bytes(self.server_key.read_bytes() + self.server_cert.read_bytes())

    def token(self, *, lives_s: int = 300, key: Path | None = None) -> str:
        """Return a signed token (JWT, RS256) that expires in `lives_s` (s)."""
        now = int(time.time())
        claims = {"sub": USER, "iss": "tests", "aud": AUDIENCE, "iat": now, "exp": now + lives_s}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, claims))
        signature = self._openssl("dgst", "-sha256", "-sign", str(key or self.signing_key), stdin=signed.encode())
        return f"{signed}.{_base64(signature)}"

    def broker_settings(self) -> dict[str, str]:
        """Return the settings of a broker with the listeners TLS (with client certificates), SASL and SASLPLAIN."""
        stores = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
        }
        sasl = {"sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"}
        sasl["plain.sasl.jaas.config"] = f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        for name in ("scram-sha-256", "scram-sha-512"):
            sasl[f"{name}.sasl.jaas.config"] = f"{_JAAS}.scram.ScramLoginModule required;"
        sasl["oauthbearer.sasl.jaas.config"] = f"{_JAAS}.oauthbearer.OAuthBearerLoginModule required;"
        sasl["oauthbearer.sasl.server.callback.handler.class"] = (
            f"{_JAAS}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        )
        sasl["oauthbearer.sasl.oauthbearer.jwks.endpoint.url"] = self.jwks.as_uri()
        sasl["oauthbearer.sasl.oauthbearer.expected.audience"] = AUDIENCE
        listeners = {"tls": stores | {"ssl.client.auth": "required"}, "sasl": stores | sasl, "saslplain": sasl}
        return {
            f"listener.name.{listener}.{name}": value
            for listener, settings in listeners.items()
            for name, value in settings.items()
        }

    @property
    def listeners(self) -> dict[str, str]:
        """The additional listeners of the broker: name and security protocol."""
        return {"TLS": "SSL", "SASL": "SASL_SSL", "SASLPLAIN": "SASL_PLAINTEXT"}

    @property
    def jvm(self) -> list[str]:
        """Options of the broker's Java: it may read token keys only from this URL."""
        return [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.jwks.as_uri()}"]

    @property
    def formatting(self) -> list[str]:
        """Options of the formatting tool: they set the user's SCRAM passwords."""
        return [
            part
            for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for part in ("--add-scram", f'{name}=[name="{USER}",password="{PASSWORD}"]')
        ]

    def _authority(self, name: str) -> Path:
        key, cert = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}",
            "-keyout", str(key), "-out", str(cert),
        )  # fmt: skip
        return cert

    def _certificate(self, name: str, extension: str) -> tuple[Path, Path]:
        key, cert, request = (self.directory / f"{name}.{end}" for end in ("key", "crt", "csr"))
        self._openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-addext", extension,
            "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-days", "1", "-in", str(request), "-CA", str(self.ca), "-CAkey",
            str(self.ca.with_suffix(".key")), "-CAcreateserial", "-copy_extensions", "copy", "-out", str(cert),
        )  # fmt: skip
        return cert, key

    def _public_jwk(self) -> dict[str, str]:
        output = self._openssl("rsa", "-in", str(self.signing_key), "-noout", "-modulus").decode()
        modulus = bytes.fromhex(output.strip().removeprefix("Modulus="))
        return {"kty": "RSA", "kid": "k", "use": "sig", "alg": "RS256", "n": _base64(modulus), "e": "AQAB"}

    def _openssl(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True, timeout=60).stdout


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
