"""While nothing is written in the database, who found nothing to do in it need not look again: one looks for all.

still = Stillness(partial(state, engine))
before = still.seen
if not await step():
    await still.changed(since=before, seconds=REST_SECONDS)
"""

import asyncio
from collections.abc import Awaitable, Callable

REST_SECONDS = 1.0
"""The longest that a step which found nothing isn't tried: what time brings, and what changes outside, waits no longer
for it."""


class Stillness:
    """Watches the database's word (`db.changes`). `seen`: the last one, None where it isn't known."""

    def __init__(self, look: Callable[[], Awaitable[str]]) -> None:
        self.seen: str | None = None
        self._look = look
        self._stirred = asyncio.Event()
        self._ended = False

    async def watch(self, *, pause_seconds: float, stop: asyncio.Event) -> None:
        """Look until `stop` is set. A database that can't be asked isn't still."""
        try:
            while not stop.is_set():
                try:
                    self._note(await self._look())
                except Exception:  # whoever works meets it too, and says so
                    self._note(None)
                await pause(pause_seconds, stop)
        finally:
            self._ended = True
            self._stirred.set()

    async def changed(self, *, since: str | None, seconds: float = REST_SECONDS) -> None:
        """Wait, at most `seconds`, until the database isn't as it was `since`, which is what was `seen` before."""
        if self._ended or since is None or self.seen != since:
            return
        await pause(seconds, self._stirred)

    def _note(self, word: str | None) -> None:
        if word is None or word != self.seen:
            self.seen = word
            self._stirred.set()
            self._stirred = asyncio.Event()


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Wait, at most `seconds`, or until `stop` is set."""
    try:
        await asyncio.wait_for(stop.wait(), timeout=seconds)
    except TimeoutError:
        return
