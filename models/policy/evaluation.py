"""A customer at an instant, under the version of the policy that holds then: the input of rules and explanations."""

from models.customer.state import Customer, Standing
from models.policy.compiled import Policy
from models.rules.hysteresis import Position
from models.rules.metrics import Facts, Reading
from models.rules.scheme import Scheme


def facts_of(customer: Customer, policy: Policy, at: int) -> Facts:
    """Return the facts from which a customer's metrics are computed, as of an instant (ms)."""
    profile = customer.profile
    since = customer.first_at if profile is None or profile.registered_at is None else profile.registered_at
    return Facts(customer.ledger, customer.interactions, at if since is None else since, policy.weights)


class Evaluation:
    """A customer's facts as of an instant (ms), under the version of the policy that holds then.

    Readings are computed once, and only if something must be explained: most events change no tier.
    """

    __slots__ = ("_readings", "at", "customer", "facts", "policy")

    def __init__(self, customer: Customer, policy: Policy, at: int, facts: Facts) -> None:
        """Take a customer and their facts, as `facts_of` returns them for `policy` and `at` (ms)."""
        self.customer = customer
        self.policy = policy
        self.facts = facts
        self.at = at
        self._readings: list[Reading] | None = None

    @property
    def readings(self) -> list[Reading]:
        """The readings of all gauges of the policy, in their order."""
        if self._readings is None:
            self._readings = [gauge.read(self.facts, self.at) for gauge in self.policy.gauges]
        return self._readings

    def standing(self, scheme: Scheme) -> tuple[Standing | None, Position | None]:
        """Return the customer's standing and position in a scheme; the position is None if the held tier is unknown."""
        standing = self.customer.standings.get(scheme.name)
        if standing is None or standing.tier not in scheme.ranks:
            return standing, None
        return standing, Position(scheme.ranks[standing.tier], standing.since, standing.below_since)
