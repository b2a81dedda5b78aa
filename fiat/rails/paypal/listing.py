"""Where a list of PayPal's disputes goes on. Pure.

PayPal lists disputes that changed after some moment, newest first, in pages. One sweep goes through all pages from
`since`; the next one starts where this one began, less a margin. Nothing is missed by it, and what changed around a
seam comes twice.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fiat.rails.errors import RailCorrupt
from fiat.rails.paypal.reading import required_instant

REACH = timedelta(days=179)
"""How far back PayPal lists: 180 days, less a margin."""

OVERLAP = timedelta(minutes=10)
"""What consecutive sweeps share: more than two clocks may differ."""

TOKEN_LIFE = timedelta(hours=1)
"""A sweep that was broken off for longer begins anew: PayPal doesn't say how long its pages can be turned."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Disputes changed after `since`; it began at `begun`. `token`: PayPal's of the next page, None at its start."""

    since: datetime
    begun: datetime
    token: str | None = None

    def written(self) -> str:
        """As a cursor."""
        told = {"since": self.since.isoformat(), "begun": self.begun.isoformat(), "token": self.token}
        return json.dumps(told, separators=(",", ":"))

    def after_page(self, token: str | None) -> "Sweep":
        """Behind a page whose link `next` has this token; None: it was the last, so the next sweep's start."""
        return Sweep(since=self.begun, begun=self.begun) if token is None else replace(self, token=token)


def read_cursor(cursor: str | None, now: datetime) -> Sweep:
    """The sweep to go on with at `now`. Raises RailCorrupt for what was never a cursor."""
    if cursor is None:
        return Sweep(since=now - REACH, begun=now)
    try:
        told = json.loads(cursor)
        sweep = Sweep(required_instant(told["since"]), required_instant(told["begun"]), told["token"])
    except (ValueError, KeyError, TypeError):
        raise RailCorrupt("what was kept as the place in PayPal's list of disputes isn't one") from None
    if sweep.token is not None:
        if now - sweep.begun < TOKEN_LIFE:
            return sweep
        return Sweep(since=max(sweep.since, now - REACH), begun=now)
    return Sweep(since=max(sweep.begun - OVERLAP, now - REACH), begun=now)


def next_token(page: Mapping[str, Any]) -> str | None:
    """The token in the list's link `next`; None on its last page. Raises LookupError for such a link without one."""
    found = {one["rel"]: one["href"] for one in page.get("links", [])}
    return parse_qs(urlsplit(found["next"]).query)["next_page_token"][0] if "next" in found else None


def stamp(moment: datetime) -> str:
    """A moment as PayPal takes it (RFC 3339)."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
