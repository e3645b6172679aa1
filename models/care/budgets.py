"""Budgets that hold over all partitions without asking one another: each partition has its own share from the start.

The shares of a period add up to exactly the budget. What a partition has spent is part of its recovered state. So is,
before an action goes out, that it is paid for: what a crash makes a worker decide again is not paid for twice, and what
it then decides otherwise stays paid for.
"""

from collections.abc import Container, Sequence
from datetime import date, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from models.identity import id64
from models.instants import local_date
from models.policy.care_rules import Action, Budget

#: What was spent is remembered for so many periods; an action of an earlier one is refused.
PERIODS_KEPT = 3

#: Spent cost by the name of a budget and the ordinal of the first day of the period.
Spent = dict[str, dict[int, int]]


class BudgetShare:
    """What one of `count` partitions may spend, and has. `spent` is changed in place.

    `reserved`: actions (their ids, hashed) that were let through before. `passed` are those that this purse has let
    through, and `paid` whether it has paid for any: what is spent on later ones must not shut them out in a repetition.
    """

    def __init__(self, spent: Spent, number: int = 0, count: int = 1, reserved: Container[int] = ()) -> None:
        """`number` is the partition's, from 0 on."""
        self.spent = spent
        self.passed: list[int] = []
        self.paid = False
        self._reserved = reserved
        self._number = number
        self._count = count

    def share(self, budget: Budget, at: int, zone: ZoneInfo) -> int:
        """Return what the partition may spend of a budget in all of the period of an instant (ms)."""
        return share(budget, period_start(budget.period, local_date(at, zone)), self._number, self._count)

    def left(self, budget: Budget, at: int, zone: ZoneInfo) -> int:
        """Return what the partition may still spend of a budget in the period of an instant (ms)."""
        begun = period_start(budget.period, local_date(at, zone))
        spent = self.spent.get(budget.name, {})
        if len(spent) >= PERIODS_KEPT and begun < min(spent):
            return 0
        return share(budget, begun, self._number, self._count) - spent.get(begun, 0)

    def pays(
        self, budgets: Sequence[Budget], action: Action, action_id: str, at: int, zone: ZoneInfo, *, spends: bool
    ) -> bool:
        """Whether all of some budgets have room for an action at an instant (ms); taken up where it `spends`."""
        identity = id64(action_id)
        if identity in self._reserved:
            return True
        if not all(self.left(budget, at, zone) >= action.cost for budget in budgets):
            return False
        self.passed.append(identity)
        if spends:
            self.paid = True
            for budget in budgets:
                begun = period_start(budget.period, local_date(at, zone))
                spent = self.spent.setdefault(budget.name, {})
                spent[begun] = spent.get(begun, 0) + action.cost
                while len(spent) > PERIODS_KEPT:
                    del spent[min(spent)]
        return True


def share(budget: Budget, begun: int, number: int, count: int) -> int:
    """Return the share of one of `count` partitions; what does not divide goes to others from period to period."""
    each, rest = divmod(budget.at_most, count)
    first = id64(f"{budget.name}\x1f{begun}") % count
    return each + ((number - first) % count < rest)


@lru_cache(maxsize=4_096)
def period_start(period: str, day: date) -> int:
    """Return the ordinal of the first day of the period that a day lies in; weeks begin on Monday."""
    match period:
        case "day":
            first = day
        case "week":
            first = day - timedelta(days=min(day.weekday(), day.toordinal() - 1))
        case "month":
            first = day.replace(day=1)
        case "quarter":
            first = day.replace(month=day.month - (day.month - 1) % 3, day=1)
        case _:
            first = day.replace(month=1, day=1)
    return first.toordinal()
