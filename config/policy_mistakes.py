"""Mistakes in policy files in words: where, what was found, what is allowed, and what was probably meant.

`config.policy_files` reads and checks the files. Pydantic finds most mistakes; its messages name types and patterns,
which authors of policies need not know.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from models.policy.scheme_specs import ThresholdsSpec
from models.policy.spec import PolicySpec
from models.policy.spec_types import Spec, allowed_words, did_you_mean, parse_comparison

_SCALARS = str | int | float | bool | None
_QUOTED = re.compile(r"'([^']*)'")
#: What the patterns of `models.policy` allow, in words.
_PATTERNS = (
    (
        r"^[a-z][a-z0-9_-]{0,62}$",
        "a name of small letters, digits, - and _, beginning with a letter, such as gold-plus",
    ),
    (r"^[A-Z]{3}$", "a currency of three capital letters (ISO 4217), such as USD"),
    (r"^([01]\d|2[0-3]):[0-5]\d$", "a time of day such as '09:00'"),
    (r"^[+-]?\d{1,12}(\.\d{1,9})?$", "a number such as 300 or 0.25"),
    (r"^\d{1,6}(\.\d{1,3})?$", "a number such as 2 or 0.5, with at most three decimals"),
    (r"^[1-9]\d?(-[1-9]\d?)?$", "a level or levels such as 4 or 4-5"),
    (r"^\d{1,2}(\.\d{1,4})?%$", "a share such as 5%"),
)
#: Metrics that grow with what a customer buys or does.
_MORE_IS_BETTER = frozenset(
    {"frequency", "monetary", "margin", "average_order_value", "engagement", "referrals", "repurchase_rate", "growth"}
)
#: Bounds by pydantic's kinds of mistakes: its name of the bound, and the words.
_BOUNDS = {
    "less_than_equal": ("le", "allowed are at most {}"),
    "less_than": ("lt", "allowed is less than {}"),
    "greater_than_equal": ("ge", "allowed are at least {}"),
    "greater_than": ("gt", "allowed is more than {}"),
    "too_long": ("max_length", "allowed are at most {} entries"),
    "too_short": ("min_length", "allowed are at least {} entries"),
    "string_too_long": ("max_length", "allowed are at most {} characters"),
    "string_too_short": ("min_length", "allowed are at least {} characters"),
}
_WORDS: Mapping[str, str] = {
    "missing": "it is missing, and required",
    "string_type": "allowed is a text; write it in quotes",
    "int_type": "allowed is a whole number",
    "int_parsing": "allowed is a whole number",
    "int_from_float": "allowed is a whole number",
    "float_type": "allowed is a number",
    "float_parsing": "allowed is a number",
    "bool_type": "allowed are true and false",
    "bool_parsing": "allowed are true and false",
    "list_type": "allowed is a list",
    "tuple_type": "allowed is a list",
    "dict_type": "allowed is a mapping: keys with values",
    "model_type": "allowed is a mapping: keys with values",
    "model_attributes_type": "allowed is a mapping: keys with values",
}


def mistakes_of(details: Any, document: Any) -> Iterator[tuple[str, str]]:
    """Yield (path of the key, message) of each mistake in pydantic's details about a document."""
    loc = _written(details["loc"])
    message = _message(details, loc, document)
    # A check of several keys names the keys itself, one line each.
    for line in message.split("\n"):
        match = re.match(r"([a-z_]+(?:\.\w+)*): (.*)", line, re.DOTALL)
        named = match is not None and str(details["msg"]).startswith("Value error")
        path = ".".join((*loc, match[1])) if named and match else ".".join(loc)
        yield path, match[2] if named and match else line


def line_of(node: yaml.Node | None, path: str) -> int | None:
    """Return the line (from 1) of a key in a composed document, or of the nearest part that is there."""
    line = None
    for part in path.split(".") if path else []:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def remarks_of(spec: PolicySpec) -> Iterator[tuple[str, str]]:
    """Yield (path, remark) of each rule that customers of a ladder can only meet by buying or doing less."""
    for name, scheme in spec.schemes.items():
        if isinstance(scheme, ThresholdsSpec):
            for index, tier in enumerate(scheme.tiers):
                for key in _met_by_less(tier.when or {}):
                    path = f"schemes.{name}.tiers.{index}.when.{key}"
                    yield (
                        path,
                        f"customers reach {tier.name!r} by buying or doing less: is it meant?",
                    )


