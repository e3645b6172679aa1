"""Budgets over all partitions without coordination: each partition spends from a fixed share of its own.

The shares of a period add up to exactly the budget. What a partition has spent is part of its recovered state. Before
an action goes out, the state records that it is paid for. After a crash, an action that is decided again is not paid
for twice; if the second decision differs, the first payment stays spent.
"""

from collections.abc import Container, Sequence
from datetime import date, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from models.identity import id64
from models.instants import local_date
from models.policy.care_rules import Action, Budget

#: Spending is remembered for this many periods; an action of an earlier period is refused.
PERIODS_KEPT = 3

#: Spent cost by the name of a budget and the ordinal of the first day of the period.
Spent = dict[str, dict[int, int]]


class BudgetShare:
    """What one of `count` partitions may spend and has spent. `spent` is changed in place.

    `reserved` holds the hashed ids of actions that were paid for before a crash: they pass again, whatever was spent
    since. `passed` lists the hashed ids that this share let through, and `paid` says whether it spent anything.
    """

    def __init__(self, spent: Spent, number: int = 0, count: int = 1, reserved: Container[int] = ()) -> None:
        """`number` is the partition's number, from 0; `count` is the number of partitions."""
        self.spent = spent
        self.passed: list[int] = []
        self.paid = False
        self._reserved = reserved
        self._number = number
        self._count = count

    def share(self, budget: Budget, at: int, zone: ZoneInfo) -> int:
        """Return what the partition may spend of a budget in the whole period that holds an instant (ms)."""
        return share(budget, period_start(budget.period, local_date(at, zone)), self._number, self._count)

    def left(self, budget: Budget, at: int, zone: ZoneInfo) -> int:
        """Return what the partition may still spend of a budget in the period that holds an instant (ms)."""
        begun = period_start(budget.period, local_date(at, zone))
        spent = self.spent.get(budget.name, {})
        if len(spent) >= PERIODS_KEPT and begun < min(spent):
            return 0
        return share(budget, begun, self._number, self._count) - spent.get(begun, 0)

    def pays(
        self, budgets: Sequence[Budget], action: Action, action_id: str, at: int, zone: ZoneInfo, *, spends: bool
    ) -> bool:
        """Whether all the budgets have room for an action at an instant (ms). If so and it `spends`, spend its cost."""
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
    """Return the share of partition `number` of `count`. The remainder goes to other partitions in each period."""
    each, rest = divmod(budget.at_most, count)
    first = id64(f"{budget.name}\x1f{begun}") % count
    return each + ((number - first) % count < rest)


@lru_cache(maxsize=4_096)
def period_start(period: str, day: date) -> int:
    """Return the ordinal of the first day of the period that holds a day. Weeks begin on Monday."""
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
