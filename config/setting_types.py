"""The types of setting values: how each is written, and what is refused."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

from models.instants import parse_duration

#: Shown instead of a secret.
MASKED = "********"
_TOKEN_LENGTH = 16


def _milliseconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _text(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _nothing_is_none(value: object) -> object:
    return None if _text(value) == "" else value


def _token(value: object) -> object:
    """Refuse a token that is easy to guess, without showing it; blanks around it are dropped, as clients drop them."""
    text = _text(value)
    if isinstance(text, str):
        value = text = text.strip()
    if isinstance(text, str) and len(text) < _TOKEN_LENGTH:
        raise PydanticCustomError("token", f"a token has at least {_TOKEN_LENGTH} characters")
    return value


def _readable(value: Path | None) -> Path | None:
    if value is not None:
        try:
            with value.open("rb"):
                pass
        except OSError as error:
            raise PydanticCustomError("file", f"the file cannot be read: {error.strerror}") from None
    return value


#: An empty text means: not set.
_Optional = BeforeValidator(_nothing_is_none)

Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=0)]
OptionalMilliseconds = Annotated[Milliseconds | None, _Optional]
#: For a bounded duration, add `Field` with `ge` and `le`.
Duration = Annotated[int, BeforeValidator(_milliseconds)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
Text = Annotated[str | None, _Optional]
Secret = Annotated[SecretStr | None, _Optional]
#: A secret that clients send, of a minimum length; empty for none.
Token = Annotated[SecretStr | None, BeforeValidator(_token), _Optional]
OptionalPath = Annotated[Path | None, _Optional]
#: A file that is readable now.
ReadableFile = Annotated[Path | None, AfterValidator(_readable), _Optional]
