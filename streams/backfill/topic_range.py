"""Stub until the slice stands."""

from collections.abc import Iterator
from typing import Any

from streams.backfill.plan import Part, Plan


def read_range(plan: Plan, part: Part) -> Iterator[Any]:
    raise NotImplementedError
