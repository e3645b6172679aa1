"""The `tidemark` command: its group, its entry point, and the commands that do not work on history."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import click
import orjson

from models.errors import TidemarkError, UnusableInput
from streams.cli import history
from streams.cli.options import COLUMNS, FILE, NULL, POLICY, Instant, default_language

EXIT_FAILED = 1
EXIT_UNUSABLE = 2

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(package_name="tidemark")
def cli() -> None:
    """tidemark: customer tiers from event streams, exact to the millisecond and explainable.

    \b
    Exit codes: 0 success; 1 failure, or a check found something; 2 unusable arguments or input.
    """


@cli.command()
@click.option("--stay", is_flag=True, help="Keep running after the summary, until Ctrl-C.")
@click.option("--households", type=click.IntRange(1), help="Use only the first N households, which is faster.")
def demo(stay: bool, households: int | None) -> None:
    """Run a demo on this machine: broker, worker, and a real year of orders.

    It shows tier changes as they happen, and a summary at the end.

    \b
    Examples:
      tidemark demo --households 200
      tidemark demo --stay
    """
    from streams.demo.run import run_demo

    sys.exit(run_demo(stay=stay, households=households))


@cli.command()
def worker() -> None:
    """Run a worker until SIGTERM or Ctrl-C.

    Its settings come from TIDEMARK_… variables and .env; `tidemark settings` shows them.

    \b
    Examples:
      tidemark worker
      TIDEMARK_BROKER=kafka:9092 TIDEMARK_POLICY=retail tidemark worker
    """
    from config.settings import load_settings
    from streams.worker.main import run_worker

    run_worker(load_settings())


@cli.group()
def topics() -> None:
    """Create the topics on the broker, or check them."""


@topics.command("create")
def topics_create() -> None:
    """Create the missing topics. Existing ones are not changed.

    \b
    Example:
      TIDEMARK_BROKER=kafka:9092 TIDEMARK_PARTITIONS=12 tidemark topics create
    """
    from config.settings import load_settings
    from streams.kafka.topics import create_topics

    created = asyncio.run(create_topics(load_settings()))
    click.echo(f"created {', '.join(created)}" if created else "all topics exist")


@topics.command("check")
def topics_check() -> None:
    """Check partition counts, co-partitioning and compaction. Exit code 1 if something is wrong.

    \b
    Example:
      TIDEMARK_BROKER=kafka:9092 tidemark topics check
    """
    from config.settings import load_settings
    from streams.kafka.topics import check_topics

    mistakes = asyncio.run(check_topics(load_settings()))
    for mistake in mistakes:
        click.echo(mistake, err=True)
    if mistakes:
        sys.exit(EXIT_FAILED)
    click.echo("all topics are as they should be")


@topics.command("accept-loss")
@click.argument("topic")
@click.option("--partition", type=click.IntRange(0), help="Only this partition (default: all that lost records).")
def topics_accept_loss(topic: str, partition: int | None) -> None:
    """Go on with an input topic that lost records.

    If a topic was deleted and created again, or a broker lost its disk, the workers stop deciding in the partitions
    concerned. This tells them to read TOPIC (orders, interactions, customers or campaigns) from the beginning of its
    log. Partitions that lost nothing ignore it.

    \b
    Example:
      tidemark topics accept-loss orders
    """
    from config.settings import load_settings
    from streams.tools.accept_loss import accept_loss

    count = asyncio.run(accept_loss(load_settings(), topic, partition))
    click.echo(f"asked the owners of {count} partitions to read {topic} from its beginning if it lost records")


for command in (history.load, history.diff, history.uplift, history.simulate, history.replay):
    cli.add_command(command)


@cli.command()
@click.argument("customer")
@click.option("--lang", help="Language of the sentences: en or zh (default: zh if LANG starts with zh, else en).")
@click.option("--at", type=Instant(), help="Explain as of this instant (default: now; with files, --until).")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON instead of sentences.")
@click.option("--orders", type=FILE, help="A file of order events, instead of a running deployment.")
@click.option("--interactions", type=FILE, help="A file of interactions, instead of a running deployment.")
@click.option("--customers", type=FILE, help="A file of customer profiles, instead of a running deployment.")
@click.option("--campaigns", type=FILE, help="A file of campaigns, instead of a running deployment.")
@COLUMNS
@NULL
@click.option("--policy", type=POLICY, help="A policy file or preset (default: TIDEMARK_POLICY).")
@click.option("--until", type=Instant(), help="With files: the last instant to read (default: the last event).")
def explain(
    customer: str,
    lang: str | None,
    at: int | None,
    as_json: bool,
    columns: tuple[str, ...],
    policy: Path | None,
    until: int | None,
    **files: Any,
) -> None:
    """Explain why a customer is in a tier.

    It also says what the next tier requires, and what time alone will change.

    Without files, it reads the state of the running deployment from its changelog, and writes nothing. With files, it
    replays their events first, as `tidemark replay` does. Exit code 2 if the customer is unknown.

    \b
    Examples:
      tidemark explain c1 --lang zh --at 2026-12-31T00:00:00+08:00
      tidemark explain c1 --orders orders.jsonl --customers customers.jsonl --policy retail
      tidemark explain 17850 --orders sales.csv --columns customer_id=Client,amount=Total --policy retail
    """
    import msgspec

    from config.messages import catalogue, render
    from config.policy_files import load_timeline
    from config.settings import load_settings
    from models.events import Topic
    from streams.history.columns import empty_cells
    from streams.report.console import literal
    from streams.tools.explain import explain_files, explain_live

    language = lang or default_language()
    catalogue(language)  # fails on an unknown language before anything is read
    settings = load_settings() if policy is None else load_settings(policy=policy)
    columns = (*columns, *empty_cells(files["nulls"]))
    inputs = {topic: files[topic.label] for topic in Topic if files[topic.label] is not None}
    if until is not None and not inputs:
        raise click.UsageError("--until needs files: add --orders, --interactions or --customers, or use --at")
    timeline = load_timeline(settings.policy)
    if inputs:
        report = explain_files(
            settings.policy,
            inputs,
            customer,
            until,
            at,
            partitions=settings.partitions,
            columns=columns,
        )
    else:
        report = asyncio.run(explain_live(settings, timeline, customer, at))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        for sentence in render(report, language):
            click.echo(literal(sentence))


@cli.command()
@click.option("--scheme", help="Show only this scheme.")
@click.option("--last", type=click.IntRange(1), default=30, show_default=True, help="Cut-offs to show per scheme.")
@click.option("--file", type=FILE, help="Read a replay's tier-cutoffs.jsonl instead of a running deployment.")
@click.option("--json", "as_json", is_flag=True, help="Print the events, one per line, instead of tables.")
@click.option("--compute", is_flag=True, help="Request new cut-offs from the deployment, and show none.")
@click.option("--at", type=Instant(), help="With --compute: a future instant (default: in a minute).")
def cutoffs(scheme: str | None, last: int, file: Path | None, as_json: bool, compute: bool, at: int | None) -> None:
    """Show the cut-offs of percentile schemes, or request new ones.

    \b
    Examples:
      tidemark cutoffs --scheme abc --last 7
      tidemark cutoffs --compute
    """
    import msgspec

    from config.settings import load_settings
    from models.instants import format_instant
    from streams.report.console import cutoff_tables
    from streams.tools.cutoffs import cutoffs_of_file, latest, read_cutoffs, request_cutoffs

    if file is not None and compute:
        raise click.UsageError("--compute and --file cannot be combined")
    if at is not None and not compute:
        raise click.UsageError("--at needs --compute")
    if compute:
        effective_at = asyncio.run(request_cutoffs(load_settings(), at))
        click.echo(f"requested cut-offs that take effect at {format_instant(effective_at)}")
        return
    found = cutoffs_of_file(file) if file else asyncio.run(read_cutoffs(load_settings()))
    shown = latest(found, scheme, last)
    if as_json:
        for each in shown:
            click.echo(msgspec.json.encode(each))
    elif shown:
        cutoff_tables(shown)
    else:
        click.echo("there are no cut-offs yet")


@cli.group()
def policy() -> None:
    """Check a policy file, or print the JSON Schema that editors use."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def policy_check(file: Path) -> None:
    """Check a policy file. Prints one line per mistake; exit code 2 if there is any. Odd rules are remarked on.

    \b
    Example:
      tidemark policy check my-policy.yaml
    """
    from config.policy_files import check_file, remarks

    mistakes = check_file(file)
    for mistake in mistakes:
        click.echo(f"{file}: {mistake}", err=True)
    if mistakes:
        sys.exit(EXIT_UNUSABLE)
    for remark in remarks(file):
        click.echo(f"{file}: {remark}", err=True)
    click.echo(f"{file}: the policy is valid")


