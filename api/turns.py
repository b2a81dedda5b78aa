"""A repeat of a request that is still under way waits for the first one, and then gets its answer from the book.

Counted in this process: a repeat that reaches another one is decided by the book all the same, once.
"""

import asyncio

from api.errors import StillUnderWay

WAIT_SECONDS = 5.0
"""How long a repeat waits for the first."""

_Name = tuple[str, str, str]


class Turns:
    """Which requests are under way, by whoever sends them, where to and their Idempotency-Key."""

    def __init__(self) -> None:
        self._under_way: dict[_Name, asyncio.Event | None] = {}  # an event where somebody waits

    def of(self, owner: str, path: str, key: str) -> "_Turn":
        """Wait for the first request of this name, or be it, for a block. Raises StillUnderWay after WAIT_SECONDS."""
        return _Turn(self._under_way, (owner, path, key))


class _Turn:
    """One request's turn, as an asynchronous context manager."""

    __slots__ = ("_is_first", "_name", "_under_way")

    def __init__(self, under_way: dict[_Name, asyncio.Event | None], name: _Name) -> None:
        self._under_way = under_way
        self._name = name
        self._is_first = False

    async def __aenter__(self) -> None:
        if self._name in self._under_way:
            first = self._under_way[self._name]
            if first is None:
                first = self._under_way[self._name] = asyncio.Event()
            await _ended(first)
        else:
            self._under_way[self._name] = None
            self._is_first = True

    async def __aexit__(self, *failure: object) -> None:
        if self._is_first and (waited_for := self._under_way.pop(self._name)) is not None:
            waited_for.set()


async def _ended(first: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(first.wait(), WAIT_SECONDS)
    except TimeoutError:
        raise StillUnderWay(
            f"the first request with this key is still under way after {WAIT_SECONDS:.0f} s; send it again later",
            retry_after=2,
        ) from None
