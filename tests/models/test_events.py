import pytest

from models.events import Erasure, Event, Profile, Topic, rank
from tests.models.build import cancel, contact, order, refund


def test_events_of_one_instant_are_taken_profiles_first_interactions_last() -> None:
    ranks: dict[int, list[Event]] = {
        Topic.CUSTOMERS: [Profile(1), Erasure()],
        Topic.ORDERS: [order(1, "a"), refund(1, "r", "a", 1), cancel(1, "a")],
        Topic.INTERACTIONS: [contact(1, "i")],
    }
    for expected, events in ranks.items():
        assert [rank(event) for event in events] == [expected] * len(events)
    assert Topic.CUSTOMERS < Topic.ORDERS < Topic.INTERACTIONS < Topic.CAMPAIGNS
    assert [topic.label for topic in Topic] == ["customers", "orders", "interactions", "campaigns"]


@pytest.mark.parametrize(
    ("known", "arrived", "replaces"),
    [(5, 6, True), (5, 5, True), (5, 4, False), (None, 4, True), (5, None, True), (None, None, True)],
)
def test_the_later_profile_wins_by_update_else_by_arrival(
    known: int | None, arrived: int | None, replaces: bool
) -> None:
    assert Profile(arrived, updated_at=arrived).replaces(Profile(known, updated_at=known)) is replaces
