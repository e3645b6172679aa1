"""The metrics: a closed list, fed as it says, and true of the partitions that are held."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from aiokafka.errors import KafkaTimeoutError
from prometheus_client import generate_latest

from models.events import Topic
from models.instants import DAY_MS, parse_instant
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from streams.metrics import docs as metric_docs
from streams.metrics.catalogue import LABELS, METRICS
from streams.metrics.collectors import Metrics, PartitionCollector
from streams.partition.state import Partition
from tests.support.driver import NOW, Driver, order, profile, touch

ROOT = Path(__file__).parents[3]
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not here"
)


class Page:
    """What `/metrics` says of one partition, driven without a broker."""

    def __init__(self, driver: Driver, *, wall: bool = True) -> None:
        self.driver = driver
        self.metrics = Metrics()
        self.remaining: dict[int, int] = {}
        self.held: Mapping[int, Partition] | None = None
        self.metrics.registry.register(
            PartitionCollector(
                self.metrics,
                driver.processor,
                lambda: {0: driver.partition} if self.held is None else self.held,
                lambda: self.remaining,
                (lambda: NOW) if wall else None,
            )
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and sample.value
        }

    @property
    def tiers(self) -> dict[str, float]:
        return {
            tier: count
            for (_, scheme, tier), count in self.samples("tidemark_tier_customers").items()
            if scheme == "loyalty" and count
        }


@pytest.fixture
def page() -> Page:
    return Page(Driver())


@pytest.fixture
def page_of_care() -> Page:
    """A policy with a rule and a budget; the page knows it."""
    written = {
        "version": "care",
        "currency": "USD",
        "schemes": {"loyalty": {"tiers": [{"name": "regular"}, {"name": "gold", "when": {"monetary": ">= 800"}}]}},
        "governance": {"budgets": [{"name": "gifts", "at_most": 3, "period": "month"}]},
        "care": [
            {
                "name": "thanks",
                "kind": "thank_you",
                "trigger": "interaction",
                "interaction": "referral",
                "consent": "not_needed",
                "attribution": "30d",
            }
        ],
    }
    page = Page(Driver(timeline=Timeline([compile_policy(PolicySpec.model_validate(written))])))
    page.metrics.expect(page.driver.timeline)
    return page


def test_the_list_is_what_is_registered(page: Page) -> None:
    registered = {}
    for family in page.metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        registered[name] = family.type
    assert registered == {metric.name: metric.kind for metric in METRICS}
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_label_is_bounded_and_every_metric_explained() -> None:
    assert {label for metric in METRICS for label in metric.labels} == set(LABELS)
    for metric in METRICS:
        assert metric.meaning
        assert metric.act
        assert bool(metric.buckets) is (metric.kind == "histogram")


def test_the_page_of_the_docs_is_current() -> None:
    assert (ROOT / "docs/metrics.md").read_text(encoding="utf-8") == metric_docs.render(), "run make docs"


@promtool
def test_promtool_finds_nothing_to_say(page: Page) -> None:
    feed(page)
    text = generate_latest(page.metrics.registry)
    told = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")


def feed(page: Page) -> None:
    """Have every kind of thing happen once."""
    driver, metrics = page.driver, page.metrics
    orders = [order(f"c{n}", f"{n}-{k}", "2026-05-01T00:00:00Z", "200.00") for n in range(3) for k in range(n + 1)]
    effects = driver.feed(
        Topic.ORDERS, *orders, orders[0], (b"c1", b"oops"), order("c1", "late", "2026-01-01T00:00:00Z")
    )
    metrics.observe("orders", effects)
    metrics.observe("interactions", driver.feed(Topic.INTERACTIONS, touch("c1", 1, "2026-05-02T00:00:00Z", "dance")))
    metrics.observe("ticks", driver.advance(NOW))
    metrics.note_lag({("orders", 0): 7, ("orders", 5): 9})


def test_what_happened_is_counted(page: Page) -> None:
    feed(page)
    assert page.samples("tidemark_events_total") == {
        ("applied", "orders"): 8,
        ("dead_letter", "orders"): 1,
        ("applied", "interactions"): 1,
    }
    assert page.samples("tidemark_dead_letters_total") == {("not_json",): 1}
    assert page.value("tidemark_notes_total", note="duplicate") == 1
    assert page.value("tidemark_notes_total", note="late") == 1
    assert page.value("tidemark_notes_total", note="unknown_kind") == 1
    assert page.value("tidemark_lateness_seconds_sum") == 120 * 86_400
    assert sum(page.samples("tidemark_tier_changes_total").values()) > 3


def test_held_out_actions_are_counted_separately(page: Page) -> None:
    effects = page.driver.feed(
        Topic.CUSTOMERS,
        profile("ann", birthday="1990-05-20", timezone="UTC", consent={"marketing": True, "channels": ["email"]}),
    )
    effects = page.driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T00:00:00Z"))
    effects = page.driver.advance(NOW)
    (action,) = [action for action in effects.decisions.actions if "birthday" in action.kind]
    effects.decisions.actions.append(msgspec.structs.replace(action, holdout=True))
    page.metrics.observe("ticks", effects)
    assert page.samples("tidemark_care_actions_total") == {
        (action.channel, "emitted", action.rule): 1,
        (action.channel, "held_out", action.rule): 1,
    }


def test_what_is_left_of_a_budget_and_what_was_refused_for_want_of_it(page_of_care: Page) -> None:
    page, day = page_of_care, "2026-05-30T00:00:00Z"
    refused = page.samples("tidemark_care_refused_total")
    assert not refused
    assert page.value("tidemark_care_refused_total", rule="thanks", refusal="over_budget") == 0
    page.metrics.observe("ticks", page.driver.advance(parse_instant(day)))
    thanked = page.driver.feed(Topic.INTERACTIONS, *(touch(f"c{n}", n, day, "referral") for n in range(5)))
    page.metrics.observe("interactions", thanked)
    assert page.value("tidemark_care_budget_share", budget="gifts", partition="0") == 3
    assert page.value("tidemark_care_budget_left", budget="gifts", partition="0") == 0
    assert page.samples("tidemark_care_refused_total") == {("over_budget", "thanks"): 2}
    page.metrics.observe("ticks", page.driver.advance(parse_instant("2026-06-01T00:00:00Z")))
    assert page.value("tidemark_care_budget_left", budget="gifts", partition="0") == 3


def test_what_came_of_actions_is_counted_by_rule_and_tier(page_of_care: Page) -> None:
    page, day = page_of_care, "2026-05-30T00:00:00Z"
    (action,) = page.driver.feed(Topic.INTERACTIONS, touch("ann", 1, day, "referral")).decisions.actions
    opened = touch("ann", 2, day, "care.opened", action_id=action.action_id)
    page.metrics.observe("interactions", page.driver.feed(Topic.INTERACTIONS, opened))
    page.metrics.observe("orders", page.driver.feed(Topic.ORDERS, order("ann", 1, day)))
    counted = {("sent", outcome, "thanks", "regular"): 1 for outcome in ("opened", "converted")}
    assert page.samples("tidemark_care_outcomes_total") == counted


def test_time_driven_evaluations_are_counted_and_those_that_wait_are_shown(page: Page) -> None:
    driver = page.driver
    driver.feed(Topic.ORDERS, *(order(f"c{n}", n, "2026-01-01T00:00:00Z", "400.00") for n in range(5)))
    assert page.value("tidemark_due_scheduled", partition="0") == 5
    driver.partition.progress.stream_time = parse_instant("2026-05-31T00:00:00Z")
    assert page.value("tidemark_due_lag_seconds", partition="0") > 0
    effects = driver.advance("2026-05-31T00:00:01Z")
    page.metrics.observe("ticks", effects)
    assert page.value("tidemark_due_evaluated_total") == 5
    assert page.value("tidemark_due_lag_seconds", partition="0") == 0


def test_stream_time_and_its_distance_from_the_clock(page: Page) -> None:
    page.driver.advance(NOW - DAY_MS)
    assert page.value("tidemark_stream_time_seconds", partition="0") == (NOW - DAY_MS) / 1000
    assert page.value("tidemark_stream_time_lag_seconds", partition="0") == 86_400
    events = Page(page.driver, wall=False)
    assert events.value("tidemark_stream_time_lag_seconds", partition="0") is None


def test_only_partitions_that_are_held_are_shown(page: Page) -> None:
    feed(page)
    assert page.samples("tidemark_lag_records") == {("0", "orders"): 7}
    page.held = {}
    for metric in METRICS:
        if "partition" in metric.labels:
            assert page.samples(metric.name) == {}, metric.name


def test_recovery_shows_what_is_left(page: Page) -> None:
    page.remaining = {3: 1_000, 4: -1}
    assert page.value("tidemark_recovery_remaining_records", partition="3") == 1_000
    assert page.value("tidemark_recovery_remaining_records", partition="4") == 0


def test_tiers_and_bytes_follow_every_change_erasure_and_recovery(page: Page) -> None:
    driver = page.driver
    feed(page)
    agree(page)
    assert sum(page.tiers.values()) == 3
    # Erased, erased twice, erased and back within one batch, erased without having been there.
    driver.feed(Topic.CUSTOMERS, (b"c0", None))
    driver.feed(Topic.CUSTOMERS, (b"c0", None), (b"nobody", None))
    assert sum(page.tiers.values()) == 2
    agree(page)
    driver.feed(Topic.CUSTOMERS, (b"c1", None), profile("c1", timezone="UTC"), (b"c1", None))
    agree(page)
    driver.feed(
        Topic.ORDERS, order("c1", "again", "2026-05-03T00:00:00Z", "900.00"), order("c0", "x", "2026-05-03T00:00:00Z")
    )
    driver.feed(Topic.CUSTOMERS, profile("c0", timezone="UTC"), (b"c0", None), profile("c0", timezone="UTC"))
    agree(page)
    before = page.tiers, page.value("tidemark_state_bytes", partition="0")
    driver.recover(dict(driver.partition.rows))
    assert (page.tiers, page.value("tidemark_state_bytes", partition="0")) == before


def test_tiers_are_counted_right_if_a_crash_parted_rows_and_progress(page: Page) -> None:
    driver = page.driver
    feed(page)
    progress = driver.partition.rows[driver.partition.progress_key]
    driver.feed(Topic.ORDERS, order("c0", "much", "2026-05-04T00:00:00Z", "9000.00"))
    before = page.tiers
    driver.recover({**driver.partition.rows, driver.partition.progress_key: progress})
    assert page.tiers == before
    driver.feed(Topic.ORDERS, order("c0", "much", "2026-05-04T00:00:00Z", "9000.00"))  # the batch is gone through again
    assert page.tiers == before
    agree(page)


def agree(page: Page) -> None:
    """The running counts are what the rows say."""
    driver = page.driver
    rows = {name: driver.customer(name) for name in driver.customers}
    held = Counter(
        (scheme, standing.tier) for customer in rows.values() for scheme, standing in customer.standings.items()
    )
    assert {key: count for key, count in driver.partition.tier_counts.items() if count} == held
    assert driver.partition.row_bytes == sum(len(driver.partition.rows[name.encode()]) for name in rows)
    assert page.value("tidemark_customers", partition="0") == len(rows)


def test_errors_of_the_broker_are_counted_by_their_name(page: Page) -> None:
    page.metrics.refused(KafkaTimeoutError())
    assert page.samples("tidemark_producer_errors_total") == {("KafkaTimeoutError",): 1}