def _met_by_less(rule: Mapping[str, Any]) -> list[str]:
    """Return the keys of the comparisons without which a rule cannot be met, and which more of a metric breaks."""
    found = []
    for key, part in rule.items():
        if key == "all":
            found += [f"all.{place}.{inner}" for place, nested in enumerate(part) for inner in _met_by_less(nested)]
        elif key == "any":
            ways = [[f"any.{place}.{inner}" for inner in _met_by_less(nested)] for place, nested in enumerate(part)]
            found += [inner for way in ways for inner in way] if all(ways) else []
        elif key in _MORE_IS_BETTER and parse_comparison(str(part))[0] in ("<", "<="):
            found.append(key)
    return found


def _written(loc: Sequence[int | str]) -> tuple[str, ...]:
    """Return a location as it is in the file: after a scheme's name or a care rule's number, pydantic adds the kind."""
    kept = (*loc[:2], *loc[3:]) if loc[:1] in (("schemes",), ("care",)) else loc
    return tuple(str(part) for part in kept if part != "[key]")


def _message(details: Any, loc: tuple[str, ...], document: Any) -> str:
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    text = str(details["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        allowed = _keys_beside(document, loc)
        return f"unknown key{allowed_words(loc[-1], allowed)}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _of_tag(kind, context, found)
    if kind == "literal_error":
        allowed = _QUOTED.findall(str(context["expected"]))
        return f"found {found!r}{allowed_words(found, allowed)}"
    if kind == "string_pattern_mismatch":
        words = next((words for pattern, words in _PATTERNS if pattern == context["pattern"]), "another spelling")
        return f"found {found!r}, allowed is {words}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        text = words.format(context[name])
    text = _WORDS.get(kind, text[:1].lower() + text[1:] if text.startswith(("Input", "String", "List")) else text)
    shown = isinstance(found, _SCALARS) and kind != "missing" and not text.startswith("found")
    return f"found {found!r}: {text}" if shown else text


def _of_tag(kind: str, context: Mapping[str, Any], found: Any) -> str:
    """Return what is wrong with the key that says which others may follow: a scheme's kind, a rule's trigger."""
    rules = "trigger" in str(context.get("discriminator"))
    name = "trigger" if rules else "kind"
    if kind == "union_tag_not_found":
        near = "" if not isinstance(found, dict) else next((key for key in found if did_you_mean(key, [name])), "")
        return f"{name} is missing, and required" + (f"; did you mean {name!r} by {near!r}?" if near else "")
    allowed = _QUOTED.findall(str(context["expected_tags"]))
    tag = context["tag"]
    return f"{name}: found {tag!r}{allowed_words(tag, allowed)}"


def _keys_beside(document: Any, loc: tuple[str, ...]) -> list[str]:
    """Return the keys that are allowed beside an unknown one: those of the part that knows most of its neighbours."""
    if len(loc) == 1:
        return list(PolicySpec.model_fields)
    part = document
    for name in loc[:-1]:
        pairs = enumerate(part) if isinstance(part, list) else part.items() if isinstance(part, dict) else ()
        part = next((value for key, value in pairs if str(key) == name), None)
    neighbours = set(part) if isinstance(part, dict) else set()

    specs = list(_with_subclasses(Spec))
    named = [spec.model_fields[loc[-2]].annotation for spec in specs if loc[-2] in spec.model_fields]

    def likeness(spec: type[Spec]) -> tuple[bool, int, int]:
        return spec in named, len(neighbours & spec.model_fields.keys()), -len(spec.model_fields)

    others = (spec for spec in specs if spec.model_fields and loc[-1] not in spec.model_fields)
    return list(max(others, key=likeness).model_fields)


def _with_subclasses(spec: type[Spec]) -> Iterator[type[Spec]]:
    yield spec
    for each in spec.__subclasses__():
        yield from _with_subclasses(each)
