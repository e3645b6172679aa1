"""What every peer program is told on its command line, in this order."""

import sys
from typing import NamedTuple, Self


class Arguments(NamedTuple):
    """`orders` is the full name of the input topic, `prefix` begins the names of the outputs."""

    broker: str
    group: str
    orders: str
    prefix: str
    partitions: str
    directory: str

    @classmethod
    def parse(cls) -> Self:
        """Return the arguments of this process."""
        return cls(*sys.argv[1:])
