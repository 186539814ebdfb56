"""An SMTP server that takes everything at once and remembers when: for timing, not for tests."""

import asyncio
import threading
import time
from types import TracebackType
from typing import Self


class MailSink:
    """Listens on loopback in a thread of its own, as a context."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, bytes]] = []
        """For each message the time and its bytes."""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def wait_for(self, number: int, seconds: float) -> None:
        """Return when as many were taken; raise TimeoutError when they do not come."""
        deadline = time.monotonic() + seconds
        while len(self.taken) < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.taken)} messages instead of {number}")
            time.sleep(0.005)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.taken.append((time.time(), content))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 OK\r\n")
            if verb == b"QUIT":
                break
        writer.close()
