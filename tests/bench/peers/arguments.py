"""The command-line arguments of every peer program, in this order."""

import sys
from typing import NamedTuple, Self


class Arguments(NamedTuple):
    """`orders` is the full name of the input topic, `prefix` the prefix of the output topics."""

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
