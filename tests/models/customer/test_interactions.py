from itertools import permutations

import pytest

from models.customer import interactions as module
from models.customer.interactions import Interactions
from models.customer.ledger import Outcome
from models.events import Interaction
from tests.models.build import contact

WEIGHTS = {"visit": 1_000, "complaint": -2_500}


def kept(*events: Interaction) -> Interactions:
    book = Interactions()
    for event in events:
        assert book.check(event) is Outcome.APPLIED
        book.apply(event)
    return book


def test_interactions_stand_sorted_whatever_their_order_of_arrival() -> None:
    events = [contact(20, "b"), contact(10, "a", "survey", 9_000), contact(20, "c"), contact(5, "d", "complaint")]
    seen = set()
    for shuffled in permutations(events):
        book = kept(*shuffled)
        seen.add((tuple(book.times), tuple(book.ids), tuple(book.kinds), tuple(book.values)))
    assert len(seen) == 1
    assert seen.pop()[0] == (5, 10, 20, 20)


def test_a_redelivered_interaction_is_a_duplicate_and_a_differing_one_a_conflict() -> None:
    book = kept(contact(10, "a", "survey", 9_000))
    assert book.check(contact(10, "a", "survey", 9_000)) is Outcome.DUPLICATE
    for other in (contact(11, "a", "survey", 9_000), contact(10, "a", "visit"), contact(10, "a", "survey", 8_000)):
        assert book.check(other) is Outcome.CONFLICT


def test_sums_counts_and_scores_look_strictly_after_the_instant() -> None:
    book = kept(
        contact(10, "a", "visit"),
        contact(11, "b", "survey", 8_000),
        contact(12, "c", "complaint"),
        contact(13, "d", "survey", 3_500),
        contact(14, "e", "referral"),
        contact(14, "f", "sings"),
    )
    assert [book.weight(since, WEIGHTS) for since in (9, 10, 11, 12)] == [-1_500, -2_500, -2_500, 0]
    assert [book.scores(since) for since in (10, 11, 13)] == [(11_500, 2), (3_500, 1), (0, 0)]
    assert [book.count(since, "referral") for since in (13, 14)] == [1, 0]


def test_a_survey_score_counts_only_for_surveys() -> None:
    assert kept(contact(10, "a", "review", 5_000), contact(10, "b", "survey", None)).scores(0) == (0, 0)


def test_forgets_up_to_and_including_an_instant() -> None:
    book = kept(*(contact(number, str(number)) for number in range(5)))
    book.forget_until(2)
    assert list(book.times) == [3, 4]
    assert len(book.ids) == len(book.kinds) == len(book.values) == 2
    book.forget_until(2)
    assert list(book.times) == [3, 4]


def test_beyond_the_cap_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INTERACTIONS", 3)
    book = kept(*(contact(number, str(number)) for number in (4, 2, 3, 5, 1)))
    assert list(book.times) == [3, 4, 5]
