"""One step of a partition: what it reads, decides and writes before its effects are acknowledged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from models.customer.state import NEVER, Customer
from streams.partition.effects import Effects
from streams.partition.state import Partition

T = TypeVar("T")
#: How many customers are decided about before they are written: few enough to stay in the processor's caches, and
#: enough for the code that decides to stay there too.
_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class Timing:
    """How time is taken: `lateness` (ms) is the wait of settled decisions, `ahead` (ms) bounds the future.

    If `wall_decides`, the wall clock gives `decided_at`; otherwise it is the instant decided about. Records are read
    until `read_beyond` (ms) after a day's end that is not decided yet; they wait in the rows of their customers.
    """

    settled: bool = False
    lateness: int = 0
    ahead: int = 86_400_000
    wall_decides: bool = True
    read_beyond: int = NEVER


@dataclass(slots=True)
class Step:
    """One step: its partition, the effects it collects, and the customers it has read.

    Decisions of the step carry `decided_at` (ms); None: the instant decided about. `touched` holds customers by key;
    None stands for one who was erased.
    """

    partition: Partition
    decided_at: int | None = None
    effects: Effects = field(default_factory=Effects)
    touched: dict[bytes, Customer | None] = field(default_factory=dict)

    def load(self, key: bytes) -> Customer:
        """Read a customer from the rows, or make a new one if there is none or they were erased in this step."""
        row = None if key in self.touched else self.partition.rows.get(key)
        name = key.decode()
        if row is None:
            customer = Customer(name)
        else:
            self.partition.count_bytes(-len(row))
            customer = Customer.from_row(name, row)
        self.touched[key] = customer
        return customer

    def erase(self, key: bytes) -> None:
        """Erase a customer, known or not."""
        gone = self.touched.get(key)
        if gone is None and key not in self.touched and key in self.partition.rows:
            gone = self.load(key)
        self.touched[key] = None
        if gone is not None:
            self.partition.enter(gone.standings, -1)


def few_at_a_time(ones: Iterable[T]) -> Iterator[T]:
    """Yield the items of an iterator that is run ahead: a few items are made before the first of them is yielded."""
    several = iter(ones)
    while few := list(islice(several, _AT_A_TIME)):
        yield from few
