"""The shapes of a customer report: facts only, in displayed units and exact instants (RFC 3339 in UTC)."""

from datetime import date
from typing import Any, Literal

import msgspec

from models.outputs import AtRisk, Direction
from models.rules.explain import Shown


class Counted(msgspec.Struct, frozen=True):
    """How far a metric looks back: `days`, or since a local date `first`, up to the end of the date `last` if any."""

    days: float | None = None
    first: date | None = None
    last: date | None = None


class ReportedComparison(msgspec.Struct, frozen=True):
    """A comparison and its reading, in displayed units. `value` None: undefined. `counted` None: no window."""

    metric: str
    value: Shown
    op: str
    threshold: str | float | int
    met: bool
    counted: Counted | None


class Shortfall(ReportedComparison, frozen=True):
    """A comparison that does not hold: how much is missing, and whether `more` or `less` of the metric is needed.

    `on` is the instant at which time alone makes it hold, if there is one. If `possible` is false, nothing can make it
    hold any more.
    """

    missing: Shown
    direction: Literal["more", "less"]
    on: str | None
    possible: bool


class Grade(msgspec.Struct, frozen=True):
    """A metric's level in a score, what the next level requires (None at the top), and what it adds to the score."""

    metric: str
    value: Shown
    counted: Counted | None
    level: int
    levels: int
    next: Shortfall | None
    gain: float


class NextTier(msgspec.Struct, frozen=True):
    """The next tier up. All of `needs` is missing. If `nearest`, there are alternatives and this is the nearest one.

    An empty `needs` means that nothing is known to suffice: the cut-off of a share has not been computed yet.
    """

    tier: str
    needs: list[Shortfall]
    nearest: bool


class Below(msgspec.Struct, frozen=True):
    """The held tier's rule has not held since `since`. Unless it holds again, the tier is lost at `falls_on`.

    `needs` and `nearest` are as in `NextTier`, for keeping the tier.
    """

    since: str
    falls_on: str
    needs: list[Shortfall]
    nearest: bool


class ExpectedMove(msgspec.Struct, frozen=True):
    """A move by time alone, if nothing more happens."""

    tier: str
    direction: Direction
    on: str


class Passed(msgspec.Struct, frozen=True):
    """A move between the last stored decision and the instant of the report."""

    scheme: str
    from_tier: str | None = msgspec.field(name="from")
    to_tier: str = msgspec.field(name="to")
    direction: Direction
    on: str


class SchemeReport(msgspec.Struct, frozen=True):
    """Everything about one scheme. `why` is what holds in the held tier's rule, or what fails in it if `below` is set.

    The lowest tier (`lowest`) has no rule; there, `why` is what fails in the next tier's rule. If the tiers are no
    `ladder` (stages, segments), there is no way up, and `next` is None.
    """

    scheme: str
    tier: str
    since: str
    lowest: bool
    ladder: bool
    why: list[ReportedComparison]
    below: Below | None
    next: NextTier | None
    at_risk: AtRisk | None
    ahead: list[ExpectedMove]
    grades: list[Grade]
    metrics: dict[str, Any]


class UpcomingCare(msgspec.Struct, frozen=True):
    """The next action of a care rule, if nothing more happens and consent stays as it is."""

    rule: str
    kind: str
    channel: str
    due_at: str


class NextPolicy(msgspec.Struct, frozen=True):
    """The next version of the policy and its start."""

    version: str
    on: str


class CustomerReport(msgspec.Struct, frozen=True):
    """One customer as of an instant. `timezone` is the policy's.

    The stored state was decided up to `decided_to`. From there, time passes to `as_of`: `settled` counts the waiting
    events that were applied on the way, and `passed` lists the moves. `orphans` counts refunded or
    cancelled orders that never came. `pending` counts events after `as_of`, which are
    not included.
    """

    customer_id: str
    as_of: str
    decided_to: str | None
    settled: int
    passed: list[Passed]
    pending: int
    orphans: int
    policy_version: str
    next_policy: NextPolicy | None
    timezone: str
    currency: str
    schemes: list[SchemeReport]
    care: list[UpcomingCare]
