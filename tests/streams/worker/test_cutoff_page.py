"""What the page of cut-offs knows and shows; how it is served is tested in test_web.py and test_days_live.py."""

from random import Random

import msgspec
import pytest

from models.instants import DAY_MS, format_instant
from models.outputs import Cutoff, TierCutoffs
from models.policy.cutoff_timeline import RankedTimeline
from streams.worker.cutoff_page import KEPT, CutoffHistory
from tests.streams.partition.test_cutoff_coordinator import START, timeline


def cutoff_event(day: int, scheme: str = "top") -> TierCutoffs:
    cutoffs = [Cutoff("b", f"{day}.00", 0.3, 0.31, 31, 0.4, 40), Cutoff("a", f"{2 * day}.00", 0.1, 0.1, 10)]
    return TierCutoffs(f"{scheme}-{day}", scheme, "monetary", format_instant(START + day * DAY_MS), 100, cutoffs, "d")


def encoded(*events: TierCutoffs) -> list[bytes]:
    return [msgspec.json.encode(event) for event in events]


@pytest.fixture
def history() -> CutoffHistory:
    return CutoffHistory(RankedTimeline(timeline().versions))


def test_the_latest_of_each_scheme_are_kept_in_order_and_each_once(history: CutoffHistory) -> None:
    days = [*range(KEPT + 20), *range(KEPT, KEPT + 10)]
    Random(3).shuffle(days)
    history.hear(encoded(*map(cutoff_event, days), cutoff_event(3, "often"), cutoff_event(1, "unknown")))
    assert history.schemes == {
        "top": [cutoff_event(day) for day in range(20, KEPT + 20)],
        "often": [cutoff_event(3, "often")],
    }
    assert msgspec.json.decode(history.as_json(), type=dict[str, list[TierCutoffs]]) == history.schemes


def test_what_is_no_record_of_cut_offs_is_passed_over(history: CutoffHistory) -> None:
    history.hear([None, b"", b"{}", b"\xff", *encoded(cutoff_event(1))])
    assert history.schemes == {"top": [cutoff_event(1)], "often": []}


def test_the_page_shows_cuts_with_the_shares_set_reached_and_held(history: CutoffHistory) -> None:
    history.hear(encoded(*map(cutoff_event, range(1, 41))))
    page = history.as_page()
    assert page.count("<svg") == 1
    assert "".join(f"<td>{cell}</td>" for cell in ("b", "40.00", "30.00%", "31.00%", "40.00%")) in page
    assert "".join(f"<td>{cell}</td>" for cell in ("a", "80.00", "10.00%", "10.00%", "")) in page
    assert cutoff_event(10).effective_at in page
    assert cutoff_event(9).effective_at not in page, "the table has a month"
    assert "None yet" in page, "often"
    assert "<script" not in page
    assert len(page) < 200_000
