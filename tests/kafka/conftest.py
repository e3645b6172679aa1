"""Fixtures for the tests against real Apache Kafka: one shared broker, and clusters for a single test.

Every test in this directory has the `kafka` marker. If Kafka cannot run, tests that need a broker are skipped with the
reason, or fail with it if TIDEMARK_REQUIRE_KAFKA=1 is set.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.kafka.artefacts import unavailable_reason
from tests.kafka.cluster import ClusterFactory, KafkaCluster

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this directory: the hook gets the items of the whole run."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kafka)


def require_kafka() -> None:
    reason = unavailable_reason()
    if reason is None:
        return
    if os.environ.get("TIDEMARK_REQUIRE_KAFKA") == "1":
        pytest.fail(f"TIDEMARK_REQUIRE_KAFKA=1, but Kafka cannot run here. {reason}", pytrace=False)
    pytest.skip(f"Kafka cannot run here. {reason}")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A broker shared by all tests of this process. Tests use their own topics and groups, and leave it running."""
    require_kafka()
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture
def kafka_cluster_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFactory]:
    """A function that starts clusters for this test alone, which may break them. They end with the test."""
    require_kafka()
    with contextlib.ExitStack() as clusters:

        def start(brokers: int = 1, cluster_overrides: Mapping[str, str] | None = None) -> KafkaCluster:
            directory = tmp_path_factory.mktemp("kafka-cluster")
            return clusters.enter_context(KafkaCluster(directory, brokers, cluster_overrides))

        yield start
