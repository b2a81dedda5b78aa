"""Instants in requests: RFC 3339 with an offset, as text. A number, or a time without its zone, could mean several."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

YEARS = range(1900, 9999)
"""Years that can be meant. Far from both ends of what can be computed with."""

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)


def parse_instant(given: object) -> datetime:
    """The instant, in UTC, that a text such as `2026-11-22T12:00:00Z` means; finer than a microsecond is cut off.

    Raises PydanticCustomError.
    """
    if isinstance(given, str) and _RFC_3339.fullmatch(given.upper()):
        try:
            at = datetime.fromisoformat(given.upper())
            if at.year in YEARS:
                return at.astimezone(UTC)
        except ValueError:
            pass  # a 13th month, a 25th hour
    raise PydanticCustomError(
        "not_an_instant",
        'an instant is a text with its offset (RFC 3339), such as "2026-11-22T12:00:00Z"; in an address write + as %2B',
    )


Instant = Annotated[datetime, BeforeValidator(parse_instant), Field(examples=["2026-11-22T12:00:00Z"])]
"""What a caller writes for an instant; what a route gets is in UTC."""
