"""A gate in front of a TCP server, for faults of the wire: answers that are withheld, connections that are cut.

gate = await Gate.open(port)        # clients connect to gate.port
gate.withhold()                     # the server hears its clients, they don't hear it
await gate.cut()                    # every connection breaks, answers that were withheld are lost
gate.let_through()
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Gate:
    """Forwards connections on `port` to the server on `target`, both on 127.0.0.1."""

    target: int
    port: int = 0
    _server: asyncio.Server | None = None
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _links: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def open(cls, target: int) -> "Gate":
        gate = cls(target)
        gate._open.set()
        gate._server = await asyncio.start_server(gate._link, "127.0.0.1", 0)
        gate.port = gate._server.sockets[0].getsockname()[1]
        return gate

    def address(self, url: str) -> str:
        """`url` by way of the gate."""
        parts = urlsplit(url)
        return parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{self.port}").geturl()

    def withhold(self) -> None:
        self._open.clear()

    def let_through(self) -> None:
        self._open.set()

    async def cut(self) -> None:
        """Break every connection there is; new ones may be made."""
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._pass_on(reader, back, answers=False))
                    ways.create_task(self._pass_on(there, writer, answers=True))
            finally:
                back.transport.abort()
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            writer.transport.abort()
            self._links.discard(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        while heard := await source.read(65536):
            if answers:
                await self._open.wait()
            sink.write(heard)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()
