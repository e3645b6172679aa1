"""Progress bars and tables in a terminal. Rich draws them; figures come in as plain values."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from models.outputs import Cutoff, TierCutoffs


class LiteralConsole(Console):
    """A console that prints texts as they are: ids and attributes may look like markup or hold escape sequences."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text with its control characters shown."""
        return super().render_str(literal(text), **options)


OUT = LiteralConsole()
ERR = LiteralConsole(stderr=True)


class _Rate(TextColumn):
    """Events per second: over the last half minute while the task runs, over the whole task at its end."""

    def __init__(self) -> None:
        super().__init__("{task.speed}")

    def render(self, task: Any) -> Any:
        speed = task.finished_speed or task.speed
        return f"{speed:,.0f} events/s" if speed else ""


def literal(text: str) -> str:
    """Return a text that a terminal shows and does not obey: characters without a glyph become escapes.

    Line ends stay.
    """
    if text.isprintable():
        return text
    shown = (c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return "".join(shown)


def new_progress(console: Console = ERR) -> Progress:
    """Return a progress display with a bar, the share done, events/s and the time left."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=False)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr; yield `update(done, total)`, both in the same unit."""
    with new_progress() as progress:
        task = progress.add_task(description, total=None)

        def update(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield update


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr for each stage of a job; yield `update(stage, done, total)`."""
    tasks: dict[str, TaskID] = {}
    with new_progress() as progress:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done, total=total)

        yield update


def table(title: str, rows: Mapping[str, Any], heads: tuple[str, str], console: Console = OUT) -> None:
    """Print a table of two columns: names on the left, values on the right."""
    console.print(title, style="bold")  # Rich would wrap the table's own title to the table's width
    drawn = Table()
    drawn.add_column(heads[0])
    drawn.add_column(heads[1], justify="right")
    for name, value in rows.items():
        drawn.add_row(str(name), f"{value:,}" if isinstance(value, int) else str(value))
    console.print(drawn)


def cutoff_tables(cutoffs: Sequence[TierCutoffs], console: Console = OUT, title: str = "cut-offs") -> None:
    """Print cut-offs over time, one table per scheme.

    A row has the number of ranked customers, and for each tier its cut, the share of customers who reach the cut, and
    the share who hold the tier or a higher one.
    """
    for scheme in dict.fromkeys(each.scheme for each in cutoffs):
        rows = [each for each in cutoffs if each.scheme == scheme]
        head = Text(literal(f"{title}, {scheme}"), style="bold")
        console.print(head.append(f" ({rows[-1].metric}; in brackets: share reaching the cut, share held)", "default"))
        drawn = Table()
        drawn.add_column("from")
        drawn.add_column("ranked", justify="right")
        for cutoff in rows[-1].cutoffs:
            drawn.add_column(f"{cutoff.tier} (top {cutoff.top * 100:g}%)", justify="right")
        for each in rows:
            cells = [_cutoff(cutoff) for cutoff in each.cutoffs]
            drawn.add_row(each.effective_at, f"{each.population:,}", *cells)
        console.print(drawn)


def _cutoff(cutoff: Cutoff) -> str:
    held = "" if cutoff.held is None else f", held {cutoff.held:.2%}"
    return f"{cutoff.cut} ({cutoff.share:.2%}{held})"


def summary_tables(summary: Mapping[str, Any], console: Console = OUT) -> None:
    """Print a summary: customers per tier, tier changes by direction and cause, care actions, what went wrong."""
    for scheme, tiers in summary["tiers"].items():
        table(f"customers per tier, {scheme}", tiers, ("tier", "customers"), console)
    changes = summary["tier_changes"]
    table("tier changes", {**changes["by_direction"], "total": changes["total"]}, ("direction", "changes"), console)
    table("tier changes by cause", changes["by_cause"], ("cause", "changes"), console)
    actions = summary["care_actions"]
    table("care actions", {**actions["by_rule"], "total": actions["total"]}, ("rule", "actions"), console)
    trouble_tables(summary, console)


def trouble_tables(summary: Mapping[str, Any], console: Console = OUT) -> None:
    """Print what a summary says went wrong with the input: dead letters, the first of each reason, other notes."""
    letters = summary["dead_letters"]
    table("dead letters", {**letters["by_reason"], "total": letters["total"]}, ("reason", "records"), console)
    for reason, example in letters.get("first", {}).items():
        console.print(f"  the first {reason}: {example}", soft_wrap=True)
    if summary.get("notes"):
        table("events that were repeated, late or not understood", summary["notes"], ("what", "events"), console)
