"""Answers: plain JSON, made once from what a service returned.

Views are typed dicts: mypy checks them and OpenAPI shows them; nothing validates them again on their way out.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache

import msgspec
from starlette.responses import Response

from ledger.money import Asset, format_amount

Assets = Mapping[str, Asset]

_JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")


class _Made(Response):
    """An answer of bytes that are JSON already, its headers made in one step."""

    media_type = "application/json"

    def __init__(self, body: bytes, status: int, *, replayed: bool) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _JSON]
        if replayed:
            self.raw_headers.append(_REPLAYED)


def answer(view: object, *, status: int = 200, replayed: bool = False) -> Response:
    """`view` as JSON; `replayed` marks the answer to a repeated request."""
    return _Made(msgspec.json.encode(view), status, replayed=replayed)


@lru_cache(1_000)
def instant(at: datetime) -> str:
    """RFC 3339 in UTC: `2026-11-22T12:00:00.000000Z`."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def maybe_instant(at: datetime | None) -> str | None:
    return None if at is None else instant(at)


def day(on: date) -> str:
    """ISO 8601: `2026-11-22`."""
    return on.isoformat()


def money(units: int, asset: str, assets: Assets) -> str:
    """Smallest units of `asset` as an exact decimal string."""
    return format_amount(units, assets[asset])


def maybe_money(units: int | None, asset: str | None, assets: Assets) -> str | None:
    return None if units is None or asset is None else money(units, asset, assets)
