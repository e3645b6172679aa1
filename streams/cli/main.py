"""The `tidemark` command: one line of help and one clear error for each thing a person may ask.

Exit codes: 0 done, 1 failed, 2 unusable arguments or input. Commands parse and print; the work is elsewhere, and
is imported only when asked for, so that `--help` answers at once.
"""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from models.errors import TidemarkError, UnusableInput
from streams.cli import history as cli_history
from streams.cli.history import FILE, Instant

EXIT_FAILED = 1
EXIT_UNUSABLE = 2

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="tidemark")
def cli() -> None:
    """tidemark: customer tiers from event streams, exact to the millisecond and explainable."""


@cli.command()
@click.option("--stay", is_flag=True, help="Keep serving after the summary, until Ctrl-C.")
@click.option("--households", type=click.IntRange(1), help="Only the first N households, for a quick look.")
def demo(stay: bool, households: int | None) -> None:
    """Run everything on one machine: broker, a real year of orders, worker, live tier changes, summary.

    \b
    tidemark demo
    tidemark demo --households 200
    tidemark demo --stay
    """  # noqa: D301  # click wants the character, not the two
    from streams.demo.run import run_demo

    sys.exit(run_demo(stay=stay, households=households))


@cli.command()
def worker() -> None:
    """Run the Faust worker until it is told to stop (SIGTERM, Ctrl-C).

    Its settings come from TIDEMARK_… variables and .env; `tidemark settings` shows them.
    """
    from config.settings import load_settings
    from streams.worker.main import run_worker

    run_worker(load_settings())


@cli.group()
def topics() -> None:
    """Create the topics on a broker, or check that they agree."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing; what exists stays as it is."""
    from config.settings import load_settings
    from streams.kafka.topics import create_topics

    created = asyncio.run(create_topics(load_settings()))
    click.echo(f"created {', '.join(created)}" if created else "all topics exist")


@topics.command("check")
def topics_check() -> None:
    """Check partitions, co-partitioning and compaction; exit 1 where something is wrong."""
    from config.settings import load_settings
    from streams.kafka.topics import check_topics

    mistakes = asyncio.run(check_topics(load_settings()))
    for mistake in mistakes:
        click.echo(mistake, err=True)
    if mistakes:
        sys.exit(EXIT_FAILED)
    click.echo("all topics are as they should be")


cli.add_command(cli_history.load)
cli.add_command(cli_history.diff)
cli.add_command(cli_history.uplift)
cli.add_command(cli_history.simulate)
cli.add_command(cli_history.replay)


@cli.command()
@click.argument("customer")
@click.option("--lang", help="Language of the sentences: en or zh (default: zh where LANG says so, else en).")
@click.option("--at", type=Instant(), help="Explain as of this instant (default: now; with files, --until).")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON instead of sentences.")
@click.option("--orders", type=FILE, help="JSON lines of order events, instead of a running deployment.")
@click.option("--interactions", type=FILE, help="JSON lines of interactions, likewise.")
@click.option("--customers", type=FILE, help="JSON lines of customer profiles, likewise.")
@click.option("--campaigns", type=FILE, help="JSON lines of campaigns, likewise.")
@click.option("--policy", type=click.Path(path_type=Path), help="A policy file or preset (default: TIDEMARK_POLICY).")
@click.option("--until", type=Instant(), help="With files: the last instant to read (default: the last event).")
def explain(
    customer: str, lang: str | None, at: int | None, as_json: bool, policy: Path | None, until: int | None, **files: Any
) -> None:
    """Say why CUSTOMER is in a tier, what is needed for the next, and what time alone will change.

    Without files, the state of the running deployment is read (its changelog; nothing is written), and time is let
    pass to now. With files, their events are replayed first, as `tidemark replay` does.

    \b
    tidemark explain c1
    tidemark explain c1 --lang zh --at 2026-12-31T00:00:00+08:00
    tidemark explain c1 --orders orders.jsonl --customers customers.jsonl --policy retail
    tidemark explain c1 --json
    """  # noqa: D301  # click wants the character, not the two
    import msgspec

    from config.messages import catalogue, render
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from models.events import Topic
    from streams.tools import explain as explaining

    language = lang or cli_history.language_of_environment()
    catalogue(language)  # an unknown one is told before anything is read
    settings = load_settings() if policy is None else load_settings(policy=policy)
    inputs = {topic: files[topic.label] for topic in Topic if files[topic.label] is not None}
    if until is not None and not inputs:
        raise click.UsageError("--until goes with files: give --orders, --interactions or --customers, or --at instead")
    timeline = load_timeline(settings.policy)
    if inputs:
        account = explaining.explain_files(settings.policy, inputs, customer, until, at, partitions=settings.partitions)
    else:
        account = asyncio.run(explaining.explain_live(settings, timeline, customer, at))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(account)))
    else:
        for sentence in render(account, language):
            click.echo(sentence)


