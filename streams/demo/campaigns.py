"""The campaigns of the demo's year: the 27 real coupon campaigns of The Complete Journey, as campaign events.

Their numbers and first days are real. In the source each campaign was mailed to some households. In tidemark the
policy decides who gets a campaign, so every campaign here is announced for all customers.
"""

from pathlib import Path

from models.instants import HOUR_MS, format_instant
from streams.demo.data import campaign_days, replace_file


def write_campaigns(directory: Path) -> Path:
    """Write `campaigns.jsonl` into a directory and return its path.

    A campaign is one line, at noon UTC of its first day. Raises DemoDataUnavailable if the data is not installed.
    """
    path = directory / "campaigns.jsonl"
    events = [
        {
            "type": "campaign",
            "campaign_id": f"coupons-{number}",
            "occurred_at": format_instant(day_ms + 12 * HOUR_MS),
            "subject": "coupons",
        }
        for number, day_ms in campaign_days()
    ]
    replace_file(path, events)
    return path
