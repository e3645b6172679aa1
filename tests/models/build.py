"""Builders for the tests of the core: facts with short names, policies, and a customer driven by an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from models.care.budgets import BudgetShare
from models.customer.interactions import Interactions
from models.customer.ledger import Ledger
from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import Event, Interaction, OrderCancelled, OrderPlaced, OrderRefunded
from models.identity import id64
from models.instants import DAY_MS, parse_instant
from models.outputs import CareAction, Decisions, TierChange
from models.policy.compile_schemes import GaugeBook
from models.policy.compiled import Policy, compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from models.rules.comparisons import OPS, Comparison, Finding, Lack, Op, Readings, Rule
from models.rules.metrics import Facts, Gauge, Reading

#: The start of the tests' time, and the same as text.
T0_TEXT = "2026-01-01T00:00:00Z"
T0 = parse_instant(T0_TEXT)


def day(number: float, ms: int = 0) -> int:
    """Return the instant `number` days and `ms` milliseconds after T0."""
    return T0 + round(number * DAY_MS) + ms


def order(at: int, name: str, amount: int = 1_000, margin: int | None = None) -> OrderPlaced:
    return OrderPlaced(at, id64(name), amount, margin)


def refund(at: int, name: str, of: str, amount: int) -> OrderRefunded:
    return OrderRefunded(at, id64(name), id64(of), amount)


def cancel(at: int, of: str) -> OrderCancelled:
    return OrderCancelled(at, id64(of))


def contact(at: int, name: str, kind: str = "visit", value: int | None = None) -> Interaction:
    return Interaction(at, id64(name), kind, value)


def ledger(*events: OrderPlaced | OrderRefunded | OrderCancelled) -> Ledger:
    """Return a ledger that took in the events, all of which must apply."""
    book = Ledger()
    for event in events:
        assert book.check(event).value == "applied", event
        book.apply(event)
    return book


def facts(
    *events: OrderPlaced | OrderRefunded | OrderCancelled,
    contacts: tuple[Interaction, ...] = (),
    since: int = T0,
    weights: dict[str, int] | None = None,
) -> Facts:
    kept = Interactions()
    for event in contacts:
        kept.apply(event)
    return Facts(ledger(*events), kept, since, weights or {})


def tiers(*rules: dict[str, Any], grace: str = "0d", step: str = "qualified", **more: Any) -> dict[str, Any]:
    """Return a scheme whose tiers t1, t2, … have the given rules above t0, which has none."""
    named = [{"name": f"t{rank}", "when": rule} for rank, rule in enumerate(rules, start=1)]
    return {"tiers": [{"name": "t0"}, *named], "demotion": {"grace": grace, "step": step}, **more}


def policy(scheme: dict[str, Any] | None = None, *care: dict[str, Any], **more: Any) -> Policy:
    """Return a compiled policy with one scheme `loyalty`, or with those of the keyword `schemes`."""
    schemes = more.pop("schemes", None) or {"loyalty": scheme or tiers({"frequency": ">= 1"})}
    spec = {"version": "test-1", "currency": "USD", "window": "100d", "schemes": schemes, "care": list(care)}
    return compile_policy(PolicySpec.model_validate({**spec, **more}))


def engine(*versions: Policy, settled: bool = False) -> Engine:
    """Return an engine that decides by the versions of a policy."""
    return Engine(Timeline(versions), settled=settled)


def read(gauges: Sequence[Gauge], known: Facts, at: int) -> list[Reading]:
    """Return every gauge's reading."""
    return [gauge.read(known, at) for gauge in gauges]


@dataclass(frozen=True)
class Ruled:
    """A rule with the gauges that it reads, so that it can be evaluated for facts and an instant."""

    rule: Rule
    gauges: tuple[Gauge, ...]

    def readings(self, known: Facts, at: int) -> Readings:
        return read(self.gauges, known, at)

    def holds(self, known: Facts, at: int) -> bool:
        return self.rule.holds(self.readings(known, at))

    def decisive(self, known: Facts, at: int) -> list[Finding]:
        return self.rule.decisive(self.readings(known, at))

    def lacks(self, known: Facts, at: int) -> list[Lack]:
        return self.rule.lacks(self.readings(known, at))

    def next_change(self, known: Facts, at: int) -> int | None:
        """Return the earliest change of any gauge."""
        changes = [gauge.next_change(known, at) for gauge in self.gauges]
        return min((change for change in changes if change is not None), default=None)


def ruled(when: dict[str, Any]) -> Ruled:
    """Return the rule of a threshold tier over a window of 100 days, in a currency with cents."""
    compiled = policy(tiers(when))
    rule = compiled.schemes[0].tiers[1].rule
    assert rule is not None
    return Ruled(rule, compiled.gauges)


def compared(name: str, op: Op, threshold: Fraction, window: int) -> Ruled:
    """Return a rule of one comparison, its threshold in displayed units (money with cents)."""
    book = GaugeBook(100)
    return Ruled(book.compare(name, op, threshold, window), book.gauges())


def compared_all(name: str, thresholds: Sequence[Fraction], window: int) -> tuple[list[Comparison], Gauge]:
    """Return a comparison for each threshold and operator, and the one gauge that they share."""
    book = GaugeBook(100)
    comparisons = [book.compare(name, op, threshold, window) for threshold in thresholds for op in OPS]
    (gauge,) = book.gauges()
    return comparisons, gauge


class Run:
    """One customer, an engine for the versions of a policy, and everything that it decided."""

    def __init__(self, *versions: Policy, settled: bool = False) -> None:
        self.engine = engine(*versions, settled=settled)
        self.customer = Customer("c1")
        self.decisions = Decisions()
        self.budget: BudgetShare | None = None

    def take(self, *events: Event) -> "Run":
        for event in events:
            self.engine.ingest(self.customer, event, self.decisions, budget=self.budget)
        return self

    def until(self, instant: int) -> "Run":
        self.engine.advance(self.customer, instant, self.decisions, budget=self.budget)
        return self

    @property
    def changes(self) -> list[TierChange]:
        return self.decisions.changes

    @property
    def actions(self) -> list[CareAction]:
        return self.decisions.actions

    @property
    def moves(self) -> list[tuple[str | None, str, int, str]]:
        """Every change as (from, to, instant, cause)."""
        return [(c.from_tier, c.to_tier, parse_instant(c.effective_at), c.cause) for c in self.changes]
