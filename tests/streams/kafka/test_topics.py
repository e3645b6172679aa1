"""How topics are created: what may be known without a broker."""

import pytest

from streams.kafka.topics import acknowledged_by


@pytest.mark.parametrize(("replication", "least"), [(3, "2"), (4, "3"), (5, "3"), (9, "5")])
def test_most_replicas_have_what_is_acknowledged(replication: int, least: str) -> None:
    assert acknowledged_by(replication) == {"min.insync.replicas": least}


@pytest.mark.parametrize("replication", [1, 2])
def test_with_fewer_than_three_replicas_the_brokers_default_holds(replication: int) -> None:
    assert acknowledged_by(replication) == {}
