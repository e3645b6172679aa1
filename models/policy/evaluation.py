"""A customer as of an instant, under the version of the policy that holds then: what rules and explanations look at."""

from models.customer.state import Customer, Standing
from models.policy.compiled import Policy
from models.rules.hysteresis import Position
from models.rules.metrics import Facts, Reading
from models.rules.scheme import Scheme


def facts_of(customer: Customer, policy: Policy, at: int) -> Facts:
    """Return what the metrics of a customer are computed from, as of an instant (ms)."""
    profile = customer.profile
    since = customer.first_at if profile is None or profile.registered_at is None else profile.registered_at
    return Facts(customer.ledger, customer.interactions, at if since is None else since, policy.weights)


class Evaluation:
    """A customer's facts as of an instant (ms), under the version of the policy that holds then.

    Readings are taken once, when something is to be explained; most events change no tier.
    """

    __slots__ = ("_readings", "at", "customer", "facts", "policy")

    def __init__(self, customer: Customer, policy: Policy, at: int) -> None:
        self.customer = customer
        self.policy = policy
        self.facts = facts_of(customer, policy, at)
        self.at = at
        self._readings: list[Reading] | None = None

    @property
    def readings(self) -> list[Reading]:
        """Every reading that the policy's rules and events look at."""
        if self._readings is None:
            self._readings = [gauge.read(self.facts, self.at) for gauge in self.policy.gauges]
        return self._readings

    def standing(self, scheme: Scheme) -> tuple[Standing | None, Position | None]:
        """Return how the customer stands in a scheme; (None, None) before any evaluation of it."""
        standing = self.customer.standings.get(scheme.name)
        if standing is None or standing.tier not in scheme.ranks:
            return standing, None
        return standing, Position(scheme.ranks[standing.tier], standing.since, standing.below_since)
