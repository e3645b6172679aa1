"""Two shares compared: the difference, its confidence interval, and a verdict.

Wilson's score interval for each share (Wilson, 1927), and Newcombe's hybrid score interval for their difference
(Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17, 1998,
method 10). Both stay accurate for small numbers and for shares near 0 and 1, where the normal interval does not.
"""

from math import sqrt
from typing import Literal

import msgspec

#: The quantile of the normal distribution for intervals of 95 %.
Z = 1.959963984540054
#: With fewer customers than this in a group there is no verdict, whatever the interval.
MIN_GROUP = 30

Verdict = Literal["helps", "harms", "no_difference", "not_enough_data", "no_holdout"]


class Contrast(msgspec.Struct, frozen=True):
    """Successes and sizes of both groups; the difference of the shares and its 95 % interval, as fractions."""

    treated: int
    treated_of: int
    held: int
    held_of: int
    uplift: float | None
    low: float | None
    high: float | None
    verdict: Verdict


def wilson(successes: int, trials: int, z: float = Z) -> tuple[float, float]:
    """Return Wilson's score interval of a share. `trials` is at least one; `z` is the normal quantile."""
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def newcombe(first: tuple[int, int], second: tuple[int, int], z: float = Z) -> tuple[float, float]:
    """Return Newcombe's interval of the first share minus the second, each as (successes, trials)."""
    one, other = first[0] / first[1], second[0] / second[1]
    (low_one, high_one), (low_other, high_other) = wilson(*first, z), wilson(*second, z)
    below = sqrt((one - low_one) ** 2 + (high_other - other) ** 2)
    above = sqrt((high_one - one) ** 2 + (other - low_other) ** 2)
    return one - other - below, one - other + above


def contrast(treated: tuple[int, int], held: tuple[int, int]) -> Contrast:
    """Compare the treated with the held-out customers, each as (successes, customers)."""
    if not treated[1] or not held[1]:
        return Contrast(*treated, *held, None, None, None, "not_enough_data" if held[1] else "no_holdout")
    low, high = newcombe(treated, held)
    verdict: Verdict = "helps" if low > 0 else "harms" if high < 0 else "no_difference"
    if min(treated[1], held[1]) < MIN_GROUP:
        verdict = "not_enough_data"
    return Contrast(*treated, *held, treated[0] / treated[1] - held[0] / held[1], low, high, verdict)
