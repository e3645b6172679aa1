"""A compiled scheme: tiers with rules, lowest first, and how customers fall."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from models.rules.comparisons import Junction, Rule
from models.rules.metrics import Facts
from models.rules.ranking import Ranking

#: A rule that never holds: a percentile tier whose cut is not known yet.
NEVER_HOLDS = Junction(False, ())


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier and its rule. The lowest tier has none."""

    name: str
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Demotion:
    """How a customer falls. Durations are in ms; `keep` names the qualification period, if there is one.

    `clawback`: a refund or cancellation that takes the held tier's conditions away takes the tier at once.
    """

    grace: int = 0
    step: Literal["qualified", "one"] = "qualified"
    min_stay: int = 0
    keep: Literal["calendar_year", "anniversary"] | None = None
    clawback: bool = False

    @property
    def immediate(self) -> bool:
        """Whether a customer who is below their tier falls at once."""
        return not self.grace and not self.min_stay and self.keep is None


@dataclass(frozen=True, slots=True)
class Scheme:
    """A compiled scheme. `gauges` are the indexes of the gauges that its rules read, `shown` of those in its events.

    `ladder` says whether customers climb from tier to tier. Lifecycle stages and segments are ordered, so that a move
    has a direction, but nobody works their way up to "dormant". `sinking` says that time alone never lifts anybody.
    `ranking` is how cut-offs are computed, None if they are not.
    """

    name: str
    tiers: tuple[Tier, ...]
    demotion: Demotion
    gauges: tuple[int, ...]
    shown: tuple[int, ...]
    ranks: Mapping[str, int]
    ladder: bool
    sinking: bool
    ranking: Ranking | None = None


#: `evaluate_rules(facts, at)` returns the rank of each ladder (the index of the highest rule that holds, else 0) and
#: the first instant (ms) after `at` at which time alone may change a rank; NO_CHANGE if there is none.
EvaluateRules = Callable[[Facts, int], tuple[tuple[int, ...], int]]
