"""Builders for the tests of the core: facts with short names, policies, and a customer driven by an engine."""

from typing import Any

from models.contacts import Contacts
from models.customer import Customer
from models.engine import Engine
from models.events import Event, Interaction, OrderCancelled, OrderPlaced, OrderRefunded
from models.identity import id64
from models.instants import DAY_MS, parse_instant
from models.ledger import Ledger
from models.metrics import Facts
from models.outputs import CareAction, Decisions, TierChange
from models.policy import Policy, compile_policy
from models.policy_spec import PolicySpec

#: Where the tests' time begins, and the same as text.
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
    kept = Contacts()
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


class Run:
    """One customer and an engine, and everything that was decided."""

    def __init__(self, policy: Policy, *, settled: bool = False) -> None:
        self.engine = Engine(policy, settled=settled)
        self.customer = Customer("c1")
        self.decisions = Decisions()

    def take(self, *events: Event) -> "Run":
        for event in events:
            self.engine.ingest(self.customer, event, self.decisions)
        return self

    def until(self, instant: int) -> "Run":
        self.engine.advance(self.customer, instant, self.decisions)
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
