"""A slow line to a broker: a TCP proxy on a thread of its own that delays what passes, and bounds how much may."""

import asyncio
import contextlib
import threading
from typing import Self

_CHUNK = 16_384


class SlowLine:
    """Listens on `port` of the loopback address and passes everything on to `target`.

    Each way, a piece waits `delay_s`, and no more than `bytes_per_s` pass. Both may be changed at any time.
    """

    def __init__(self, port: int, target: int, *, delay_s: float = 0.0, bytes_per_s: float = float("inf")) -> None:
        self.delay_s = delay_s
        self.bytes_per_s = bytes_per_s
        self.passed = 0
        self._port = port
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", self._port)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._pass(reader, onward_writer), self._pass(onward_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(_CHUNK):
                await asyncio.sleep(self.delay_s + len(piece) / self.bytes_per_s)
                writer.write(piece)
                await writer.drain()
                self.passed += len(piece)
        except OSError:
            pass  # one side is gone: so is the other
        finally:
            writer.close()
