"""Facts and thresholds drawn at random, near enough to each other that comparisons hold, fail and change."""

from fractions import Fraction
from random import Random

from models.customer.interactions import Interactions
from models.customer.ledger import Ledger
from models.instants import DAY_MS
from models.rules.metrics import METRICS, Facts, Unit
from tests.models.build import cancel, contact, order, refund


def random_facts(random: Random) -> tuple[Facts, int]:
    """Return facts on a scale of milliseconds, and an instant at or after the last of them."""
    book, kept = Ledger(), Interactions()
    for name in range(random.randrange(7)):
        placed = order(
            random.randrange(60), f"o{name}", random.choice([0, 1, 5, 10, 100]), random.choice([None, -5, 3])
        )
        book.apply(placed)
        touched = random.randrange(6)
        if touched == 0:
            book.apply(refund(60, f"r{name}", f"o{name}", random.randrange(12)))
        elif touched == 1:
            book.apply(cancel(60, f"o{name}"))
    for name in range(random.randrange(6)):
        kind = random.choice(["survey", "referral", "visit", "complaint"])
        kept.apply(contact(random.randrange(60), f"i{name}", kind, random.choice([0, 4_000, 9_500])))
    weights = {"visit": 1_000, "complaint": -500}
    return Facts(book, kept, random.randrange(-20, 80), weights), 60 + random.randrange(60)


def random_threshold(random: Random, name: str, known: Facts, at: int, window: int) -> Fraction:
    """Return a threshold at, or just beside, what the metric reads now or at some later instant."""
    later = at + random.choice([0, random.randrange(120)])
    scale = {Unit.MONEY: 100, Unit.DAYS: DAY_MS}.get(METRICS[name].unit, 1)
    reading = METRICS[name].value(known, later, window) or (random.randrange(20), 1)
    near = Fraction(*reading) + random.choice([0, 0, 0, 1, -1, Fraction(1, 2), Fraction(-1, 3)])
    return near / scale
