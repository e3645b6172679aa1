"""Steps of time: customers who are due are evaluated and campaigns are announced, in the order of their instants."""

from models.customer.state import NEVER, row_instant
from models.engine.decide import Engine
from streams.partition.campaign_steps import CampaignSteps
from streams.partition.step import Step

#: How many customers a step evaluates before its effects are performed; the next step follows at once.
DUE_PER_STEP = 2_000


class TimeSteps:
    """Moves a partition towards an instant, a bounded step at a time."""

    def __init__(self, engine: Engine, campaigns: CampaignSteps) -> None:
        self._engine = engine
        self._campaigns = campaigns

    def step_towards(self, step: Step, horizon: int) -> bool:
        """Do one step towards `horizon` (ms): evaluate who is due or, if nobody is, announce the campaign that is.

        A campaign is announced once everything up to its instant is decided. Returns False if there is nothing to do.
        """
        effects = step.effects
        campaign = step.partition.next_campaign(horizon)
        if campaign is not None:
            horizon = campaign.at
        if step.partition.timers.next_instant() <= horizon:
            self._evaluate_due(step, horizon)
        elif campaign is not None:
            self._campaigns.announce(step, campaign)
        else:
            return False
        effects.more = effects.more or campaign is not None
        return True

    def _evaluate_due(self, step: Step, horizon: int) -> None:
        """Evaluate customers that are due up to `horizon` (ms), at most as many as a step may.

        Each is brought up to the horizon at once. If customers share budgets, each is brought up only to the instant
        that has come, because the order of time decides who is served.
        """
        partition, touched, engine = step.partition, step.touched, self._engine
        timers, timeline, budgeted = partition.timers, engine.timeline, engine.timeline.budgeted

        def instant_of(key: bytes) -> int:
            customer = touched.get(key)
            if customer is not None:
                return customer.next_instant
            row = partition.rows.get(key)
            return NEVER if row is None else row_instant(row, timeline.fingerprint)

        for key in timers.pop_due(horizon, instant_of):
            until = instant_of(key) if budgeted else horizon
            customer = touched.get(key) or step.load(key)
            customer.asked = NEVER  # its timer was just taken
            engine.advance(customer, until, step.effects.decisions, step.decided_at, step.effects.budget_share)
            if budgeted:
                customer.asked = customer.next_instant
                timers.schedule(key, customer.asked)
            if len(touched) >= DUE_PER_STEP:
                step.effects.more = True
                break
        step.effects.evaluated += len(touched)
