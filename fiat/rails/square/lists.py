"""Square's lists: paged by its own cursors, which don't last, and by time, which does."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from fiat.rails.errors import EffectUnknown
from fiat.rails.square.client import Client

PAGE = 100
"""The most that Square gives at once."""

SEARCH_PAGES_MAX = 50
"""Pages of a list that are looked through for one order of ours."""

OVERLAP = timedelta(days=1)
"""How far a list of settlements is read again behind its cursor, for what appeared late."""

BEGINNING = datetime(2009, 1, 1, tzinfo=UTC)
"""Before Square's first payment."""


async def search(
    client: Client,
    page: Callable[[str | None], Awaitable[Any]],
    items: Callable[[Any], Iterable[Any] | None],
    wanted: Callable[[Any], bool],
) -> Any | None:
    """The first item that is wanted, on any page. Raises EffectUnknown for more pages than SEARCH_PAGES_MAX."""
    cursor: str | None = None
    for _ in range(SEARCH_PAGES_MAX):
        answer = await page(cursor)
        with client.reading():
            for one in items(answer) or ():
                if wanted(one):
                    return one
            cursor = answer.cursor
        if not cursor:
            return None
    raise EffectUnknown(f"more than {SEARCH_PAGES_MAX * PAGE} objects would have to be looked through for one order")


def stamp(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as Square writes it: sorts as text."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_cursor(cursor: str | None) -> tuple[str, str, str | None]:
    """Of a list by time: the newest time seen ("" for none), when the list begins, and Square's cursor in it.

    A cursor is `<newest seen>` at a list's end, `<newest seen> <begin> <Square's>` within it. Raises ValueError.
    """
    newest, _, rest = (cursor or "").partition(" ")
    begin, _, theirs = rest.partition(" ")
    if begin:
        return newest, begin, theirs
    return newest, stamp(datetime.fromisoformat(newest) - OVERLAP if newest else BEGINNING), None
