"""The `tidemark` command: one line of help and one clear error for each thing a person may ask.

Exit codes: 0 done, 1 failed, 2 unusable arguments or input. Commands parse and print; the work is elsewhere, and
is imported only when asked for, so that `--help` answers at once.
"""

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from models.errors import TidemarkError, UnusableInput

EXIT_FAILED = 1
EXIT_UNUSABLE = 2

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


class _Instant(click.ParamType):
    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from models.instants import parse_instant

        try:
            return value if isinstance(value, int) else parse_instant(value)
        except ValueError:
            self.fail(f"{value!r} is not RFC 3339 with an offset, as in 2026-12-31T00:00:00Z", param, ctx)


def _language() -> str:
    return "zh" if os.environ.get("LANG", "").startswith("zh") else "en"


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
    from streams.demo import run_demo

    sys.exit(run_demo(stay=stay, households=households))


@cli.command()
def worker() -> None:
    """Run the Faust worker until it is told to stop (SIGTERM, Ctrl-C).

    Its settings come from TIDEMARK_… variables and .env; `tidemark settings` shows them.
    """
    from config.settings import load_settings
    from streams.run import run_worker

    run_worker(load_settings())


@cli.group()
def topics() -> None:
    """Create the topics on a broker, or check that they agree."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing; what exists stays as it is."""
    from config.settings import load_settings
    from streams.topics import create_topics

    created = asyncio.run(create_topics(load_settings()))
    click.echo(f"created {', '.join(created)}" if created else "all topics exist")


@topics.command("check")
def topics_check() -> None:
    """Check partitions, co-partitioning and compaction; exit 1 where something is wrong."""
    from config.settings import load_settings
    from streams.topics import check_topics

    mistakes = asyncio.run(check_topics(load_settings()))
    for mistake in mistakes:
        click.echo(mistake, err=True)
    if mistakes:
        sys.exit(EXIT_FAILED)
    click.echo("all topics are as they should be")


@cli.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--topic", required=True, help="orders, interactions, customers or campaigns (without the prefix).")
def load(files: tuple[Path, ...], topic: str) -> None:
    """Produce the events of JSON-lines files to an input topic, keyed by customer.

    \b
    tidemark load orders-2025.jsonl orders-2026.jsonl --topic orders
    """  # noqa: D301  # click wants the character, not the two
    from config.settings import load_settings
    from streams.load import load_files

    count = asyncio.run(load_files(load_settings(), list(files), topic))
    click.echo(f"{count} records produced to {topic}")


@cli.command()
@click.option("--orders", type=_FILE, help="JSON lines of order events.")
@click.option("--interactions", type=_FILE, help="JSON lines of interactions.")
@click.option("--customers", type=_FILE, help="JSON lines of customer profiles.")
@click.option("--campaigns", type=_FILE, help="JSON lines of campaigns.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 1024),
    help="Partitions among which budgets are shared (default: TIDEMARK_PARTITIONS).",
)
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="A policy file, or a preset's name.")
@click.option("--until", type=_Instant(), help="Advance time to this instant (default: the last event).")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
def replay(policy: Path, until: int | None, out: Path, partitions: int | None, **files: Path | None) -> None:
    """Decide over history from files, through the same code as live; nothing is sent anywhere.

    \b
    tidemark replay --orders orders.jsonl --customers customers.jsonl --policy retail --out result
    """  # noqa: D301  # click wants the character, not the two
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from models.events import Topic
    from streams import replay as replaying
    from streams.console import progress_bar, summary_tables
    from streams.replay_files import write_result

    inputs = {topic: path for topic in Topic if (path := files[topic.label]) is not None}
    if not inputs:
        raise click.UsageError("nothing to replay: give --orders, --interactions or --customers")
    timeline = load_timeline(policy)
    if partitions is None:
        partitions = load_settings().partitions
    with progress_bar("replaying") as progress:
        result = replaying.replay(timeline, inputs, until, progress, partitions=partitions)
    summary_tables(write_result(result, timeline, out))


@cli.command()
@click.argument("customer")
@click.option("--lang", help="Language of the sentences: en or zh (default: zh where LANG says so, else en).")
@click.option("--at", type=_Instant(), help="Explain as of this instant (default: now; with files, --until).")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON instead of sentences.")
@click.option("--orders", type=_FILE, help="JSON lines of order events, instead of a running deployment.")
@click.option("--interactions", type=_FILE, help="JSON lines of interactions, likewise.")
@click.option("--customers", type=_FILE, help="JSON lines of customer profiles, likewise.")
@click.option("--campaigns", type=_FILE, help="JSON lines of campaigns, likewise.")
@click.option("--policy", type=click.Path(path_type=Path), help="A policy file or preset (default: TIDEMARK_POLICY).")
@click.option("--until", type=_Instant(), help="With files: the last instant to read (default: the last event).")
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
    from streams import explain as explaining

    language = lang or _language()
    catalogue(language)  # an unknown one is told before anything is read
    settings = load_settings() if policy is None else load_settings(policy=policy)
    inputs = {topic: files[topic.label] for topic in Topic if files[topic.label] is not None}
    if until is not None and not inputs:
        raise click.UsageError("--until goes with files: give --orders, --interactions or --customers, or --at instead")
    timeline = load_timeline(settings.policy)
    if inputs:
        account = explaining.explain_files(timeline, inputs, customer, until, at)
    else:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what goes wrong is told in one line
        account = asyncio.run(explaining.explain_live(settings, timeline, customer, at))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(account)))
    else:
        for sentence in render(account, language):
            click.echo(sentence)


@cli.command()
@click.option("--result", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A replay's directory.")
@click.option("--actions", type=_FILE, help="JSON lines of care-actions, instead of a replay's directory.")
@click.option("--orders", type=_FILE, help="JSON lines of order events.")
@click.option("--interactions", type=_FILE, help="JSON lines of interactions.")
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="A policy file, or a preset's name.")
@click.option("--until", type=_Instant(), help="As of this instant (default: the replay's end, else the last event).")
@click.option("--lang", help="Language of the tables: en or zh (default: zh where LANG says so, else en).")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON instead of tables.")
def effects(
    result: Path | None,
    actions: Path | None,
    policy: Path,
    until: int | None,
    lang: str | None,
    as_json: bool,
    **files: Path | None,
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
    from streams.console import progress_bar
    from streams.effects import read_effects, until_of
    from streams.effects_tables import print_effects

    words = catalogue(lang or _language())
    if (result is None) is (actions is None):
        raise click.UsageError("give either --result or --actions")
    inputs = {topic: path for topic in Topic if (path := files.get(topic.label)) is not None}
    if not inputs:
        raise click.UsageError("nothing to reckon with: give --orders or --interactions")
    if result is not None:
        actions, until = result / "care-actions.jsonl", until_of(result) if until is None else until
    timeline = load_timeline(policy)
    with progress_bar("reading (bytes)") as progress:
        found = read_effects(timeline, actions, inputs, until, progress)  # type: ignore[arg-type]  # one is given
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_effects(found, words)


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
    from models.policy_spec import PolicySpec

    click.echo(orjson.dumps(PolicySpec.model_json_schema(), option=orjson.OPT_INDENT_2).decode())


@cli.command()
def settings() -> None:
    """Print the settings in force, one a line, as they would stand in .env."""
    from config.settings import load_settings, show_settings

    for name, value in show_settings(load_settings()).items():
        click.echo(f"{name}={value}")


def main() -> None:
    """Run the command. What goes wrong is one line on stderr, never a traceback; exit codes as told above."""
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
