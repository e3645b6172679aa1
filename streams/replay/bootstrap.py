"""The state of a backfill as the changelog of a worker group that has none yet, so that it starts from there.

Rows are those that a worker would have written. From topics, the state also says up to which offsets it includes them,
and the group reads on from there. From files it includes none of the topics: the group reads them from their beginning,
and what was in the files too is recognised by its ids.
"""

import msgspec

from config.settings import Settings
from models.errors import UnusableInput
from streams.kafka.bulk_producer import bulk_producer
from streams.kafka.partitioner import partitioner
from streams.kafka.range_reader import ends_of
from streams.kafka.topics import changelog_name, create_topics
from streams.partition.state import PROGRESS_KEY, Progress
from streams.replay.collect import report_of, rows_of
from streams.replay.histories import campaigns_of, take_in
from streams.replay.segments import SegmentFile
from streams.replay.shuffle import PartReport
from streams.replay.workspace import Work


class BootstrapError(UnusableInput):
    """A worker group cannot start from this state. The message says why; nothing was written to the changelog."""


async def check_empty(settings: Settings) -> None:
    """Create the group's topics where they are missing, and raise BootstrapError where its changelog is in use."""
    await create_topics(settings)
    name = changelog_name(settings)
    ends = await ends_of(settings, name)
    if len(ends) != settings.partitions:
        raise BootstrapError(f"{name}: found {len(ends)} partitions, TIDEMARK_PARTITIONS says {settings.partitions}")
    if any(ends.values()):
        raise BootstrapError(f"{name} holds a state already; a new group wants another TIDEMARK_APP_ID")


async def write_state(work: Work, settings: Settings, until: int | None) -> int:
    """Write the rows of a finished run, and how far they go, to the changelog; return how many customers.

    Raises BootstrapError, BrokerError.
    """
    plan = work.plan
    progress = _progress(work, settings.partitions, until)
    if plan.stops and plan.partitions != settings.partitions:
        raise BootstrapError(
            f"the topics have {plan.partitions} partitions, TIDEMARK_PARTITIONS says {settings.partitions}"
        )
    for label, stops in plan.stops.items():
        for number, stop in stops.items():
            progress[number].applied[label] = stop
    _note_latest(work, progress)
    await check_empty(settings)
    name, partition_for = changelog_name(settings), partitioner(settings.partitions)
    async with bulk_producer(settings) as bulk:
        for number, customer_id, row in rows_of(work):
            key = customer_id.encode()
            await bulk.add(name, number if plan.stops else partition_for(key), key, row)
        customers = bulk.count
        for number, how_far in progress.items():
            await bulk.add(name, number, PROGRESS_KEY + str(number).encode(), msgspec.msgpack.encode(how_far))
        await bulk.flush()
    return customers


def _progress(work: Work, partitions: int, until: int | None) -> dict[int, Progress]:
    """Return how far each partition is: cut-offs, budgets and campaigns as the run left them, and its stream time."""
    progress = {number: Progress() for number in range(partitions)}
    for number, row in report_of(work, 0).progress.items():
        progress[number] = msgspec.msgpack.decode(row, type=Progress)
    heard = campaigns_of(work)
    for number, how_far in progress.items():
        how_far.applied, how_far.latest, how_far.stream_time = {}, {}, until
        campaigns = heard.get(number, heard.get(None))
        if campaigns:
            how_far.campaigns = take_in(campaigns).known
    return progress


def _note_latest(work: Work, progress: dict[int, Progress]) -> None:
    """Note the latest event time of each topic; refuse where events were read past that nobody would read again."""
    after = 0
    for part in work.plan.parts:
        with SegmentFile(work.part(part.number), PartReport) as done:
            report = done.report
        if part.partition is None:
            continue
        after += report.after
        if report.last is not None:
            latest, label = progress[part.partition].latest, part.topic.label
            latest[label] = max(report.last, latest.get(label, report.last))
    if after:
        raise BootstrapError(
            f"{after} events lie after --to or --until, or after now, and the group would not read them; bootstrap "
            "without these options, or with an --until after them"
        )
