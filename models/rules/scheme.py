"""A scheme as it is evaluated: tiers with rules, lowest first, and how customers fall."""

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
    """A tier and its rule; the lowest has none."""

    name: str
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Demotion:
    """How a customer falls: durations in ms; `keep` names the qualification period, None where there is none."""

    grace: int = 0
    step: Literal["qualified", "one"] = "qualified"
    min_stay: int = 0
    keep: Literal["calendar_year", "anniversary"] | None = None

    @property
    def immediate(self) -> bool:
        """Whether who stands below falls at once."""
        return not self.grace and not self.min_stay and self.keep is None


@dataclass(frozen=True, slots=True)
class Scheme:
    """A compiled scheme. `gauges` are the indexes of what its rules read, `shown` of what its events show.

    `ladder`: whether a customer climbs from tier to tier. Stages of a life and segments are ordered, so that a move
    has a direction, but nobody works their way up to "dormant". `sinking`: time alone lifts nobody. `ranking`: how its
    cut-offs are computed, None where they are not.
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


#: `look(facts, at)`: the rank of each ladder (how many of its rules, from the hardest, need not be looked at: 0 where
#: none holds), and the first instant (ms) after `at` at which time alone may change one; NO_CHANGE if never.
EvaluateRules = Callable[[Facts, int], tuple[tuple[int, ...], int]]
