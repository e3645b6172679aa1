"""Load that goes on while faults are made: slices of records, produced in a thread of their own as they are let out."""

import threading
from collections.abc import Iterator

from tests.support.live import Rig, Sent, ToSend


class Feed:
    """Produces slices once each, in order, through brokers that go away and come back."""

    def __init__(self, rig: Rig, slices: list[list[ToSend]]) -> None:
        self._rig = rig
        self._slices = slices
        self._sent: list[Sent] = []
        self._allowed = 0
        self._failure: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def allow(self, share: float) -> None:
        """Let this share (0 to 1) of the slices out. Raises what the producer raised."""
        if self._failure is not None:
            raise self._failure
        with self._changed:
            self._allowed = max(self._allowed, min(len(self._slices), round(share * len(self._slices))))
            self._changed.notify()

    def finish(self) -> list[Sent]:
        """Let the rest out; return all records once the broker has them. Raises what the producer raised."""
        self.allow(1.0)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._sent

    def _run(self) -> None:
        try:
            self._sent = self._rig.produce(self._released(), patient=True)
        except Exception as error:  # noqa: BLE001  # raised at the next question
            self._failure = error

    def _released(self) -> Iterator[list[ToSend]]:
        for number, records in enumerate(self._slices):
            with self._changed:
                self._changed.wait_for(lambda number=number: number < self._allowed)
            yield records
