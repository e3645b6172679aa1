"""The versions of a policy by the instants from which they hold."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

from models.errors import PolicyError
from models.identity import id64
from models.policy.compiled import Policy


class Timeline:
    """The versions of a policy. The first one also holds before its start."""

    def __init__(self, versions: Sequence[Policy]) -> None:
        """Raises PolicyError if two versions share a name or a start, or differ in currency."""
        self.versions = sorted(versions, key=lambda policy: policy.effective_from)
        self._starts = [policy.effective_from for policy in self.versions]
        self._only = self.versions[0] if len(self.versions) == 1 else None
        for what, values in (("version", [p.version for p in self.versions]), ("effective_from", self._starts)):
            if len(set(values)) < len(values):
                raise PolicyError(f"{what}: found the same twice, allowed is one for each version of the policy")
        if len({policy.money.currency for policy in self.versions}) > 1:
            raise PolicyError("currency: found several, allowed is one for all versions: amounts are kept in it")
        #: A hash of all versions: a row stores it to record under which timeline it was evaluated.
        self.fingerprint = id64("|".join(policy.digest for policy in self.versions)) >> 32

    @property
    def contents(self) -> dict[str, str]:
        """The content of each version, hashed, by its name."""
        return {policy.version: policy.content for policy in self.versions}

    @property
    def latest(self) -> Policy:
        """The version with the latest start."""
        return self.versions[-1]

    def at(self, instant: int) -> Policy:
        """Return the version that holds at an instant (ms)."""
        if self._only is not None:
            return self._only
        return self.versions[max(0, bisect_right(self._starts, instant) - 1)]

    def next_start(self, instant: int) -> int | None:
        """Return the next instant (ms) after `instant` at which another version begins; None if there is none."""
        if self._only is not None:
            return None
        index = max(1, bisect_right(self._starts, instant))
        return self._starts[index] if index < len(self._starts) else None

    def changes_after(self, instant: int, *, late: bool) -> int | None:  # noqa: ARG002  # see RankedTimeline
        """Return when (ms) after `instant` a customer is due whatever happens to them; None if never.

        `late`: the evaluation may have come after day ends that followed `instant`. Only rankings care.
        """
        return self.next_start(instant)

    @cached_property
    def horizon(self) -> int:
        """The longest window (ms) of any version."""
        return max(policy.horizon for policy in self.versions)

    @cached_property
    def kept_kinds(self) -> frozenset[str]:
        """Interaction kinds that some metric of some version may read."""
        return frozenset[str]().union(*(policy.kept_kinds for policy in self.versions))

    @cached_property
    def watched_kinds(self) -> frozenset[str]:
        """Interaction kinds whose latest instant some care rule of some version reads."""
        return frozenset[str]().union(*(policy.governance.watched for policy in self.versions))

    @cached_property
    def budgeted(self) -> bool:
        """Whether some version has budgets. If so, the customers of a partition must be decided in order of time."""
        return any(policy.governance.budgets for policy in self.versions)

    @cached_property
    def announces(self) -> bool:
        """Whether some care rule of some version handles campaigns."""
        return any(policy.campaign_subjects for policy in self.versions)
