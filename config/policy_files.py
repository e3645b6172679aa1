"""Policy files: reads, checks and compiles YAML. Every mistake has the path of its key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from config.policy_mistakes import line_of, mistakes_of, remarks_of
from models.errors import PolicyError
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline

#: The parts that a file may have, counted each time that an alias repeats them, and the longest number.
_MOST_PARTS, _MOST_DIGITS = 10_000, 40
_MOST_CHARACTERS = 250_000
#: The longest message (characters) about a mistake.
_LINE = 500
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
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

    def get_node(self) -> yaml.Node | None:
        """Return the next document. Raises YAMLError if it is larger than any policy, or has such a number."""
        node = super().get_node()
        if node is not None:
            _size(node, {})
        return node


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many parts a node has with all its aliases. Raises YAMLError for too many, and for a long number."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST_PARTS + 1  # a node within itself
    if isinstance(node, yaml.ScalarNode):
        size = 1
        if node.tag in _NUMBERS and len(node.value) > _MOST_DIGITS:
            problem = f"a number of {len(node.value):,} characters, allowed are {_MOST_DIGITS}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    else:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
        size = 1 + sum(_size(part, known) for part in parts)
    if size > _MOST_PARTS:
        problem = f"more than {_MOST_PARTS:,} keys and values, counted with every alias"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    known[id(node)] = size
    return size


def load_timeline(path: Path) -> Timeline:
    """Return the compiled versions of a policy file; a bare name such as `retail` finds a preset. Raises PolicyError.

    One file may hold several versions as YAML documents, separated by `---`, each with its `effective_from`.
    """
    mistakes = check_file(path)
    if mistakes:
        raise PolicyError(f"{path}: " + "; ".join(mistakes))
    return Timeline([compile_policy(PolicySpec.model_validate(document)) for document in _read(path)])


def check_file(path: Path) -> list[str]:
    """Return the mistakes in a policy file, one line each: where, what was found, what is allowed."""
    mistakes, specs, nodes = list[str](), list[PolicySpec](), list[yaml.Node | None]()
    try:
        documents = _read(path)
        for number, document in enumerate(documents, start=1):
            prefix = f"version {number} of {len(documents)}: " if len(documents) > 1 else ""
            try:
                specs.append(PolicySpec.model_validate(document))
            except ValidationError as error:
                if not nodes:
                    nodes = list(yaml.compose_all(policy_text(path), Loader=_UniqueKeys)) or [None]
                node = nodes[number - 1] if number <= len(nodes) else None
                mistakes += [f"{prefix}{line}" for line in _lines(error, document, node)]
        if not mistakes:
            Timeline([compile_policy(spec) for spec in specs])
    except PydanticSerializationError:
        return ["not a policy: it contains text that is not Unicode (half of a surrogate pair)"]
    except PolicyError as error:
        return [str(error)]
    return [line if len(line) <= _LINE else f"{line[:_LINE]} …" for line in mistakes]


def remarks(path: Path) -> list[str]:
    """Return what is odd in a valid policy file, one line each. Raises PolicyError if the file cannot be read."""
    nodes = list(yaml.compose_all(policy_text(path), Loader=_UniqueKeys))
    return [
        f"line {line_of(node, where)}, {where}: {remark}"
        for document, node in zip(_read(path), nodes, strict=True)
        for where, remark in remarks_of(PolicySpec.model_validate(document))
    ]


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
    if len(text) > _MOST_CHARACTERS:
        raise PolicyError(f"not a policy: found {len(text):,} characters, allowed are {_MOST_CHARACTERS:,}")
    try:
        return list(yaml.load_all(text, Loader=_UniqueKeys)) or [None]  # a safe loader, see its base
    except RecursionError:
        raise PolicyError("not a policy: it is nested too deeply") from None
    except ValueError as error:  # an impossible date
        raise PolicyError(f"not a policy: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())  # some messages have two lines
        refused = isinstance(error, yaml.constructor.ConstructorError)  # it is YAML, but no policy
        raise PolicyError(f"{where}{problem}" if refused else f"{where}not YAML: {problem}") from None


def presets() -> list[str]:
    """Return the names of the policies that tidemark ships."""
    return sorted(path.stem for path in POLICIES.glob("*.yaml"))


def _lines(error: ValidationError, document: Any, node: yaml.Node | None) -> Iterator[str]:
    for details in error.errors():
        for path, message in mistakes_of(details, document):
            line = line_of(node, path)
            where = path or "(the whole file)"
            yield f"{where}: {message}" if line is None else f"line {line}, {where}: {message}"