@cli.command()
@click.option("--scheme", help="Only the cut-offs of this scheme.")
@click.option("--last", type=click.IntRange(1), default=30, show_default=True, help="So many of each scheme.")
@click.option("--file", type=FILE, help="The tier-cutoffs.jsonl of a replay, instead of a running deployment.")
@click.option("--json", "as_json", is_flag=True, help="Print the events, one a line, instead of tables.")
@click.option("--compute", is_flag=True, help="Ask the deployment for cut-offs from --at on; shows nothing.")
@click.option("--at", type=Instant(), help="With --compute: an instant to come (default: in a minute).")
def cutoffs(scheme: str | None, last: int, file: Path | None, as_json: bool, compute: bool, at: int | None) -> None:
    """Show the cut-offs of percentile schemes over time, or ask for new ones between two days' ends.

    \b
    tidemark cutoffs
    tidemark cutoffs --scheme abc --last 7
    tidemark cutoffs --file result/tier-cutoffs.jsonl
    tidemark cutoffs --compute
    """  # noqa: D301  # click wants the character, not the two
    import msgspec

    from config.settings import load_settings
    from models.instants import format_instant
    from streams.report.console import cutoff_tables
    from streams.tools import cutoffs as cutting

    if (file is not None and compute) or (at is not None and not compute):
        raise click.UsageError("--at goes with --compute, and --compute with a running deployment, not with --file")
    if compute:
        asked = asyncio.run(cutting.request_cutoffs(load_settings(), at))
        click.echo(f"asked for cut-offs that hold from {format_instant(asked)} on")
        return
    found = cutting.cutoffs_of_file(file) if file else asyncio.run(cutting.read_cutoffs(load_settings()))
    told = cutting.latest(found, scheme, last)
    if as_json:
        for each in told:
            click.echo(msgspec.json.encode(each))
    elif told:
        cutoff_tables(told)
    else:
        click.echo("there are no cut-offs yet")


@cli.group()
def policy() -> None:
    """Check a policy file, or print the JSON Schema that editors use."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def policy_check(file: Path) -> None:
    """Check a policy file; every mistake is a line, exit 2 where there is one."""
    from config.policy_files import check_file

    mistakes = check_file(file)
    for mistake in mistakes:
        click.echo(f"{file}: {mistake}", err=True)
    if mistakes:
        sys.exit(EXIT_UNUSABLE)
    click.echo(f"{file}: a policy that can be used")


@policy.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of policy files."""
    from models.policy.spec import PolicySpec

    click.echo(orjson.dumps(PolicySpec.model_json_schema(), option=orjson.OPT_INDENT_2).decode())


@cli.command()
def settings() -> None:
    """Print the settings in force, one a line, as they would stand in .env."""
    from config.settings import load_settings, show_settings

    for name, value in show_settings(load_settings()).items():
        click.echo(f"{name}={value}")


def main() -> None:
    """Run the command. What goes wrong is one line on stderr, never a traceback; exit codes as told above."""
    # What goes wrong is told in one line; a worker sets up its own logging.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        status = cli.main(prog_name="tidemark", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(EXIT_UNUSABLE)
    except (click.UsageError, UnusableInput) as error:
        told = error.format_message() if isinstance(error, click.UsageError) else error
        click.echo(f"tidemark: {told}", err=True)
        sys.exit(EXIT_UNUSABLE)
    except TidemarkError as error:
        click.echo(f"tidemark: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except click.Abort:
        sys.exit(EXIT_FAILED)
    sys.exit(status if isinstance(status, int) else 0)
