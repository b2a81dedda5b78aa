"""Keyset pages: `limit`, `starting_after`, `ending_before`, `has_more`. Newest first, stable while rows come."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Query

from api.errors import InvalidRequest

LIMIT_MAX = 100
"""Items on one page; a list call of a service gives at least one more."""

Row = TypeVar("Row")
Item = TypeVar("Item", covariant=True)


class Lister(Protocol[Item]):
    """A service's list call: `before` gives rows older than a key, newest first; `after` newer ones, oldest first."""

    def __call__(self, *, before: str | None, after: str | None, limit: int) -> Awaitable[Sequence[Item]]: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is wanted."""

    limit: int
    starting_after: str | None
    ending_before: str | None

    async def of(self, rows: Lister[Row]) -> tuple[list[Row], bool]:
        """The page's rows, newest first, and whether more follow in the direction that was asked."""
        found = list(await rows(before=self.starting_after, after=self.ending_before, limit=self.limit + 1))
        has_more = len(found) > self.limit
        found = found[: self.limit]
        if self.ending_before is not None:
            found.reverse()
        return found, has_more


async def _page(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items at most.")] = 50,
    starting_after: Annotated[
        str | None, Query(max_length=64, description="Give the items that follow this id: older ones.")
    ] = None,
    ending_before: Annotated[
        str | None, Query(max_length=64, description="Give the items just before this id: newer ones.")
    ] = None,
) -> Page:
    if starting_after is not None and ending_before is not None:
        raise InvalidRequest("give starting_after or ending_before, not both", param="ending_before")
    return Page(limit, starting_after, ending_before)


Wanted = Annotated[Page, Depends(_page)]
"""For lists that can be walked both ways."""


async def _older(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items at most.")] = 50,
    starting_after: Annotated[
        str | None, Query(max_length=64, description="Give the items that follow this id.")
    ] = None,
) -> Page:
    return Page(limit, starting_after, None)


Onward = Annotated[Page, Depends(_older)]
"""For lists that are only walked from their beginning on."""


def listing(rows: Sequence[Row], has_more: bool, view: Callable[[Row], object]) -> dict[str, object]:
    """A page as JSON."""
    return {"items": [view(row) for row in rows], "has_more": has_more}
