"""Waiting for what must become so: with a bound, and with the last thing seen when it didn't."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Seen = TypeVar("Seen")

PAUSE_SECONDS = 0.05


def until(what: str, look: Callable[[], Seen], *, seconds: float = 20) -> Seen:
    """What `look` gives once that is true; AssertionError with the last that it gave when it takes too long."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s it isn't so that {what}; last seen: {seen!r}"
        time.sleep(PAUSE_SECONDS)
    return seen


async def eventually(what: str, look: Callable[[], Awaitable[Seen]], *, seconds: float = 20) -> Seen:
    """`until`, for what is asked without keeping others waiting."""
    deadline = time.monotonic() + seconds
    while not (seen := await look()):
        assert time.monotonic() < deadline, f"after {seconds:.0f} s it isn't so that {what}; last seen: {seen!r}"
        await asyncio.sleep(PAUSE_SECONDS / 5)
    return seen
