"""Prints care uplift as tables in a terminal, in the language of a message catalogue."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from config.messages import Catalogue
from models.care.statistics import Contrast
from models.care.uplift import Uplift
from streams.report.console import OUT

_SENT = ("rule", "tier", "sent", "held", "delivered", "opened", "clicked", "converted")
_PROOF = ("rule", "tier", "measure", "treated_share", "held_share", "uplift", "interval", "verdict")
_TEXTS = {"rule", "tier", "measure", "verdict"}


def print_uplift(found: list[Uplift], words: Catalogue, console: Console = OUT) -> None:
    """Print the outcomes of the actions and the comparison with the hold-out.

    Each table has a row for each rule, and one for each of its tiers.
    """
    if not found:
        console.print(words.text("effects.nothing"))
        return
    _draw("sent", _SENT, (_sent_row(uplift, words) for uplift in found), words, console)
    _draw("proof", _PROOF, (row for uplift in found for row in _proof_rows(uplift, words)), words, console)
    console.print(words.text("effects.note"))
    waiting = sum(uplift.open for uplift in found if uplift.tier is None)
    if waiting:
        console.print(words.text("effects.open", n=waiting))


def _draw(name: str, columns: tuple[str, ...], rows: Iterator[list[str]], words: Catalogue, console: Console) -> None:
    console.print(words.text(f"effects.{name}_title"), style="bold")
    table = Table()
    for column in columns:
        table.add_column(words.text(f"effects.columns.{column}"), justify="left" if column in _TEXTS else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _sent_row(uplift: Uplift, words: Catalogue) -> list[str]:
    answered = (uplift.delivered, uplift.opened, uplift.clicked, uplift.converted)
    shares = [_share(count, uplift.sent) for count in answered]
    return [*_subject(uplift, words), f"{uplift.sent:,}", f"{uplift.held_out:,}", *shares]


def _proof_rows(uplift: Uplift, words: Catalogue) -> Iterator[list[str]]:
    measures = {"repurchase": uplift.repurchase}
    if uplift.conversion != uplift.repurchase:
        measures["conversion"] = uplift.conversion
    for measure, contrast in measures.items():
        yield [*_subject(uplift, words), words.text(f"effects.measure.{measure}"), *_contrast(contrast, words)]


def _contrast(contrast: Contrast, words: Catalogue) -> list[str]:
    shares = [_share(contrast.treated, contrast.treated_of), _share(contrast.held, contrast.held_of)]
    verdict = words.text(f"effects.verdicts.{contrast.verdict}")
    if contrast.uplift is None or contrast.low is None or contrast.high is None:
        return [*shares, "", "", verdict]
    interval = words.text("effects.interval", low=_points(contrast.low), high=_points(contrast.high))
    return [*shares, _points(contrast.uplift), interval, verdict]


def _subject(uplift: Uplift, words: Catalogue) -> list[str]:
    tier = words.text("effects.all") if uplift.tier is None else words.named("names", uplift.tier)
    return [uplift.rule, tier]


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} % ({count:,}/{of:,})" if of else "-"


def _points(difference: float) -> str:
    """Return a difference of two shares (0 to 1) as percentage points."""
    return f"{100 * difference:+.1f}"
