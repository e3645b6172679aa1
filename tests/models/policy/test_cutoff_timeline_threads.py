"""Several threads share one timeline: no lookup may return the rules of another day."""

import sys
from collections.abc import Iterator, Sequence
from threading import Thread

import pytest

from models.policy.cutoff_timeline import KEPT, RankedTimeline, edges
from models.rules.ranking import CutoffSet
from models.rules.sketch import Sketch, bucket_of
from tests.models.build import day, policy
from tests.models.policy.test_cutoff_timeline import LABEL, scheme

ROUNDS = 150
#: Lookups of the learning thread between two sets of cut-offs.
LOOKUPS = 60


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns about every microsecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Race:
    """Three threads on one timeline: two look up, each its own day, while the third learns new cut-offs."""

    def __init__(self, timeline: RankedTimeline, sets: Sequence[CutoffSet]) -> None:
        """The cut-off of each set is its day's number, from 1 on."""
        self.timeline, self.sets = timeline, sets
        self.latest, self.done = 1, False
        self.wrong: list[tuple[str, int, int]] = []
        timeline.learn(sets[0])

    def cut(self, at: int) -> int:
        (low, _) = edges(self.timeline.at(at).schemes[0])
        return int(low or 0)

    def look_up_the_first_day(self) -> None:
        while not self.done:
            found = self.cut(day(1))
            if found != 1:
                self.wrong.append(("the first day", 1, found))

    def look_up_the_latest_day(self) -> None:
        while not self.done:
            # Twice: a cache that was filled from outdated cut-offs would answer the second lookup.
            for _ in range(2):
                least = self.latest
                found = self.cut(day(99))
                if found < least:
                    self.wrong.append(("the latest day", least, found))
            self.cut(day(1))

    def learn(self) -> None:
        for number, cutoffs in enumerate(self.sets, 1):
            self.timeline.learn(cutoffs)
            self.latest = number
            for _ in range(LOOKUPS):
                self.cut(day(1, 1))
        self.done = True

    def run(self) -> list[tuple[str, int, int]]:
        """Return each wrong lookup: of which day, the least cut-off that was expected, the one found."""
        threads = [
            Thread(target=each) for each in (self.look_up_the_first_day, self.look_up_the_latest_day, self.learn)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.wrong


@pytest.mark.usefixtures("switching")
def test_no_lookup_returns_another_days_rules_while_others_look_up_and_learn() -> None:
    rules = policy(scheme("10", "20"))
    # Up to 200 a sketch is exact.
    sketches = {number: Sketch({bucket_of(number): 1}) for number in range(1, KEPT + 1)}
    sets = [RankedTimeline([rules]).compute(day(n), {LABEL: sketch})[0] for n, sketch in sketches.items()]
    for _ in range(ROUNDS):
        assert Race(RankedTimeline([rules]), sets).run() == []
