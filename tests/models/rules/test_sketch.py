from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules.sketch import BELOW, EDGES, Sketch, bucket_of, lower_edge, merge

numbers = st.integers(1, 2**62)
many = st.lists(st.integers(-5, 10**9), max_size=60)


def sketch(values: list[int]) -> Sketch:
    return Sketch(dict(Counter(map(bucket_of, values))))


def test_small_numbers_have_a_bucket_each_and_no_bucket_is_wider_than_one_percent() -> None:
    assert EDGES[:200] == tuple(range(1, 201))
    assert all((above - below - 1) * 100 <= below for below, above in pairwise(EDGES))
    assert len(EDGES) < 2**13 - 1  # an entry of a population has so much room


@given(numbers)
def test_the_lower_edge_of_a_number_s_bucket_is_within_one_percent_below_it(value: int) -> None:
    edge = lower_edge(bucket_of(value))
    assert edge <= value
    assert (value - edge) * 100 <= value


@given(numbers, numbers)
def test_buckets_are_in_the_order_of_their_numbers(one: int, other: int) -> None:
    assert (bucket_of(one) < bucket_of(other)) <= (one < other)


@pytest.mark.parametrize("value", [0, -1, -(10**12)])
def test_what_is_less_than_one_is_below(value: int) -> None:
    assert bucket_of(value) == BELOW
    assert lower_edge(BELOW) == 1


@given(many, many, many)
def test_merging_does_not_mind_how_a_population_is_divided(one: list[int], two: list[int], three: list[int]) -> None:
    whole = sketch(one + two + three)
    assert merge([sketch(three), sketch(one), sketch(two)]) == whole
    assert merge([merge([sketch(one), sketch(two)]), sketch(three)]) == whole
    assert merge([sketch(one), merge([sketch(two), sketch(three)])]) == whole


@given(many)
def test_a_histogram_comes_back_from_its_bytes(values: list[int]) -> None:
    assert Sketch.decode(sketch(values).encode()) == sketch(values)


@given(many.filter(bool), st.data())
def test_the_nth_from_the_top_is_in_the_bucket_that_is_returned(values: list[int], data: st.DataObject) -> None:
    nth = data.draw(st.integers(1, len(values)))
    exact = sorted(values, reverse=True)[nth - 1]
    found = sketch(values)
    assert found.nth_from_top(nth) == bucket_of(exact)
    assert found.at_least(bucket_of(exact)) == sum(bucket_of(value) >= bucket_of(exact) for value in values)
    with pytest.raises(IndexError):
        found.nth_from_top(len(values) + 1)


@pytest.mark.parametrize("spread", ["log-uniform", "log-normal"])
def test_a_million_customers_of_a_partition_take_less_than_20_kb(spread: str) -> None:
    draw = Random(11)
    buckets: Counter[int] = Counter()
    for _ in range(1_000_000 // 20):  # each stands for twenty
        value = 10 ** draw.uniform(0, 14) if spread == "log-uniform" else draw.lognormvariate(10, 3)
        buckets[bisect_right(EDGES, int(value))] += 20
    found = Sketch(dict(buckets))
    assert found.total == 1_000_000
    assert len(found.encode()) <= 20_000
    # Whatever the spread: every bucket taken, by more than sixty thousand each.
    assert len(Sketch(dict.fromkeys(range(len(EDGES) + 1), 65_535)).encode()) <= 20_000
