"""Steps of campaigns: announcements are kept until their instants, then go through the customers, a part a step."""

from collections.abc import Iterable

from models.customer.state import Customer
from models.engine.decide import Engine
from models.errors import BadRecord
from models.events import Campaign, Topic
from streams.partition.inputs import DeadLetters, Decoder, Record, unapplied
from streams.partition.step import Step

#: How many customers of a partition one step of a campaign goes through before its effects are performed.
CUSTOMERS_PER_STEP = 2_000


class CampaignSteps:
    """Keeps announcements, and announces campaigns whose instants have come."""

    def __init__(self, engine: Engine, wire: Decoder, dead_letters: DeadLetters) -> None:
        self._engine = engine
        self._wire = wire
        self._dead_letters = dead_letters

    def read(self, step: Step, name: str, records: Iterable[Record], *, latest: int) -> None:
        """Keep the campaigns that records announce; those whose instant is after `latest` (ms) are refused."""
        partition, effects, topic = step.partition, step.effects, Topic.CAMPAIGNS
        next_offset, newest = partition.next_offset(topic), None
        for record in unapplied(records, next_offset, effects):
            next_offset = record.offset + 1
            try:
                campaign = self._wire.decode_campaign(record.value, latest)
            except BadRecord as bad:
                self._dead_letters.add(effects, bad, name, partition.number, record)
                continue
            effects.events += 1
            note = partition.announcements.add(campaign)
            if note is not None:
                effects.decisions.counts[note] += 1
            newest = campaign.at if newest is None else max(newest, campaign.at)
        partition.applied(topic, next_offset, newest)

    def announce(self, step: Step, campaign: Campaign) -> None:
        """Announce a campaign whose instant has come to the next customers that it addresses."""
        partition, touched = step.partition, step.touched
        for key in partition.campaign_step(CUSTOMERS_PER_STEP):
            row = partition.rows.get(key)
            if row is None:
                continue  # erased meanwhile
            known = touched.get(key)
            customer = known or Customer.from_row(key.decode(), row)
            if self._engine.is_addressed(customer, campaign):
                if known is None:
                    partition.count_bytes(-len(row))
                    touched[key] = customer
                self._engine.announce(
                    customer, campaign, step.effects.decisions, step.decided_at, step.effects.budget_share
                )
