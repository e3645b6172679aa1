"""Workers of one group whose policies contradict each other: one of them gets no partition, and ends."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import load_settings
from streams.faust_ext.assignor import AgreeingAssignor, PolicyConflict, Stance, contradicting
from streams.kafka.topics import changelog_name
from streams.worker.app import build

POLICY = """
version: "{version}"
currency: USD
schemes:
  loyalty:
    tiers: [{{name: regular}}, {{name: gold, when: {{monetary: ">= {gold}"}}}}]
"""
FIRST, OTHER = {"v1": "a"}, {"v1": "b"}


@pytest.mark.parametrize(
    ("stances", "found"),
    [
        ({"m1": Stance(FIRST, 1), "m2": Stance(FIRST, 2)}, {}),
        ({"m1": Stance(FIRST, 1), "m2": Stance(OTHER, 2)}, {"m2": "v1"}),
        ({"m1": Stance(FIRST, 2), "m2": Stance(OTHER, 1)}, {"m1": "v1"}),
        # Clocks differ: a worker that the group has accepted stays in it.
        ({"m1": Stance(FIRST, 2, accepted=True), "m2": Stance(OTHER, 1)}, {"m2": "v1"}),
        ({"m2": Stance(FIRST, 1), "m1": Stance(OTHER, 1)}, {"m2": "v1"}),
        # A version under a new name, beside the known one or in its place.
        ({"m1": Stance(FIRST, 1), "m2": Stance(FIRST | {"v2": "c"}, 2), "m3": Stance({"v3": "d"}, 3)}, {}),
        ({"m1": Stance(FIRST, 1), "m2": Stance(FIRST | {"v2": "c"}, 2), "m3": Stance({"v2": "d"}, 3)}, {"m3": "v2"}),
        # What a refused worker says binds nobody; a release without policies contradicts nobody.
        (
            {
                "m1": Stance(FIRST, 1),
                "m2": Stance(OTHER | {"v2": "c"}, 2),
                "m3": Stance({"v2": "d"}, 3),
                "m4": Stance(),
            },
            {"m2": "v1"},
        ),
    ],
)
def test_who_contradicts_an_earlier_worker_is_found(stances: dict[str, Stance], found: dict[str, str]) -> None:
    assert contradicting(stances) == found


def assignor(directory: Path, name: str, version: str = "v1", gold: int = 100) -> Any:
    file = directory / f"{name}.yaml"
    file.write_text(POLICY.format(version=version, gold=gold))
    app = build(load_settings(data_dir=directory / name, policy=file, partitions=4))
    app.conf.canonical_url = f"http://{name}"
    return app.assignor


TOPICS = {"orders", changelog_name(load_settings(policy="demo"))}
CLUSTER = SimpleNamespace(partitions_for_topic=lambda _: {0, 1, 2, 3})


def rebalance(leader: Any, **members: Any) -> dict[str, int]:
    """Have members join and be assigned; return how many partitions of an input topic each one got."""
    joined = {name: member.metadata(TOPICS) for name, member in members.items()}
    assigned = leader.assign(CLUSTER, joined)
    for name, member in members.items():
        member.on_assignment(assigned[name])
    return {name: len(dict(assigned[name].assignment).get("orders", [])) for name in members}


def test_a_worker_that_contradicts_the_group_gets_no_partition_and_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crashed: list[BaseException] = []

    async def crash(error: BaseException) -> None:
        crashed.append(error)

    async def scenario() -> None:
        one, same, other = (assignor(tmp_path, name, gold=gold) for name, gold in (("a", 1), ("b", 1), ("c", 2)))
        next_version = assignor(tmp_path, "d", version="v2", gold=2)
        for each in (one, same, next_version):
            each.app.crash = None
        other.app.crash, other.app.loop = crash, asyncio.get_running_loop()
        assert rebalance(one, one=one) == {"one": 4}
        assert rebalance(one, one=one, other=other) == {"one": 4, "other": 0}
        # The newcomer may be the leader.
        assert rebalance(other, one=one, same=same, other=other) == {"one": 2, "same": 2, "other": 0}
        assert rebalance(same, one=one, same=same, next=next_version, other=other)["next"] > 0
        await asyncio.wrap_future(other._end)

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [type(error) for error in crashed] == [PolicyConflict] * 3
    assert str(crashed[0]).startswith("version 'v1' of the policy: other workers of the group decide by other content")
    assert caplog.messages[0] == "a worker gets no partition: version 'v1' of its policy is not the group's"


def test_a_default_that_is_written_down_is_no_other_content(tmp_path: Path) -> None:
    plain, spelled = tmp_path / "plain.yaml", tmp_path / "spelled.yaml"
    plain.write_text(POLICY.format(version="v1", gold=1))
    spelled.write_text("timezone: UTC\nweights: {}\n# a comment" + POLICY.format(version="v1", gold=1))
    one, other = (build(load_settings(data_dir=tmp_path / file.stem, policy=file)) for file in (plain, spelled))
    assert one.policy_contents == other.policy_contents
    assert isinstance(one.assignor, AgreeingAssignor)
