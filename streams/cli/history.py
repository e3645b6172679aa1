"""The commands over history: replay, diff, simulate, effects, load. As in `streams.cli.main`, they parse and print."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


class Instant(click.ParamType):
    """An instant as RFC 3339 with an offset, taken as ms."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the instant."""
        from models.instants import parse_instant

        try:
            return value if isinstance(value, int) else parse_instant(value)
        except ValueError:
            self.fail(f"{value!r} is not RFC 3339 with an offset, as in 2026-12-31T00:00:00Z", param, ctx)


def language_of_environment() -> str:
    """Return the language that LANG asks for, where there is one of ours; else English."""
    return "zh" if os.environ.get("LANG", "").startswith("zh") else "en"


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which history is read, and how."""
    for option in reversed(_HISTORY):
        command = option(command)
    return command


_HISTORY = (
    click.option("--orders", type=FILE, multiple=True, help="A file of order events; may be given several times."),
    click.option("--interactions", type=FILE, multiple=True, help="A file of interactions, likewise."),
    click.option("--customers", type=FILE, multiple=True, help="A file of customer profiles, likewise."),
    click.option("--campaigns", type=FILE, multiple=True, help="A file of campaigns, likewise."),
    click.option("--columns", multiple=True, help="CSV, Parquet: [TOPIC:]field=column,field='constant'…"),
    click.option("--offsets", multiple=True, help="Topics: TOPIC[:PARTITION]=START..STOP; may be given several times."),
    click.option("--from", "since", type=Instant(), help="Only events at or after this instant."),
    click.option("--to", type=Instant(), help="Only events up to and including this instant."),
    click.option("--until", type=Instant(), help="The same, and time is advanced to it (default: the last event)."),
    click.option("--processes", type=click.IntRange(1), help="How many (default: the number of cores)."),
)


@click.command()
@history_options
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="A policy file, or a preset's name.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run that --out holds, if there is one.")
@click.option("--publish", metavar="SUFFIX", help="Produce the outputs to shadow topics too: tier-changes-SUFFIX, ….")
@click.option("--publish-live", is_flag=True, help="Produce tier changes and customers' tiers to the LIVE topics.")
@click.option("--bootstrap", is_flag=True, help="Write the state as the changelog of a new worker group.")
@click.option(
    "--partitions", type=click.IntRange(1, 1024), help="So many share the budgets (default: TIDEMARK_PARTITIONS)."
)
@click.option("--cutoffs-at", type=Instant(), multiple=True, help="Compute cut-offs then too, as if asked for.")
def replay(  # an option each
    policy: Path,
    out: Path,
    resume: bool,
    **options: Any,
) -> None:
    """Decide over history, from files or from topics, through the same code as live.

    Nothing is sent anywhere unless --publish, --publish-live or --bootstrap say so. Topics are read beside the worker
    group, where --from, --to or --offsets are given and no files.

    \b
    tidemark replay --orders orders.jsonl --customers customers.jsonl --policy retail --out result
    tidemark replay --orders 2025.csv.gz --columns order_id=basket,amount=total --policy retail --out result
    tidemark replay --orders orders.jsonl --policy retail --out result --resume
    tidemark replay --from 2026-01-01T00:00:00Z --to 2026-06-30T00:00:00Z --policy retail --out result
    tidemark replay --offsets orders=0..5000 --offsets customers=.. --policy retail --out result
    tidemark replay --orders orders.jsonl --policy retail --out result --publish shadow
    """  # noqa: D301  # click wants the character, not the two
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from streams.replay import publish as publishing
    from streams.replay.bootstrap import check_empty
    from streams.replay.command import plan_of, replay_history
    from streams.report.console import stage_bars, summary_tables

    suffix, live = options["publish"], options["publish_live"]
    if live and suffix is not None:
        raise click.UsageError("--publish-live and --publish exclude each other")
    asked, timeline = asked_for(options), load_timeline(policy)
    settings = load_settings() if asked.topics or asked.bootstrap or live or suffix is not None else None
    chosen = publishing.targets(load_settings(), suffix) if live or suffix is not None else []
    quiet_client()
    plan = plan_of(asked, [timeline], settings)
    if settings is not None and asked.bootstrap:
        asyncio.run(check_empty(settings))
    processes = options["processes"] or cores()
    with stage_bars() as progress:
        summary = replay_history(plan, policy, out, progress, processes=processes, resume=resume, settings=settings)
    summary_tables(summary)
    if settings is not None and chosen:
        for line in publishing.announce(settings, chosen, summary):
            click.echo(f"publishing {line}", err=True)
        click.echo(f"{asyncio.run(publishing.publish(settings, chosen, out)):,} records published")
    if "bootstrapped" in summary:
        click.echo(f"the state of {summary['bootstrapped']:,} customers is in the changelog of a new worker group")


def quiet_client() -> None:
    """Keep the Kafka client from logging: what goes wrong is told in one line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def asked_for(options: dict[str, Any]) -> Any:
    """Return what the options of a history ask for, as `streams.replay.command.Asked`."""
    from config.settings import load_settings
    from models.events import Topic
    from streams.replay.command import Asked

    bootstrap = options.get("bootstrap", False)
    partitions = None if bootstrap else options.get("partitions")
    return Asked(
        files={topic: options.get(topic.label, ()) for topic in Topic},
        columns=options["columns"],
        since=options["since"],
        to=options["to"],
        until=options["until"],
        offsets=options["offsets"],
        bootstrap=bootstrap,
        cutoffs_at=options.get("cutoffs_at", ()),
        partitions=partitions or load_settings().partitions,
    )


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--topic", required=True, help="orders, interactions, customers or campaigns (without the prefix).")
@click.option("--columns", multiple=True, help="CSV, Parquet: field=column,field='constant'…")
def load(files: tuple[Path, ...], topic: str, columns: tuple[str, ...]) -> None:
    """Produce the events of files to an input topic, keyed by customer, with the events' own timestamps.

    JSON lines, CSV and Parquet, plain, gz or zst: the suffix says which. Loading a file again changes nothing, as the
    ledger knows each id.

    \b
    tidemark load orders-2025.jsonl orders-2026.jsonl.gz --topic orders
    tidemark load baskets.csv --topic orders --columns order_id=basket,amount=total
    """  # noqa: D301  # click wants the character, not the two
    from config.settings import load_settings
    from streams.history.columns import parse_columns
    from streams.tools.load import load_files

    quiet_client()
    mapped = {known.label: fields for known, fields in parse_columns(columns).items()}
    count = asyncio.run(load_files(load_settings(), list(files), topic, mapped))
    click.echo(f"{count} records produced to {topic}")


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, help="Show so many of each difference.")
def diff(first: str, second: str, limit: int) -> None:
    """Compare two outputs: what B lacks of A, has besides A, or has otherwise. Exit 1 where something differs.

    A and B are directories that `tidemark replay` wrote. One of them may be `live`, the tier-changes topic of the
    running deployment, or `topic:NAME`; of a topic, the changes up to the replay's end are compared, without
    `decided_at`.

    \b
    tidemark diff result-before result-after
    tidemark diff result live
    """  # noqa: D301  # click wants the character, not the two
    from config.settings import load_settings
    from streams.tools.diff import compare
    from streams.tools.diff_tables import comparison_tables

    quiet_client()
    comparisons = compare(first, second, load_settings)
    comparison_tables(comparisons, limit)
    if not all(comparison.is_clean for comparison in comparisons):
        sys.exit(1)


