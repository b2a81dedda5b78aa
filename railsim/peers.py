"""Connections by their peers, so that one can be cut: HTTP frameworks know no way to hang up without an answer."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_open: dict[tuple[str, int], asyncio.Transport] = {}


class KnownPeers(HttpToolsProtocol):
    """uvicorn's protocol, which remembers who is connected."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client is not None:
            _open[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            _open.pop(self.client, None)
        super().connection_lost(exc)


def hang_up(client: Any) -> None:
    """Cut the connection to this (host, port) at once."""
    transport = _open.get((client.host, client.port)) if client is not None else None
    if transport is not None:
        transport.abort()
