"""A simulation in a terminal."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from models.instants import format_instant
from models.policy.timeline import Timeline
from streams.report.charts import spread
from streams.report.console import OUT, cutoff_tables
from streams.simulate import facts
from streams.simulate.population import Population

#: Cut-offs of so many days are shown at most: how they move over the history is what counts.
_MOST_CUTOFFS = 12


def print_tables(
    population: Population, timelines: Sequence[Timeline], wanted: Mapping[str, float], console: Console = OUT
) -> None:
    """Print who moves, how many, named customers, fairness and thresholds."""
    summary = facts.summary(population, timelines)
    console.print(
        f"{summary['customers']:,} customers; A is {summary['policies'][0]}, B is {summary['policies'][1]}",
        markup=False,
    )
    for scheme in facts.schemes(timelines):
        _flows(population, timelines, scheme, console)
        _totals(population, timelines, scheme, console)
        for name, side in zip("AB", population.sides, strict=True):
            cutoff_tables(spread(facts.cutoffs(side, scheme), _MOST_CUTOFFS), console, f"{name}: cut-offs")
        for attribute, rows in facts.fairness(population, scheme).items():
            _fairness(scheme, attribute, rows, console)
    _actions(population, console)
    _named(population, console)
    _needs(population, timelines, wanted, console)


def _flows(population: Population, timelines: Sequence[Timeline], scheme: str, console: Console) -> None:
    flows = population.flows.get(scheme)
    if flows is None:
        return
    columns = facts.ladder(timelines[1], scheme)
    table = _table(f"{scheme}: from tiers under A (rows) to tiers under B", "A \\ B", *columns)
    for old in facts.ladder(timelines[0], scheme):
        counts = flows.get(old, {})
        table.add_row(old, *(f"{counts.get(new, 0):,}" for new in columns))
    _print(table, console)


def _totals(population: Population, timelines: Sequence[Timeline], scheme: str, console: Console) -> None:
    a, b = population.sides
    table = _table(f"{scheme}: customers per tier, and moves over the history", "", "A", "B", "B - A")
    tiers = dict.fromkeys([tier for timeline in timelines for tier in facts.ladder(timeline, scheme)])
    for name, left, right in (
        *((tier, a.held.get(scheme, {}).get(tier, 0), b.held.get(scheme, {}).get(tier, 0)) for tier in tiers),
        *(
            (f"moves {way}", a.moves.get(scheme, {}).get(way, 0), b.moves.get(scheme, {}).get(way, 0))
            for way in ("up", "down")
        ),
    ):
        table.add_row(name, f"{left:,}", f"{right:,}", f"{right - left:+,}")
    _print(table, console)


def _fairness(scheme: str, attribute: str, rows: list[tuple[str, dict[str, int]]], console: Console) -> None:
    table = _table(f"{scheme}: who moves, by {attribute}", attribute, "customers", "up under B", "down under B")
    for value, counts in rows:
        total = counts["customers"]
        shares = (counts.get(way, 0) for way in ("up", "down"))
        table.add_row(value, f"{total:,}", *(f"{count:,} ({count / total:.1%})" for count in shares))
    _print(table, console)


def _actions(population: Population, console: Console) -> None:
    for title, first, (a, b) in (
        ("care actions", "rule", [side.actions for side in population.sides]),
        ("cost that care actions took of budgets", "budget", [side.spent for side in population.sides]),
    ):
        table = _table(title, first, "A", "B", "B - A")
        for name in sorted({*a, *b}):
            left, right = a.get(name, 0), b.get(name, 0)
            table.add_row(name, f"{left:,}", f"{right:,}", f"{right - left:+,}")
        _print(table, console)


def _named(population: Population, console: Console) -> None:
    if not population.known:
        return
    table = _table("customers by name", "customer", "policy", "scheme", "from", "to", "at")
    for move in population.named:
        cells = (move.scheme, move.from_tier or "", move.to_tier, format_instant(move.at))
        table.add_row(move.customer_id, "AB"[move.side], *cells)
    _print(table, console)


def _needs(
    population: Population, timelines: Sequence[Timeline], wanted: Mapping[str, float], console: Console
) -> None:
    table = _table("thresholds for a share of the customers, by one metric alone", "tier", "share", "metric", "")
    for need in facts.needs(population, timelines, wanted):
        threshold = f"{need.op} {need.threshold:,g}"
        table.add_row(f"{need.scheme}: {need.tier}", f"{need.share:.2%}", need.metric, threshold)
    _print(table, console)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", min_width=min(len(title), 80))
    table.add_column(first, overflow="fold")
    for other in others:
        table.add_column(other, justify="right", overflow="fold")
    return table


def _print(table: Table, console: Console) -> None:
    if table.row_count:
        console.print(table)