@click.command()
@history_options
@click.option(
    "--policy",
    "policies",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Twice: A, the policy as it is, then B, as it might be.",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a report with charts, one file.")
@click.option("--customer", "names", multiple=True, help="Tell the moves of this customer; may be given several times.")
@click.option(
    "--attribute", "attributes", multiple=True, help="Fairness by this attribute (default: region, gender, age)."
)
@click.option(
    "--share", "shares", multiple=True, help="TIER=PERCENT: where would the threshold lie? (default: as under A)"
)
def simulate(
    policies: tuple[Path, ...],
    html: Path | None,
    names: tuple[str, ...],
    attributes: tuple[str, ...],
    shares: tuple[str, ...],
    **options: Any,
) -> None:
    """Decide over one history under two policies: who moves, how many, who gets what, whom it treats differently.

    \b
    tidemark simulate --policy retail --policy next.yaml --orders orders.jsonl --customers customers.jsonl
    tidemark simulate --policy retail --policy next.yaml --orders orders.jsonl --html what-if.html --share gold=5
    tidemark simulate --policy retail --policy next.yaml --orders orders.jsonl --customer c1 --attribute region
    """  # noqa: D301  # click wants the character, not the two
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from streams.report.console import stage_bars
    from streams.simulate import facts, tables
    from streams.simulate.page import write_page
    from streams.simulate.population import Kept
    from streams.simulate.run import simulate as simulating

    if len(policies) != 2:
        raise click.UsageError(f"--policy: found {len(policies)}, allowed are two: A and B")
    wanted = facts.parse_shares(shares)
    asked, timelines = asked_for(options), [load_timeline(policy) for policy in policies]
    settings = load_settings() if asked.topics else None
    quiet_client()
    with stage_bars() as progress:
        population, until = simulating(
            asked,
            policies,
            timelines,
            progress,
            kept=Kept(attributes or Kept().attributes, frozenset(names)),
            processes=options["processes"] or cores(),
            settings=settings,
        )
    tables.print_tables(population, timelines, wanted)
    if html is not None:
        write_page(html, population, timelines, wanted, until)
        click.echo(f"the report is in {html}")


