"""The laws of the contract, on whole customer histories under policies of every shape."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from operator import eq, ge, gt, le, lt
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from models.customer.state import Counters, Customer
from models.engine.decide import Engine
from models.events import Pending, Profile
from models.instants import DAY_MS, local_date, parse_instant
from models.outputs import Decisions, TierChange
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from tests.laws.oracle import Change, comparisons, judge
from tests.laws.strategies import arrivals, histories, moves, place, specs, timelines

#: The time passed after the last event: longer than any window, breakpoint and grace together.
AFTER = 500 * DAY_MS
#: The same if tiers are kept for years, step by step.
KEPT = 12 * AFTER

OPS = {">=": ge, ">": gt, "<=": le, "<": lt, "==": eq}


def compiled(*versions: dict[str, Any]) -> Timeline:
    """Return the timeline of policy versions that a history may meet."""
    return Timeline([compile_policy(PolicySpec.model_validate(spec)) for spec in versions])


def end_of(history: list[Pending]) -> int:
    return max(place(event)[0] for event in history) + AFTER


def reopened(customer: Customer) -> Customer:
    """Return the customer as the next batch, or the next worker, finds it."""
    return Customer.from_row(customer.customer_id, customer.to_row())


def state_of(customer: Customer) -> bytes:
    """Return everything but the counters."""
    copy = reopened(customer)
    copy.counters = Counters()
    return copy.to_row()


def eager(policy: Timeline, events: list[Pending], until: int) -> tuple[Customer, Decisions]:
    """Evaluate events as they come, then time up to `until` (ms)."""
    engine, customer, decisions = Engine(policy), Customer("c1"), Decisions()
    for event in events:
        engine.ingest(customer, event, decisions)
    engine.advance(customer, until, decisions)
    return customer, decisions


def overruled(event: Pending, customer: Customer) -> bool:
    """Whether a profile of the same `updated_at` replaced this one: read again, this one is the newer."""
    return isinstance(event, Profile) and event != customer.profile and event.replaces(customer.profile or event)


def by_scheme(decisions: Decisions) -> dict[str, list[TierChange]]:
    changes: dict[str, list[TierChange]] = {}
    for change in decisions.changes:
        changes.setdefault(change.scheme, []).append(change)
    return changes


def deciding(tiers: list[dict[str, Any]], change: TierChange) -> Iterator[tuple[str, str, Decimal]]:
    """Yield the comparisons of the rules that can have decided a change: of the tiers left, or of the one reached."""
    names = [tier["name"] for tier in tiers]
    reached = names.index(change.to_tier)
    left = range(reached + 1, names.index(change.from_tier) + 1) if change.direction == "down" else [max(1, reached)]
    for rank in left:
        for name, op, threshold in comparisons(tiers[rank]["when"]):
            yield name, op, Decimal(threshold.numerator) / threshold.denominator


@given(timelines(), histories(conflicts=True), st.data())
def test_settled_decides_the_same_for_every_order_of_arrival_within_the_lateness(
    specs: list[dict[str, Any]], history: list[Pending], data: st.DataObject
) -> None:
    policy, until = compiled(*specs), end_of(history)
    engine, customer, decisions = Engine(policy, settled=True), Customer("c1"), Decisions()
    arrived = data.draw(arrivals(history))
    for number, event in enumerate(arrived):
        customer = reopened(customer)
        engine.ingest(customer, event, decisions)
        still_out = [place(other)[0] for other in arrived[number + 1 :]]
        if still_out and data.draw(st.booleans()):
            # As late as stream time minus the lateness can be while some events have not arrived.
            customer = reopened(customer)
            engine.advance(customer, min(still_out) - data.draw(st.sampled_from((1, DAY_MS))), decisions)
    customer = reopened(customer)
    engine.advance(customer, until, decisions)

    replayed, expected = eager(policy, history, until)
    assert decisions.changes == expected.changes
    assert decisions.actions == expected.actions
    assert decisions.counts == expected.counts
    assert not decisions.lateness_ms
    assert customer.to_row() == replayed.to_row()


@given(specs(), histories(conflicts=True))
def test_the_engine_agrees_with_looking_at_every_instant(spec: dict[str, Any], history: list[Pending]) -> None:
    until = end_of(history)
    _, decisions = eager(compiled(spec), history, until)
    found = [
        Change(c.scheme, c.from_tier, c.to_tier, c.direction, parse_instant(c.effective_at), c.cause, c.sequence)
        for c in decisions.changes
    ]
    assert found == judge(spec, history, until)


@given(timelines(), histories(), st.data())
def test_every_order_of_arrival_comes_to_the_same_ledger(
    specs: list[dict[str, Any]], history: list[Pending], data: st.DataObject
) -> None:
    policy, until = compiled(*specs), end_of(history)
    shuffled, _ = eager(policy, data.draw(arrivals(history)), until)
    in_order, _ = eager(policy, history, until)
    one, other = shuffled.ledger, in_order.ledger
    assert (one.times, one.ids, one.paid, one.adjusted) == (other.times, other.ids, other.paid, other.adjusted)
    orders = range(len(one.times))
    assert [one.margin(index) for index in orders] == [other.margin(index) for index in orders]
    assert (one.folded, one.folded_to) == (other.folded, other.folded_to)
    assert shuffled.first_at == in_order.first_at
    assert shuffled.profile == in_order.profile
    assert shuffled.unsubscribed_at == in_order.unsubscribed_at
    # Which interactions are still kept depends on how far time was evaluated; those that a window reaches are.
    since = until - policy.horizon
    weights = policy.latest.weights
    assert shuffled.interactions.weight(since, weights) == in_order.interactions.weight(since, weights)
    assert shuffled.interactions.scores(since) == in_order.interactions.scores(since)


@given(timelines(), histories(), st.data())
def test_duplicates_are_no_ops(specs: list[dict[str, Any]], history: list[Pending], data: st.DataObject) -> None:
    engine, customer, decisions = Engine(compiled(*specs)), Customer("c1"), Decisions()
    length = data.draw(st.integers(1, len(history)))
    for event in history[:length]:
        engine.ingest(customer, event, decisions)
    if data.draw(st.booleans()):
        engine.advance(customer, place(history[length - 1])[0] + data.draw(st.integers(0, 200)) * DAY_MS, decisions)
    before, again = state_of(customer), Decisions()
    duplicates = [event for event in history[:length] if not overruled(event, customer)]
    for event in data.draw(st.lists(st.sampled_from(duplicates), max_size=6)):
        engine.ingest(customer, event, again)
    assert (again.changes, again.actions) == ([], [])
    assert state_of(customer) == before


@given(timelines(), histories(conflicts=True), st.data())
def test_many_small_steps_of_time_equal_one_big_step(
    specs: list[dict[str, Any]], history: list[Pending], data: st.DataObject
) -> None:
    policy, until = compiled(*specs), end_of(history)
    engine, customer, decisions = Engine(policy), Customer("c1"), Decisions()
    now = place(history[0])[0] - DAY_MS
    for event in [*history, None]:
        end = until if event is None else place(event)[0] - 1
        for step in data.draw(st.lists(st.integers(1, 120 * DAY_MS), max_size=3)):
            now = max(now, min(now + step, end))
            engine.advance(customer, now, decisions)
            assert customer.next_instant > now
            if customer.due <= end and data.draw(st.booleans()):
                now = max(now, customer.due - data.draw(st.sampled_from((0, 1))))
                engine.advance(customer, now, decisions)
                assert customer.next_instant > now
        if event is not None:
            engine.ingest(customer, event, decisions)
            now = place(event)[0]
    engine.advance(customer, until, decisions)
    stepped, expected = eager(policy, history, until)
    assert decisions.changes == expected.changes
    assert decisions.actions == expected.actions
    assert customer.to_row() == stepped.to_row()


@given(specs(any_kind=True), histories(conflicts=True), st.data())
def test_changes_follow_one_another_without_gap_or_flap(
    spec: dict[str, Any], history: list[Pending], data: st.DataObject
) -> None:
    policy = compiled(spec)
    customer, decisions = eager(policy, data.draw(arrivals(history)), end_of(history))
    changes = by_scheme(decisions)
    assert set(changes) == set(spec["schemes"])
    for name, chain in changes.items():
        assert [change.sequence for change in chain] == list(range(1, len(chain) + 1))
        assert (chain[0].from_tier, chain[0].direction) == (None, "enter")
        assert customer.standings[name].tier == chain[-1].to_tier
        (scheme,) = (scheme for scheme in policy.latest.schemes if scheme.name == name)
        tiers = [tier.name for tier in scheme.tiers]
        grace, stay = scheme.demotion.grace, scheme.demotion.min_stay
        for earlier, later in pairwise(chain):
            assert later.from_tier == earlier.to_tier
            rises = tiers.index(later.to_tier) > tiers.index(earlier.to_tier)
            assert later.direction == ("up" if rises else "down")
            assert later.to_tier != earlier.to_tier
            waited = parse_instant(later.effective_at) - parse_instant(earlier.effective_at)
            taken_back = scheme.demotion.clawback and later.cause in ("refund", "late")
            assert waited >= (0 if rises or taken_back else max(grace, stay))
    assert len({change.event_id for change in decisions.changes}) == len(decisions.changes)


@given(specs(), histories(), st.data())
def test_why_evaluates_to_the_decision(spec: dict[str, Any], history: list[Pending], data: st.DataObject) -> None:
    _, decisions = eager(compiled(spec), data.draw(arrivals(history)), end_of(history))
    for change in decisions.changes:
        lowest = change.to_tier == "t0"
        assert change.why
        assert {why.met for why in change.why} == {change.direction != "down" and not lowest}
        listed = {(why.metric, why.op, Decimal(str(why.threshold))) for why in change.why}
        assert listed <= set(deciding(spec["schemes"][change.scheme]["tiers"], change))
        for why in change.why:
            truth = why.value is not None and OPS[why.op](Decimal(str(why.value)), Decimal(str(why.threshold)))
            assert truth is why.met, why
    for action in decisions.actions:
        assert {why.met for why in action.why} <= {action.rule != "tier-down-rule"}


@given(specs(any_kind=True), histories())
def test_at_risk_is_true(spec: dict[str, Any], history: list[Pending]) -> None:
    engine, customer = Engine(compiled(spec)), Customer("c1")
    for event in history:
        before, after = Decisions(), Decisions()
        engine.advance(customer, place(event)[0] - 1, before)
        engine.ingest(customer, event, after)
        future = Decisions()
        engine.advance(reopened(customer), place(event)[0] + KEPT, future)
        listed = after.changes + future.changes
        for number, change in enumerate(listed):
            later = [c for c in listed[number + 1 :] if c.scheme == change.scheme]
            fall = next(((c.to_tier, c.effective_at) for c in later if c.direction == "down"), None)
            risk = None if change.at_risk is None else (change.at_risk.tier, change.at_risk.on)
            assert risk == fall, change


@given(timelines(), moves(), histories(), st.data())
def test_nobody_gets_two_offers_for_one_birthday(
    specs: list[dict[str, Any]], profiles: list[Pending], history: list[Pending], data: st.DataObject
) -> None:
    for spec in specs:
        spec["care"][0]["consent"] = "not_needed"
    events = sorted([*profiles, *history], key=place)
    _, decisions = eager(compiled(*specs), data.draw(arrivals(events)), end_of(events))
    offers = Counter(action.action_id for action in decisions.actions if action.rule == "birthday")
    assert all(count == 1 for count in offers.values())


@given(timelines(), histories(conflicts=True), st.data())
def test_a_row_brings_back_everything_at_any_time(
    specs: list[dict[str, Any]], history: list[Pending], data: st.DataObject
) -> None:
    policy, arrived = compiled(*specs), data.draw(arrivals(history))
    engine, kept, decisions = Engine(policy, settled=data.draw(st.booleans())), Customer("c1"), Decisions()
    restored, again = Customer("c1"), Decisions()
    for event in arrived:
        engine.ingest(kept, event, decisions)
        restored = reopened(restored)
        engine.ingest(restored, event, again)
        assert restored.to_row() == kept.to_row()
    engine.advance(kept, end_of(history), decisions)
    engine.advance(reopened(restored), end_of(history), again)
    assert (again.changes, again.actions, again.counts) == (decisions.changes, decisions.actions, decisions.counts)


@given(timelines(), histories(), st.data())
def test_every_version_decides_from_its_start_and_a_boundary_is_reported_at_it(
    specs: list[dict[str, Any]], history: list[Pending], data: st.DataObject
) -> None:
    timeline = compiled(*specs)
    customer, decisions = eager(timeline, history, end_of(history))
    starts = [version.effective_from for version in timeline.versions[1:]]
    for change in decisions.changes:
        at = parse_instant(change.effective_at)
        assert change.policy_version == timeline.at(at).version
        assert (at in starts) or change.cause != "policy"
    for action in decisions.actions:
        assert action.policy_version == timeline.at(parse_instant(action.due_at)).version
    assert customer.timeline == timeline.fingerprint
    assert customer.policy_version == timeline.at(customer.cursor or 0).version


@given(timelines(), histories())
def test_a_kept_tier_is_not_lost_before_its_period_is_over(specs: list[dict[str, Any]], history: list[Pending]) -> None:
    policy = compiled(specs[0])
    _, decisions = eager(policy, history, end_of(history))
    zone = policy.latest.zone
    for scheme in policy.latest.schemes:
        chain = by_scheme(decisions).get(scheme.name, [])
        for earlier, later in pairwise(chain):
            if later.direction != "down" or scheme.demotion.keep != "calendar_year" or earlier.direction == "down":
                continue
            if scheme.demotion.clawback and later.cause in ("refund", "late"):
                continue
            # At the earliest qualified for when it was reached; kept to the end of the year after.
            reached, lost = (local_date(parse_instant(one.effective_at), zone) for one in (earlier, later))
            assert lost.year >= reached.year + 2
