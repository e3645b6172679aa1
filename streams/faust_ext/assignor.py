"""Partitions only for workers that decide by the same policies.

Two workers of a group may read files that say different things under one version's name. Customers would then be
decided about differently, by the partition they are in. So each worker joins the group with a hash of every version in
its file. The leader of the group sees all of them at each rebalance, before anything is assigned: a worker that
contradicts another gets no partition, and ends. The group itself knows who is alive, so a file may be changed under
the same names while no worker runs. A version under a new name contradicts nobody.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from models.errors import TidemarkError

if TYPE_CHECKING:
    from concurrent.futures import Future

log = logging.getLogger(__name__)


class PolicyConflict(TidemarkError):
    """The group decides by another policy under the same version. Name the new one differently, or stop all first."""


class Stance(msgspec.Struct):
    """What a worker joins with: the hash of each version's content by name, and its start (ms).

    `accepted`: it was not refused in an earlier rebalance.
    """

    contents: dict[str, str] = {}
    since: int = 0
    accepted: bool = False


class _Joining(msgspec.Struct):
    policy: Stance = msgspec.field(default_factory=Stance)


class _Assigned(msgspec.Struct):
    refused: str | None = None


def contradicting(stances: Mapping[str, Stance]) -> dict[str, str]:
    """Return the members that contradict others, and a version that both know. Earlier members are in the right."""
    known: dict[str, str] = {}
    found: dict[str, str] = {}
    for member, stance in sorted(stances.items(), key=lambda each: (not each[1].accepted, each[1].since, each[0])):
        version = next((name for name, content in stance.contents.items() if known.get(name, content) != content), None)
        if version is None:
            known |= stance.contents
        else:
            found[member] = version
    return found


class AgreeingAssignor(PartitionAssignor):
    """Faust's assignor, which leaves out workers whose policies contradict those of the group.

    The app has `policy_contents`, the hashes of its versions by name.
    """

    def __init__(self, app: Any, replicas: int = 0) -> None:
        super().__init__(app, replicas)
        self._stance = Stance(dict(app.policy_contents), time.time_ns() // 1_000_000)
        self._end: Future[None] | None = None

    def metadata(self, topics: set[str]) -> ConsumerProtocolMemberMetadata:
        """Return what this worker joins the group with."""
        stock = super().metadata(topics)
        return ConsumerProtocolMemberMetadata(
            stock.version, stock.subscription, _with(stock.user_data, policy=msgspec.to_builtins(self._stance))
        )

    def _perform_assignment(self, cluster: ClusterMetadata, member_metadata: Any) -> Any:
        stances = {
            member: msgspec.json.decode(joined.user_data, type=_Joining).policy
            for member, joined in member_metadata.items()
        }
        refused = contradicting(stances)
        agreeing = {member: joined for member, joined in member_metadata.items() if member not in refused}
        assignments = super()._perform_assignment(cluster, agreeing)
        for member, version in refused.items():
            log.warning("a worker gets no partition: version %r of its policy is not the group's", version)
            url = self._get_client_metadata(member_metadata[member]).url
            nothing = ClientMetadata(
                assignment=ClientAssignment(actives={}, standbys={}), url=url, changelog_distribution={}
            )
            user_data = self._compress(_with(nothing.dumps(), refused=version))
            assignments[member] = ConsumerProtocolMemberAssignment(self.version, [], user_data)
        return assignments

    def on_assignment(self, assignment: Any) -> None:
        """Take an assignment; if this worker was refused, have the app end."""
        refused = msgspec.json.decode(self._decompress(assignment.user_data), type=_Assigned).refused
        super().on_assignment(assignment)
        if refused is None:
            self._stance.accepted = True
            return
        error = PolicyConflict(
            f"version {refused!r} of the policy: other workers of the group decide by other content under this name; "
            "give the changed version a new name, or stop all workers before you start them with the changed file"
        )
        # The group's client may run in a thread of its own.
        self._end = asyncio.run_coroutine_threadsafe(self.app.crash(error), self.app.loop)


def _with(encoded: bytes, **more: Any) -> bytes:
    """Return a JSON object with more fields, which stock Faust ignores."""
    return msgspec.json.encode(msgspec.json.decode(encoded) | more)