@click.command("effects")
@click.option("--result", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A replay's directory.")
@click.option("--actions", type=FILE, help="JSON lines of care-actions, instead of a replay's directory.")
@click.option("--orders", type=FILE, multiple=True, help="A file of order events; may be given several times.")
@click.option("--interactions", type=FILE, multiple=True, help="A file of interactions, likewise.")
@click.option("--columns", multiple=True, help="CSV, Parquet: [TOPIC:]field=column,field='constant'…")
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="A policy file, or a preset's name.")
@click.option("--until", type=Instant(), help="As of this instant (default: the replay's end, else the last event).")
@click.option("--lang", help="Language of the tables: en or zh (default: zh where LANG says so, else en).")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON instead of tables.")
def uplift(
    result: Path | None,
    actions: Path | None,
    policy: Path,
    until: int | None,
    lang: str | None,
    as_json: bool,
    columns: tuple[str, ...],
    **files: tuple[Path, ...],
) -> None:
    """Say what came of care actions: answers, conversions, and whether those written to bought more than the held-out.

    \b
    tidemark effects --result result --orders orders.jsonl --interactions interactions.jsonl --policy care
    tidemark effects --actions care-actions.jsonl --orders orders.jsonl --policy care --lang zh
    """  # noqa: D301  # click wants the character, not the two
    import msgspec

    from config.messages import catalogue
    from config.policy_files import load_timeline
    from models.events import Topic
    from streams.history.columns import parse_columns
    from streams.report.console import progress_bar
    from streams.tools.care_uplift import read_effects, until_of
    from streams.tools.care_uplift_tables import print_effects

    words = catalogue(lang or language_of_environment())
    if (result is None) is (actions is None):
        raise click.UsageError("give either --result or --actions")
    inputs = {topic: paths for topic in Topic if (paths := files.get(topic.label))}
    if not inputs:
        raise click.UsageError("nothing to reckon with: give --orders or --interactions")
    if result is not None:
        actions, until = result / "care-actions.jsonl", until_of(result) if until is None else until
    timeline = load_timeline(policy)
    with progress_bar("reading (bytes)") as progress:
        mapped = {topic.label: fields for topic, fields in parse_columns(columns).items()}
        found = read_effects(timeline, actions, inputs, until, progress, mapped)  # type: ignore[arg-type]  # one is given
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_effects(found, words)
