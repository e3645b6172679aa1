"""The policy of rfm.yaml as code: the window, the thresholds and the tiers. Durations in ms."""

from typing import NamedTuple

VERSION = "2026-11-01"
DAY_MS = 86_400_000
WINDOW_MS = 90 * DAY_MS
GRACE_MS = 30 * DAY_MS
NEW_MS, ACTIVE_MS, DORMANT_MS = 30 * DAY_MS, 45 * DAY_MS, 120 * DAY_MS
SILVER_CENTS, GOLD_CENTS, PLATINUM_CENTS = 300_00, 1200_00, 2500_00
SILVER_ORDERS, GOLD_ORDERS, PLATINUM_ORDERS = 3, 12, 15
PLATINUM_MS = 60 * DAY_MS
#: Ranks of the tiers, which give a move its direction.
RANKS = {
    "loyalty": {"regular": 0, "silver": 1, "gold": 2, "platinum": 3},
    "stage": {"churned": 0, "dormant": 1, "prospect": 2, "new": 3, "active": 4},
}


class Metrics(NamedTuple):
    """Metrics at an instant: orders in the window, their sum in cents, ms since the last and since the first order."""

    frequency: int
    monetary: int
    recency: int
    tenure: int


def loyalty(frequency: int, monetary: int, recency: int) -> str:
    """Return the highest tier of the ladder whose rule holds."""
    if monetary >= PLATINUM_CENTS and frequency >= PLATINUM_ORDERS and recency <= PLATINUM_MS:
        return "platinum"
    if monetary >= GOLD_CENTS or frequency >= GOLD_ORDERS:
        return "gold"
    if monetary >= SILVER_CENTS and frequency >= SILVER_ORDERS:
        return "silver"
    return "regular"


def stage(recency: int, tenure: int) -> str:
    """Return the stage of a customer's life. Every customer has ordered, so there are no prospects."""
    if recency <= ACTIVE_MS:
        return "new" if tenure <= NEW_MS else "active"
    return "dormant" if recency <= DORMANT_MS else "churned"
