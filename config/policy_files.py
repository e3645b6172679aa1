"""Policy files: reads, checks and compiles YAML. Every mistake has the path of its key."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from models.errors import PolicyError
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline

_SCALARS = str | int | float | bool | None
#: The longest message (characters) about a mistake.
_LINE = 500
POLICIES = Path(__file__).parent / "policies"


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a duplicate key: the author meant only one of the two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping. Raises YAMLError for a key that occurs twice."""
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} occurs twice", key.start_mark)
        return super().construct_mapping(node, deep)


def load_timeline(path: Path) -> Timeline:
    """Return the compiled versions of a policy file; a bare name such as `retail` finds a preset. Raises PolicyError.

    One file may hold several versions as YAML documents, separated by `---`, each with its `effective_from`.
    """
    mistakes = check_file(path)
    if mistakes:
        raise PolicyError(f"{path}: " + "; ".join(mistakes))
    return Timeline([compile_policy(PolicySpec.model_validate(document)) for document in _read(path)])


def check_file(path: Path) -> list[str]:
    """Return the mistakes in a policy file, one line each: the path of the key, what was found, what is allowed."""
    mistakes, specs = [], []
    try:
        documents = _read(path)
        for number, document in enumerate(documents, start=1):
            prefix = f"version {number} of {len(documents)}: " if len(documents) > 1 else ""
            try:
                specs.append(PolicySpec.model_validate(document))
            except ValidationError as error:
                mistakes += [f"{prefix}{line}" for details in error.errors() for line in _mistakes(details)]
        if not mistakes:
            Timeline([compile_policy(spec) for spec in specs])
    except PydanticSerializationError:
        return ["not a policy: it contains text that is not Unicode (half of a surrogate pair)"]
    except PolicyError as error:
        return [str(error)]
    return [line if len(line) <= _LINE else f"{line[:_LINE]} …" for line in mistakes]


def policy_text(path: Path) -> str:
    """Return the text of a policy file, or of the preset of that name. Raises PolicyError if it cannot be read."""
    preset = POLICIES / f"{path}.yaml"
    source = preset if not path.suffix and preset.is_file() else path
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise PolicyError(f"cannot be read: {reason}; presets are {', '.join(presets())}") from None


def _read(path: Path) -> list[Any]:
    text = policy_text(path)
    try:
        return list(yaml.load_all(text, Loader=_UniqueKeys)) or [None]  # a safe loader, see its base
    except (ValueError, RecursionError) as error:  # an impossible date, a file that contains itself
        raise PolicyError(f"not a policy: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())  # some messages have two lines
        raise PolicyError(f"{where}not YAML: {problem}") from None


def presets() -> list[str]:
    """Return the names of the policies that tidemark ships."""
    return sorted(path.stem for path in POLICIES.glob("*.yaml"))


def _mistakes(details: Any) -> list[str]:
    path = _path(details["loc"])
    # A check of several keys names the keys itself, one line each.
    lines = [_join(path, line) for line in _told(details).split("\n")]
    return [line.removeprefix("(the whole file).") for line in lines]


def _join(path: str, told: str) -> str:
    return f"{path}.{told}" if re.match(r"[a-z_]+(\.\w+)*: ", told) else f"{path}: {told}"


def _path(loc: tuple[int | str, ...]) -> str:
    # After the name of a scheme or the number of a care rule, pydantic adds the kind, which is not in the file.
    written = (*loc[:2], *loc[3:]) if loc[:1] in (("schemes",), ("care",)) else loc
    return ".".join(str(part) for part in written if part != "[key]") or "(the whole file)"


def _told(details: Any) -> str:
    message = str(details["msg"]).removeprefix("Value error, ")
    found = details["input"]
    return message if message.startswith("found") or not isinstance(found, _SCALARS) else f"found {found!r}: {message}"
