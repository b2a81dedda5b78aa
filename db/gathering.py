"""Questions asked together: whatever waits goes into one query, and while that runs the next ones gather.

No timer, and no cache: an answer was always read after it was asked for. Many callers that each ask for a row or two
cost one round trip and one statement, on a connection that is kept while somebody asks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import Driver, driver

Key = TypeVar("Key")
Value = TypeVar("Value")

KEYS_MAX = 500
"""Questions of one query at most."""

LINGER_SECONDS = 0.2
"""How long the connection is kept while nobody asks."""

KEEP_SECONDS = 1.0
"""How long it's kept at a stretch while somebody does, before whoever waits for one from the pool has a turn."""

Load = Callable[[Driver, Sequence[Key]], Awaitable[Mapping[Key, Value]]]
"""Reads what these keys stand for, outside any tx; keys without a value may be left out."""


class Gathering(Generic[Key, Value]):
    """One kind of question. Hashable keys; each asker gets the key's value or None."""

    def __init__(self, engine: AsyncEngine, load: Load[Key, Value]) -> None:
        self._engine = engine
        self._load = load
        self._waiting: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self._taken: dict[Key, list[asyncio.Future[Value | None]]] = {}
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: Key) -> Value | None:
        """The value as of now. Raises errors of `db.errors`."""
        return await self.put(key)

    def put(self, key: Key) -> "asyncio.Future[Value | None]":
        """Ask, and wait or not: what the answer will be, the caller's own."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Value | None] = loop.create_future()
        askers = self._waiting.get(key)
        if askers is not None:
            askers.append(answer)
            return answer
        self._waiting[key] = [answer]
        self._stirred.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return answer

    async def settled(self) -> None:
        """Until all that was put before is answered, or failed."""
        asked = (*self._waiting.values(), *self._taken.values())
        under_way = [answer for askers in asked for answer in askers if not answer.done()]
        if under_way:
            await asyncio.wait(under_way)

    async def aclose(self) -> None:
        """Let the connection go, once those who wait have their answers."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        """Ask until nobody waits for a while; who comes while the connection is given back is asked for anew."""
        while self._waiting:
            try:
                async with driver(self._engine) as connection:
                    kept_until = time.monotonic() + KEEP_SECONDS
                    while time.monotonic() < kept_until and (self._waiting or await self._linger()):
                        await self._ask_for_all(connection)
            except Exception as error:
                self._fail(error)

    async def _ask_for_all(self, connection: Driver) -> None:
        self._taken = {key: self._waiting.pop(key) for key in list(self._waiting)[:KEYS_MAX]}
        found = await self._load(connection, list(self._taken))
        for key, askers in self._taken.items():
            value = found.get(key)
            for answer in askers:
                if not answer.done():
                    answer.set_result(value)
        self._taken = {}

    def _fail(self, error: Exception) -> None:
        """Those who came meanwhile learn it too: nothing of theirs was read, and the next question tries anew."""
        failed = (*self._taken.values(), *self._waiting.values())
        self._waiting, self._taken = {}, {}
        for answer in (answer for askers in failed for answer in askers):
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # its asker may be gone

    async def _linger(self) -> bool:
        self._stirred.clear()
        if self._waiting:
            return True
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await self._stirred.wait()
        except TimeoutError:
            return False
        return True
