"""A simulation as one file of HTML with charts. It needs no network, runs no script, and says so to the browser."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import IO

from models.instants import format_instant
from models.policy.timeline import Timeline
from streams.history.files import write_atomically
from streams.report import charts
from streams.report.charts import spread
from streams.report.html import END, Row, cutoff_table, head, table
from streams.simulate import facts
from streams.simulate.population import UNKNOWN, Population

#: The table of cut-offs has so many instants at most; the chart shows every day.
_MOST_CUTOFFS = 24


def write_page(
    path: Path,
    population: Population,
    timelines: Sequence[Timeline],
    wanted: Mapping[str, float],
    until: int | None,
) -> None:
    """Write the page; it appears when it is whole. `until` (ms) is the end of the history. Raises OSError."""
    text = page(population, timelines, wanted, until)

    def write(file: IO[bytes]) -> None:
        file.write(text.encode())

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


def page(population: Population, timelines: Sequence[Timeline], wanted: Mapping[str, float], until: int | None) -> str:
    """Return the page."""
    versions = [timeline.latest.version for timeline in timelines]
    title = f"tidemark: {versions[0]} against {versions[1]}"
    end = "" if until is None else f", up to {format_instant(until)}"
    parts = [
        head(title),
        f"<h1>{escape(title)}</h1>",
        f"<p>{population.customers:,} customers{end}. "
        f"A is the policy {escape(versions[0])}, B is {escape(versions[1])}.</p>",
    ]
    for scheme in facts.schemes(timelines):
        parts += [f'<h2 id="{escape(scheme)}">{escape(scheme)}</h2>', *_scheme(population, timelines, scheme, until)]
    parts += ["<h2>Care actions</h2>", _actions(population)]
    if population.known:
        parts += ["<h2>Customers by name</h2>", _named(population)]
    parts += ["<h2>Thresholds for a share</h2>", _needs(population, timelines, wanted), END]
    return "\n".join(parts)


def _scheme(population: Population, timelines: Sequence[Timeline], scheme: str, until: int | None) -> Iterable[str]:
    ladders = [facts.ladder(timeline, scheme) for timeline in timelines]
    flows = population.flows.get(scheme)
    if flows is not None:
        yield _flows(flows, ladders)
    yield '<div class="pair">'
    for name, side, tiers in zip("AB", population.sides, ladders, strict=True):
        if tiers and scheme in side.days:
            daily = facts.daily(side.days[scheme], tiers, until)
            yield charts.tiers_by_day(f"{name}: customers per tier, each day", daily)
    yield "</div>"
    yield from _cutoffs(population, scheme)
    sides = [(name, side.moves.get(scheme, {})) for name, side in zip("AB", population.sides, strict=True)]
    yield table("Moves over the history", ("", "up", "down"), ([n, m.get("up", 0), m.get("down", 0)] for n, m in sides))
    tables = facts.fairness(population, scheme)
    missing = [attribute for attribute, rows in tables.items() if [value for value, _ in rows] == [UNKNOWN]]
    if missing:
        yield f"<p>No customer has a known {escape(' or '.join(missing))}.</p>"
    for attribute, rows in ((each, tables[each]) for each in tables if each not in missing):
        shown: list[Row] = [[value, counts["customers"], *_shares(counts)] for value, counts in rows]
        yield table(f"Who moves, by {attribute}", (attribute, "customers", "up under B", "down under B"), shown)


def _cutoffs(population: Population, scheme: str) -> Iterable[str]:
    """Yield the cut-offs over time of each side that has any."""
    sides = [(name, facts.cutoffs(side, scheme)) for name, side in zip("AB", population.sides, strict=True)]
    sides = [(name, cutoffs) for name, cutoffs in sides if cutoffs]
    if not sides:
        return
    yield '<div class="pair">'
    yield from (charts.cutoffs_by_day(f"{name}: cut-offs ({each[-1].metric})", each) for name, each in sides)
    yield "</div>"
    yield from (cutoff_table(f"{name}: cut-offs", spread(each, _MOST_CUTOFFS)) for name, each in sides)


def _shares(counts: Mapping[str, int]) -> list[str]:
    return [f"{counts.get(way, 0):,} ({counts.get(way, 0) / counts['customers']:.1%})" for way in ("up", "down")]


def _flows(flows: Mapping[str, Mapping[str, int]], ladders: Sequence[list[str]]) -> str:
    rows: list[Row] = [[old, *(flows.get(old, {}).get(new, 0) for new in ladders[1])] for old in ladders[0]]
    return table("From tiers under A (rows) to tiers under B (columns)", ("A \\ B", *ladders[1]), rows, ladders[1])


def _actions(population: Population) -> str:
    a, b = (side.actions for side in population.sides)
    rows: list[Row] = [[rule, a.get(rule, 0), b.get(rule, 0)] for rule in sorted({*a, *b})]
    spent, other = (side.spent for side in population.sides)
    shown: list[Row] = [[name, spent.get(name, 0), other.get(name, 0)] for name in sorted({*spent, *other})]
    tables = (
        ("Actions by rule", ("rule", "A", "B"), rows),
        ("Cost that they took of budgets", ("budget", "A", "B"), shown),
    )
    return charts.bars("Care actions by rule", rows) + "".join(table(*each) for each in tables if each[2])


def _named(population: Population) -> str:
    rows = (
        [move.customer_id, "AB"[move.side], move.scheme, move.from_tier or "", move.to_tier, format_instant(move.at)]
        for move in population.named
    )
    return table("Their moves", ("customer", "policy", "scheme", "from", "to", "at"), rows)


def _needs(population: Population, timelines: Sequence[Timeline], wanted: Mapping[str, float]) -> str:
    rows = (
        [f"{need.scheme}: {need.tier}", f"{need.share:.2%}", need.metric, f"{need.op} {need.threshold:,g}"]
        for need in facts.needs(population, timelines, wanted)
    )
    return table("By one metric alone, under B", ("tier and above", "share", "metric", "threshold"), rows)
