"""A limit on how many requests a key, or a caller without one, makes in any minute, counted in this process.

Exact: the instants of the last minute's requests are kept, at most the quota's number per key. Headers as in
draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy: "key";q=600;w=60`, `RateLimit: "key";r=599;t=12` (q: quota, w:
window in seconds, r: remaining, t: seconds until the oldest request counts no more).
"""

from collections import deque
from datetime import datetime, timedelta
from math import ceil

from api.errors import RateExceeded
from base.clock import Clock
from identity.keys import Principal

WINDOW = timedelta(seconds=60)

STRANGERS_PER_MINUTE = 60
"""Requests without a key that one address may make."""

KEYS_MAX = 10_000
"""Keys (and addresses) that are remembered before those that were idle for a whole window are forgotten."""


class RateLimit:
    """Counts the requests of each key over a moving minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[str, deque[datetime]] = {}

    def count(self, principal: Principal, headers: list[tuple[str, str]]) -> None:
        """Count one request and add the `RateLimit` headers. Raises RateExceeded, with the seconds to wait."""
        self._count("key", principal.key_id, principal.rate_per_minute, headers)

    def count_stranger(self, host: str, headers: list[tuple[str, str]]) -> None:
        """Count a request without a key, by the address that it comes from; behind a proxy all have the proxy's."""
        self._count("address", f"from {host}", STRANGERS_PER_MINUTE, headers)

    def _count(self, what: str, name: str, quota: int, headers: list[tuple[str, str]]) -> None:
        now = self._clock.now()
        made = self._recent(name, now)
        admitted = len(made) < quota
        if admitted:
            made.append(now)
        wait = max(1, ceil((made[0] + WINDOW - now).total_seconds()))
        headers.append(("RateLimit-Policy", f'"{what}";q={quota};w={WINDOW.seconds}'))
        headers.append(("RateLimit", f'"{what}";r={max(0, quota - len(made))};t={wait}'))
        if not admitted:
            raise RateExceeded(
                f"this {what} may make {quota} requests a minute; try again in {wait} s", quota=quota, retry_after=wait
            )

    def _recent(self, key: str, now: datetime) -> deque[datetime]:
        """The instants of the key's requests within the window, oldest first."""
        if key not in self._made and len(self._made) >= KEYS_MAX:
            self._made = {name: made for name, made in self._made.items() if made[-1] > now - WINDOW}
        made = self._made.setdefault(key, deque())
        while made and made[0] <= now - WINDOW:
            made.popleft()
        return made
