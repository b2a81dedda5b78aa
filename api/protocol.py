"""HTTP/1.1 as uvicorn speaks it, but for one thing: what is written within one turn of the loop leaves at once.

uvicorn writes an answer's head and its body apart, and each write is a call of the system, a packet of its own, and a
client woken for half an answer: a third of what a small answer costs.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

GATHERED_BYTES_MAX = 64 * 1024
"""What waits for the loop's next turn at most: the parts of a long answer must reach the transport, which may pause."""


class Gathered:
    """A transport's writes, put together until the loop's next turn. All else goes to the transport itself."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, part: bytes) -> None:
        """Send `part` behind what was written before."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(part)
        self._size += len(part)
        if self._size >= GATHERED_BYTES_MAX:
            self.flush()

    def close(self) -> None:
        """Send what was written, then close."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what was written."""
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Http(HttpToolsProtocol):
    """uvicorn's protocol on a transport that gathers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(cast(asyncio.Transport, Gathered(transport, self.loop)))

    def eof_received(self) -> None:
        """The client sends no more, and the transport is about to close: what was written goes first."""
        cast(Gathered, self.transport).flush()
