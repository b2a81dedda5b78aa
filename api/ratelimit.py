"""A limit on how many requests a key makes in any minute, counted in this process.

Headers as in draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy: "key";q=600;w=60`, `RateLimit: "key";r=599;t=12`
(q: quota, w: window in seconds, r: remaining, t: seconds until some is free again).
"""

import time
from math import ceil

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from api.errors import RateExceeded
from identity.keys import Principal

WINDOW_SECONDS = 60


class RateLimit:
    """Counts the requests of each key over a moving minute."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._items: dict[int, RateLimitItemPerMinute] = {}

    def count(self, principal: Principal, headers: list[tuple[str, str]]) -> None:
        """Count one request and add the `RateLimit` headers. Raises RateExceeded, with the seconds to wait."""
        quota = principal.rate_per_minute
        item = self._items.setdefault(quota, RateLimitItemPerMinute(quota))
        admitted = self._limiter.hit(item, principal.key_id)
        reset_at, remaining = self._limiter.get_window_stats(item, principal.key_id)
        wait = max(1, ceil(reset_at - time.time()))
        headers.append(("RateLimit-Policy", f'"key";q={quota};w={WINDOW_SECONDS}'))
        headers.append(("RateLimit", f'"key";r={max(0, remaining)};t={wait}'))
        if not admitted:
            raise RateExceeded(
                f"this key may make {quota} requests a minute; try again in {wait} s", quota=quota, retry_after=wait
            )
