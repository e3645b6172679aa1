"""The commands that work on history: replay, load, diff, simulate and effects. They parse arguments and print."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import click

from streams.cli.options import (
    COLUMNS,
    FILE,
    INTERACTIONS,
    MAX_BAD,
    NULL,
    ORDERS,
    POLICY,
    Instant,
    cores,
    default_language,
    history_options,
)


@click.command()
@history_options
@click.option("--policy", required=True, type=POLICY, help="A policy file, or the name of a preset.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The output directory.")
@click.option("--resume", is_flag=True, help="Continue the interrupted run in --out, if there is one.")
@click.option("--publish", metavar="SUFFIX", help="Also produce the outputs to shadow topics, as tier-changes-SUFFIX.")
@click.option("--publish-live", is_flag=True, help="Also produce tier changes and customer tiers to the LIVE topics.")
@click.option("--bootstrap", is_flag=True, help="Also write the state as the changelog of a new worker group.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    help="Number of partitions that share the care budgets (default: TIDEMARK_PARTITIONS).",
)
@click.option("--cutoffs-at", type=Instant(), multiple=True, help="Also compute cut-offs then. May be repeated.")
@MAX_BAD
def replay(
    policy: Path,
    out: Path,
    resume: bool,
    max_bad: float,
    **options: Any,
) -> None:
    """Decide over history, from files or topics, with the same code as the live worker.

    Nothing is produced to Kafka without --publish, --publish-live or --bootstrap. To read topics, give --from, --to or
    --offsets and no files. Reading them does not affect the worker group. Exit code 1 if more records than --max-bad
    allows cannot be read, 2 if none can.

    \b
    Examples:
      tidemark replay --orders orders.jsonl --customers customers.jsonl --policy retail --out result
      tidemark replay --from 2026-01-01T00:00:00Z --to 2026-06-30T00:00:00Z --policy retail --out result
    """
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from streams.replay import publish as publishing
    from streams.replay.bootstrap import check_empty
    from streams.replay.command import bad_and_good, check_bad, plan_of, replay_history
    from streams.report.console import stage_bars, summary_tables

    suffix, live = options["publish"], options["publish_live"]
    if live and suffix is not None:
        raise click.UsageError("--publish-live and --publish cannot be combined")
    asked, timeline = _requested(options), load_timeline(policy)
    settings = load_settings() if asked.topics or asked.bootstrap or live or suffix is not None else None
    chosen = publishing.targets(load_settings(), suffix) if live or suffix is not None else []
    plan = plan_of(asked, [timeline], settings)
    if settings is not None and asked.bootstrap:
        asyncio.run(check_empty(settings))
    processes = options["processes"] or cores()
    with stage_bars() as progress:
        summary = replay_history(
            plan,
            policy,
            out,
            progress,
            processes=processes,
            resume=resume,
            settings=settings,
            max_bad=max_bad / 100,
        )
    summary_tables(summary)
    check_bad(*bad_and_good(summary), max_bad / 100)
    if settings is not None and chosen:
        for line in publishing.announce(settings, chosen, summary):
            click.echo(f"publishing {line}", err=True)
        click.echo(f"published {asyncio.run(publishing.publish(settings, chosen, out)):,} records")
    if "bootstrapped" in summary:
        click.echo(f"wrote the state of {summary['bootstrapped']:,} customers to the changelog of a new worker group")


def _requested(options: dict[str, Any]) -> Any:
    """Return the `Asked` (in streams.replay.command) that the options of `history_options` describe."""
    from config.settings import load_settings
    from models.events import Topic
    from streams.history.columns import empty_cells
    from streams.replay.command import Asked

    bootstrap = options.get("bootstrap", False)
    partitions = None if bootstrap else options.get("partitions")
    return Asked(
        files={topic: options.get(topic.label, ()) for topic in Topic},
        columns=(*options["columns"], *empty_cells(options["nulls"])),
        since=options["since"],
        to=options["to"],
        until=options["until"],
        offsets=options["offsets"],
        bootstrap=bootstrap,
        cutoffs_at=options.get("cutoffs_at", ()),
        partitions=partitions or load_settings().partitions,
        now=time.time_ns() // 1_000_000,
    )


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--topic", required=True, help="orders, interactions, customers or campaigns (without the prefix).")
@click.option("--columns", multiple=True, help="For CSV and Parquet: field=column,field='constant',…")
@click.option(
    "--skip-invalid",
    is_flag=True,
    help="Leave out lines without a customer_id and rows that are no event, and count them.",
)
@NULL
@MAX_BAD
def load(
    files: tuple[Path, ...],
    topic: str,
    columns: tuple[str, ...],
    nulls: tuple[str, ...],
    skip_invalid: bool,
    max_bad: float,
) -> None:
    """Produce the events in files to an input topic.

    Records are keyed by customer and have the timestamps of their events. Files are JSON lines, CSV or Parquet, plain
    or compressed (.gz, .zst); the suffix decides. Loading a file twice changes nothing: the worker recognises ids that
    it has already counted.

    \b
    Examples:
      tidemark load orders-2025.jsonl orders-2026.jsonl.gz --topic orders
      tidemark load baskets.csv --topic orders --columns order_id=basket,amount=total
    """
    from config.settings import load_settings
    from streams.history.columns import empty_cells, parse_columns
    from streams.replay.command import check_bad
    from streams.report.console import literal
    from streams.tools.load import Skipped, load_files

    mapped = {known.label: fields for known, fields in parse_columns((*columns, *empty_cells(nulls))).items()}
    skipped = Skipped() if skip_invalid else None
    count = asyncio.run(load_files(load_settings(), list(files), topic, mapped, skipped))
    if skipped is not None and skipped.count:
        click.echo(f"{skipped.count:,} lines skipped, the first one: {literal(skipped.first)}", err=True)
    click.echo(f"{count} records produced to {topic}")
    if skipped is not None:
        check_bad(skipped.count, count, max_bad / 100)


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, help="Records to show per difference.")
def diff(first: str, second: str, limit: int) -> None:
    """Compare two replays, or a replay and a live deployment.

    It shows which records B lacks, which it adds, and which differ. Exit code 1 if there are any.

    A and B are directories that `tidemark replay` wrote. One of them may be `live`, the tier-changes topic of the
    running deployment, or `topic:NAME`. A topic is compared up to the end of the replay; `decided_at` is ignored.

    \b
    Examples:
      tidemark diff result-before result-after
      tidemark diff result live
    """
    from config.settings import load_settings
    from streams.tools.diff import compare
    from streams.tools.diff_tables import comparison_tables

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
    type=POLICY,
    help="Give it twice: A, the current policy, then B, the candidate.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a report with charts to this file."
)
@click.option("--customer", "names", multiple=True, help="Show the tier changes of this customer. May be repeated.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    help="Compare groups by this profile attribute (default: region, gender, age). May be repeated.",
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="TIER=PERCENT",
    help="Find the threshold that gives a tier this share of customers (default: its share under A).",
)
@MAX_BAD
def simulate(
    policies: tuple[Path, ...],
    html: Path | None,
    names: tuple[str, ...],
    attributes: tuple[str, ...],
    shares: tuple[str, ...],
    max_bad: float,
    **options: Any,
) -> None:
    """Decide over one history under two policies, and compare.

    It shows who would move, how many, and which groups gain or lose. Exit code 1 if more records than --max-bad allows
    cannot be read, 2 if none can.

    \b
    Examples:
      tidemark simulate --policy retail --policy next.yaml --orders orders.jsonl --customers customers.jsonl
      tidemark simulate --policy retail --policy next.yaml --orders orders.jsonl --html what-if.html --share gold=5
    """
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from streams.replay.command import bad_and_good, check_bad
    from streams.report.console import stage_bars, trouble_tables
    from streams.simulate import facts, tables
    from streams.simulate.page import write_page
    from streams.simulate.population import Kept
    from streams.simulate.run import simulate as run_simulation

    if len(policies) != 2:
        raise click.UsageError(f"--policy: found {len(policies)}, allowed are two: A and B")
    targets = facts.parse_shares(shares)
    asked, timelines = _requested(options), [load_timeline(policy) for policy in policies]
    settings = load_settings() if asked.topics else None
    with stage_bars() as progress:
        population, until = run_simulation(
            asked,
            policies,
            timelines,
            progress,
            kept=Kept(attributes or Kept().attributes, frozenset(names)),
            processes=options["processes"] or cores(),
            settings=settings,
        )
    tables.print_tables(population, timelines, targets)
    trouble_tables(population.read)
    check_bad(*bad_and_good(population.read), max_bad / 100)
    if html is not None:
        write_page(html, population, timelines, targets, until)
        click.echo(f"wrote the report to {html}")


@click.command("effects")
@click.option("--result", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A replay's directory.")
@click.option("--actions", type=FILE, help="JSON lines of care-actions, instead of a replay's directory.")
@ORDERS
@INTERACTIONS
@COLUMNS
@NULL
@click.option("--policy", required=True, type=POLICY, help="A policy file, or the name of a preset.")
@click.option("--until", type=Instant(), help="As of this instant (default: the replay's end, else the last event).")
@click.option("--lang", help="Language of the tables: en or zh (default: zh if LANG starts with zh, else en).")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON instead of tables.")
def uplift(
    result: Path | None,
    actions: Path | None,
    policy: Path,
    until: int | None,
    lang: str | None,
    as_json: bool,
    columns: tuple[str, ...],
    **files: Any,
) -> None:
    """Compare customers who got care actions with those held out.

    It shows the outcomes of the actions, and whether those customers bought more.

    \b
    Examples:
      tidemark effects --result result --orders orders.jsonl --interactions interactions.jsonl --policy care
      tidemark effects --actions care-actions.jsonl --orders orders.jsonl --policy care --lang zh
    """
    import msgspec

    from config.messages import catalogue
    from config.policy_files import load_timeline
    from models.events import Topic
    from streams.history.columns import empty_cells, parse_columns
    from streams.report.console import progress_bar
    from streams.tools.care_uplift import read_uplift, until_of
    from streams.tools.care_uplift_tables import print_uplift

    words = catalogue(lang or default_language())
    if (result is None) is (actions is None):
        raise click.UsageError("give either --result or --actions")
    inputs = {topic: paths for topic in Topic if (paths := files.get(topic.label))}
    if not inputs:
        raise click.UsageError("no history given: add --orders or --interactions")
    if result is not None:
        actions, until = result / "care-actions.jsonl", until_of(result) if until is None else until
    timeline = load_timeline(policy)
    with progress_bar("reading (bytes)") as progress:
        mapped = {
            topic.label: fields for topic, fields in parse_columns((*columns, *empty_cells(files["nulls"]))).items()
        }
        found = read_uplift(timeline, actions, inputs, until, progress, mapped)  # type: ignore[arg-type]  # one is given
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_uplift(found, words)
