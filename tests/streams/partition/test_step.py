from streams.partition.step import few_at_a_time


def test_a_few_are_made_before_the_first_is_taken() -> None:
    made: list[int] = []
    taken = few_at_a_time(made.append(number) or number for number in range(1_000))
    assert next(taken) == 0
    assert 1 < len(made) < 1_000
    assert list(taken) == list(range(1, 1_000))
    assert list(few_at_a_time([])) == []
