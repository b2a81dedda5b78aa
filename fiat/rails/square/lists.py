"""Square's lists: paged by its own cursors, which don't last, and by time, which does."""

from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from fiat.rails.errors import EffectUnknown
from fiat.rails.lists import UNREADABLE
from fiat.rails.protocol import Listed
from fiat.rails.square.client import Client, WrongCursor

Item = TypeVar("Item")

PAGE = 100
"""The most that Square gives at once."""

SEARCH_PAGES_MAX = 50
"""Pages of a list that are looked through for one order of ours."""

OVERLAP = timedelta(minutes=10)
"""How far a list by time is read again behind its cursor: Square says that new objects appear some seconds late."""

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


async def by_time(
    client: Client,
    page: Callable[[str, str | None], Awaitable[Any]],
    items: Callable[[Any], Iterable[Any] | None],
    read: Callable[[Iterable[Any]], tuple[Item, ...]],
    cursor: str | None,
) -> Listed[Item]:
    """A page, oldest first, of what was made from the cursor's time on, or from the beginning.

    `read` gives those that can be read.
    A cursor is `<newest seen>` at a list's end, `<newest seen> <begin> <Square's>` within it.
    """
    with client.reading():
        newest, begin, theirs = _parse(cursor)
    try:
        answer = await page(begin, theirs)
    except WrongCursor:
        return Listed((), newest, True)  # it has died: the list begins again at what was seen
    with client.reading():
        told = tuple(items(answer) or ())
        more = bool(answer.cursor)
    newest = max([newest, *(made for one in told if (made := _made(one)))])
    return Listed(read(told), f"{newest} {begin} {answer.cursor}" if more else newest, more)


def stamp(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as Square writes it: sorts as text."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _made(one: Any) -> str | None:
    """When it was made; None where that can't be read, which its reader sees too."""
    try:
        return stamp(datetime.fromisoformat(one.created_at))
    except UNREADABLE:
        return None


def _parse(cursor: str | None) -> tuple[str, str, str | None]:
    """The newest time seen ("" for none), when the list begins, and Square's cursor in it. Raises ValueError."""
    newest, _, rest = (cursor or "").partition(" ")
    begin, _, theirs = rest.partition(" ")
    if begin:
        return newest, begin, theirs
    return newest, stamp(datetime.fromisoformat(newest) - OVERLAP if newest else BEGINNING), None
