"""Policy files: YAML read, checked and compiled, every mistake with the path of its key."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from models.errors import PolicyError
from models.policy import Policy, compile_policy
from models.policy_spec import PolicySpec

_SCALARS = str | int | float | bool | None
POLICIES = Path(__file__).parent / "policies"


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that occurs twice: the author meant one of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping. Raises YAMLError for a key that occurs twice."""
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} occurs twice", key.start_mark)
        return super().construct_mapping(node, deep)


def load_policy(path: Path) -> Policy:
    """Return the compiled policy of a file; a bare name such as `retail` finds a preset. Raises PolicyError."""
    return compile_policy(read_spec(path))


def read_spec(path: Path) -> PolicySpec:
    """Return the checked specification of a file. Raises PolicyError, its message naming every mistake."""
    mistakes = check_file(path)
    if mistakes:
        raise PolicyError(f"{path}: " + "; ".join(mistakes))
    return PolicySpec.model_validate(_read(path))


def check_file(path: Path) -> list[str]:
    """Return the mistakes in a policy file, one line each: path of the key, what was found, what is allowed."""
    try:
        PolicySpec.model_validate(_read(path))
    except ValidationError as error:
        return [_mistake(details) for details in error.errors()]
    except PolicyError as error:
        return [str(error)]
    return []


def _read(path: Path) -> Any:
    preset = POLICIES / f"{path}.yaml"
    source = preset if not path.suffix and preset.is_file() else path
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise PolicyError(f"cannot be read: {reason}; presets are {', '.join(presets())}") from None
    try:
        return yaml.load(text, Loader=_UniqueKeys)  # noqa: S506  # a safe loader, see its base
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise PolicyError(f"{where}not YAML: {getattr(error, 'problem', error)}") from None


def presets() -> list[str]:
    """Return the names of the policies that tidemark ships."""
    return sorted(path.stem for path in POLICIES.glob("*.yaml"))


def _mistake(details: Any) -> str:
    path, told = _path(details["loc"]), _told(details)
    # A check of a whole part names the key inside it itself.
    joined = f"{path}.{told}" if re.match(r"[a-z_]+(\.[\w.]+)?: ", told) else f"{path}: {told}"
    return joined.removeprefix("(the whole file).")


def _path(loc: tuple[int | str, ...]) -> str:
    # pydantic names the chosen kind of a union in the path; the author of the file did not write that.
    return ".".join(str(part) for part in loc if part not in ("birthday", "condition", "[key]")) or "(the whole file)"


def _told(details: Any) -> str:
    message = str(details["msg"]).removeprefix("Value error, ")
    found = details["input"]
    return message if message.startswith("found") or not isinstance(found, _SCALARS) else f"found {found!r}: {message}"
