"""A repeat of a request that is still under way waits for the first one, and then gets its answer from the book.

Counted in this process: a repeat that reaches another one is decided by the book all the same, once.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.errors import StillUnderWay

WAIT_SECONDS = 5.0
"""How long a repeat waits for the first."""


class Turns:
    """Which requests are under way, by whoever sends them, where to and their Idempotency-Key."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str, str], asyncio.Event] = {}

    @asynccontextmanager
    async def of(self, owner: str, path: str, key: str) -> AsyncIterator[None]:
        """Wait for the first request of this name, or be it. Raises StillUnderWay after WAIT_SECONDS."""
        name = (owner, path, key)
        first = self._under_way.get(name)
        if first is not None:
            await _ended(first)
            yield
            return
        own = self._under_way[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._under_way[name]
            own.set()


async def _ended(first: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(first.wait(), WAIT_SECONDS)
    except TimeoutError:
        raise StillUnderWay(
            f"the first request with this key is still under way after {WAIT_SECONDS:.0f} s; send it again later",
            retry_after=2,
        ) from None
