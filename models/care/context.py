"""What a care rule sees of one evaluation, and how it proposes an action."""

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple
from zoneinfo import ZoneInfo

from models.care.budgets import BudgetShare
from models.customer.state import Customer, Mark
from models.events import Campaign, Pending
from models.instants import local_date, zone
from models.outputs import Move, TierChange, Why
from models.policy.care_rules import Action
from models.policy.compiled import Policy
from models.policy.evaluation import Evaluation


class Candidate(NamedTuple):
    """A proposed action, before governance. Its occasion arose at `since` (ms).

    `tier` is the tier held then. `anchor` (ms) is the sign of life that a silence is measured from, if any; a later one
    outdates the action.
    """

    action: Action
    occasion: str
    since: int
    why: list[Why]
    template: str
    tier: str | None
    anchor: int | None = None


class CareContext:
    """An evaluation as care rules see it: the tier changes it made and the event that caused it, if any.

    `budget` is what actions may spend; None means that budgets are not counted.
    """

    __slots__ = ("_today", "_zone", "at", "budget", "candidates", "customer", "evaluation", "event", "moved", "policy")

    def __init__(
        self,
        evaluation: Evaluation,
        moved: Sequence[TierChange | Move],
        event: Pending | Campaign | None,
        budget: BudgetShare | None,
    ) -> None:
        self.evaluation = evaluation
        self.customer: Customer = evaluation.customer
        self.policy: Policy = evaluation.policy
        self.at = evaluation.at
        self.moved = moved
        self.event = event
        self.budget = budget
        self.candidates: list[Candidate] = []
        self._zone: ZoneInfo | None = None
        self._today: date | None = None

    @property
    def zone(self) -> ZoneInfo:
        """The customer's own time zone; the policy's if they have none."""
        if self._zone is None:
            profile = self.customer.profile
            own = None if profile is None else profile.timezone
            self._zone = self.policy.zone if own is None else zone(own)
        return self._zone

    @property
    def today(self) -> date:
        """The calendar date in the customer's time zone."""
        if self._today is None:
            self._today = local_date(self.at, self.zone)
        return self._today

    def mark(self, action: Action) -> Mark:
        """Return what the rule remembers of the customer. If there is nothing yet, add an empty mark and return it."""
        mark = self.customer.marks.get(action.rule)
        if mark is None:
            mark = self.customer.marks[action.rule] = Mark()
        return mark

    def tier(self, action: Action) -> str | None:
        """Return the tier held in the action's scheme; None before any evaluation of it."""
        standing = self.customer.standings.get(action.scheme)
        return None if standing is None else standing.tier

    def fire(
        self,
        action: Action,
        occasion: str,
        why: list[Why] | None = None,
        *,
        since: int | None = None,
        anchor: int | None = None,
        **words: str,
    ) -> None:
        """Propose an action if the customer's tier is one of the rule's.

        `words` replace `{names}` in the template. `since` and `anchor` (ms) are as in `Candidate`.
        """
        tier = self.tier(action)
        if action.tiers is not None and tier not in action.tiers:
            return
        template = action.template
        if "{" in template:
            for name, word in {**words, "tier": tier or ""}.items():
                template = template.replace(f"{{{name}}}", word)
        at = self.at if since is None else since
        self.candidates.append(Candidate(action, occasion, at, why or [], template, tier, anchor))
