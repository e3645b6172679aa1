"""The `tidemark` command: one line of help and one clear error for each thing a person may ask.

Exit codes: 0 done, 1 failed, 2 unusable arguments or input. Commands only parse and print; the work is elsewhere.
"""

import asyncio
import logging
import sys
from typing import Any

import click

from config.policy_files import check_file
from config.settings import load_settings, show_settings
from models.errors import PolicyError, TidemarkError
from pathlib import Path

EXIT_FAILED = 1
EXIT_UNUSABLE = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tidemark")
def cli() -> None:
    """tidemark: customer tiers from event streams, exact to the millisecond and explainable."""


@cli.command()
def worker() -> None:
    """Run the Faust worker until it is told to stop (SIGTERM, Ctrl-C).

    Settings come from TIDEMARK_… (see `tidemark settings`).
    """
    from streams.run import run_worker

    run_worker(load_settings())


@cli.group()
def topics() -> None:
    """Create the topics on a broker, or check that they agree."""


@topics.command("create")
def topics_create() -> None:
    """Create the topics that are missing."""
    from streams.topics import create_topics

    created = asyncio.run(create_topics(load_settings()))
    click.echo(f"created: {', '.join(created)}" if created else "all topics exist")


def main() -> None:
    cli()
