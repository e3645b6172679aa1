"""The campaigns of the demo's year: the 27 real coupon campaigns of The Complete Journey, as announcements.

Real are their numbers, kinds and first days. The source says which households had coupons by mail; whom a
campaign of tidemark is sent to its policy decides, so here every campaign is for everybody.
"""

from pathlib import Path

from models.instants import HOUR_MS, format_instant
from streams.demo.data import campaign_days, replace_file


def write_campaigns(directory: Path) -> Path:
    """Write `campaigns.jsonl` into a directory, an event a line at noon UTC of its first day; return the path.

    Raises DemoDataUnavailable where the data is not installed.
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
