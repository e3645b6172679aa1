"""The effects of care as tables in a terminal, in the words of a catalogue. Rich draws; nothing is reckoned here."""

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


def print_effects(found: list[Uplift], words: Catalogue, console: Console = OUT) -> None:
    """Print what became of the actions, and the proof: a row for each rule, and one for each of its tiers."""
    if not found:
        console.print(words.text("effects.nothing"))
        return
    _draw("sent", _SENT, (_sent_row(effect, words) for effect in found), words, console)
    _draw("proof", _PROOF, (row for effect in found for row in _proof_rows(effect, words)), words, console)
    console.print(words.text("effects.note"))
    waiting = sum(effect.open for effect in found if effect.tier is None)
    if waiting:
        console.print(words.text("effects.open", n=waiting))


def _draw(name: str, columns: tuple[str, ...], rows: Iterator[list[str]], words: Catalogue, console: Console) -> None:
    console.print(f"[bold]{words.text(f'effects.{name}_title')}[/]")
    table = Table()
    for column in columns:
        table.add_column(words.text(f"effects.columns.{column}"), justify="left" if column in _TEXTS else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _sent_row(effect: Uplift, words: Catalogue) -> list[str]:
    answered = (effect.delivered, effect.opened, effect.clicked, effect.converted)
    shares = [_share(count, effect.sent) for count in answered]
    return [*_subject(effect, words), f"{effect.sent:,}", f"{effect.held_out:,}", *shares]


def _proof_rows(effect: Uplift, words: Catalogue) -> Iterator[list[str]]:
    measures = {"repurchase": effect.repurchase}
    if effect.conversion != effect.repurchase:
        measures["conversion"] = effect.conversion
    for measure, contrast in measures.items():
        yield [*_subject(effect, words), words.text(f"effects.measure.{measure}"), *_contrast(contrast, words)]


def _contrast(contrast: Contrast, words: Catalogue) -> list[str]:
    shares = [_share(contrast.treated, contrast.treated_of), _share(contrast.held, contrast.held_of)]
    verdict = words.text(f"effects.verdicts.{contrast.verdict}")
    if contrast.uplift is None or contrast.low is None or contrast.high is None:
        return [*shares, "", "", verdict]
    interval = words.text("effects.interval", low=_points(contrast.low), high=_points(contrast.high))
    return [*shares, _points(contrast.uplift), interval, verdict]


def _subject(effect: Uplift, words: Catalogue) -> list[str]:
    tier = words.text("effects.all") if effect.tier is None else words.named("names", effect.tier)
    return [effect.rule, tier]


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} % ({count:,}/{of:,})" if of else "-"


def _points(difference: float) -> str:
    """Return a difference of shares in percentage points."""
    return f"{100 * difference:+.1f}"
