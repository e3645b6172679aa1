"""Care uplift from files: reads care actions and what customers did afterwards.

The actions come from a replay, or from a dump of the `care-actions` topic. `models.care.uplift` does the calculation.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from models.care.outcomes import OUTCOMES
from models.care.uplift import Acted, Attribution, Conduct, Uplift, uplift
from models.customer.ledger import Ledger, Outcome
from models.errors import BadRecord, UnusableInput
from models.events import Interaction, Topic
from models.instants import parse_instant
from models.policy.timeline import Timeline
from models.wire import Wire
from streams.history.columns import Mapped
from streams.history.files import listed
from streams.history.formats import read_values


class UpliftError(UnusableInput):
    """The actions or the summary of a replay cannot be read. The message names the file and, if known, the line."""


class _Action(msgspec.Struct):
    action_id: str
    rule: str
    customer_id: str
    due_at: str
    holdout: bool
    tier: str | None = None


class _Answer(msgspec.Struct):
    interaction_id: str | int
    kind: str
    action_id: str | int | None = None


class _Summary(msgspec.Struct):
    until: str | None = None


def read_uplift(
    timeline: Timeline,
    actions: Path,
    inputs: Mapping[Topic, Path | Sequence[Path]],
    until: int | None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    columns: Mapping[str, Mapped] = MappingProxyType({}),
) -> list[Uplift]:
    """Return the uplift of each rule in the file `actions`, as of `until` (ms; None: the last event).

    `inputs` are the files of orders and interactions. `columns` maps the columns of CSV and Parquet files, by topic and
    field. `progress(done, total)` is called now and then, in bytes. Records that would be dead letters are skipped.
    Raises UpliftError if the actions cannot be read, FileError or ColumnsError if an input cannot.
    """
    wire = Wire(timeline.latest.money)
    acted = [_acted(actions, number, line) for number, line in _lines(actions)]
    answers: dict[str, set[str]] = defaultdict(set)
    ledgers: dict[str, Ledger] = defaultdict(Ledger)
    interactions: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    last = max((one.due_at for one in acted), default=0)
    files = [(topic, path) for topic, paths in inputs.items() for path in listed(paths)]
    done, total = 0, sum(path.stat().st_size for _, path in files)
    seen: set[tuple[str, int]] = set()
    for topic, path in files:
        for number, line in read_values(path, topic, columns.get(topic.label, {})):
            done += len(line) + 1
            if number % 10_000 == 0:
                progress(done, max(done, total))  # a compressed file yields more bytes than its size
            try:
                customer, event = wire.decode(topic, None, line)
            except BadRecord:
                continue
            if event.at is None or (until is not None and event.at > until):
                continue
            last = max(last, event.at)
            if isinstance(event, Interaction):
                if (customer, event.interaction) not in seen:
                    seen.add((customer, event.interaction))
                    interactions[customer][event.kind].append(event.at)
                    _note_answer(line, answers)
            elif topic is Topic.ORDERS and ledgers[customer].check(event) is Outcome.APPLIED:  # type: ignore[arg-type]
                ledgers[customer].apply(event)  # type: ignore[arg-type]  # the topic's events
    progress(done, done)
    conducts = {
        customer: Conduct(
            ledgers[customer].times, {kind: sorted(instants) for kind, instants in interactions[customer].items()}
        )
        for customer in {one.customer for one in acted}
    }
    outcomes = {action: frozenset(kinds) for action, kinds in answers.items()}
    return uplift(acted, outcomes, conducts, _measures(timeline), last if until is None else until)


def until_of(directory: Path) -> int | None:
    """Return the instant (ms) to which a replay's stream time advanced, None if its summary has none.

    Raises UpliftError if the directory has no readable summary.
    """
    path = directory / "summary.json"
    try:
        summary = msgspec.json.decode(path.read_bytes(), type=_Summary)
    except OSError as error:
        raise UpliftError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise UpliftError(f"{path}: {error}; allowed is the summary of a replay") from None
    return None if summary.until is None else parse_instant(summary.until)


def _measures(timeline: Timeline) -> dict[str, Attribution]:
    rules = (rule.action for policy in timeline.versions for rule in policy.care)
    return {action.rule: Attribution(action.attribution, action.converts) for action in rules if action.attribution}


def _acted(path: Path, number: int, line: bytes) -> Acted:
    try:
        action = msgspec.json.decode(line, type=_Action)
        due_at = parse_instant(action.due_at)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise UpliftError(f"{path}, line {number}: {error}; allowed is an event of care-actions") from None
    return Acted(action.action_id, action.rule, action.tier or "", action.customer_id, due_at, action.holdout)


def _note_answer(line: bytes, answers: dict[str, set[str]]) -> None:
    answer = msgspec.json.decode(line, type=_Answer)
    outcome = answer.kind.removeprefix("care.")
    if answer.action_id is not None and answer.kind != outcome and outcome in OUTCOMES:
        answers[str(answer.action_id)].add(outcome)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                value = line.strip()
                if value:
                    yield number, value
    except OSError as error:
        raise UpliftError(f"{path} cannot be read: {error.strerror}") from None