@policy.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of policy files.

    \b
    Example:
      tidemark policy schema > policy.schema.json
    """
    from models.policy.spec import PolicySpec

    click.echo(orjson.dumps(PolicySpec.model_json_schema(), option=orjson.OPT_INDENT_2).decode())


@cli.command()
def settings() -> None:
    """Print the settings in force, one per line, in the format of .env. Secrets are masked.

    \b
    Example:
      TIDEMARK_BROKER=kafka:9092 tidemark settings
    """
    from config.settings import load_settings, show_settings

    for name, value in show_settings(load_settings()).items():
        click.echo(f"{name}={value}")


def main() -> None:
    """Run the command and exit: 0 done, 1 failed, 2 unusable arguments or input.

    A failure is one line on stderr, never a traceback.
    """
    # The client's warnings would surround that line. A worker sets up its own logging.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        status = cli.main(prog_name="tidemark", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(EXIT_UNUSABLE)
    except (click.UsageError, UnusableInput) as error:
        message = error.format_message() if isinstance(error, click.UsageError) else error
        click.echo(f"tidemark: {message}", err=True)
        sys.exit(EXIT_UNUSABLE)
    except TidemarkError as error:
        click.echo(f"tidemark: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except click.Abort:
        sys.exit(EXIT_FAILED)
    sys.exit(status if isinstance(status, int) else 0)
