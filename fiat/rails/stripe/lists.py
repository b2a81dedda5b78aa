"""Stripe's lists, which are newest first, walked so that a kept cursor goes on with what is newer.

""                       nothing was there yet
back:<newest>:<after>    on the way from the newest to the account's beginning
on:<newest>              from there to what is newer, which Stripe lists by `ending_before`
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fiat.rails.stripe.statuses import Body

PAGE = 100

List = Callable[[Mapping[str, Any]], Awaitable[Body]]
"""Asks for a page with these parameters besides."""


async def walk(listed: List, cursor: str | None) -> tuple[list[Body], str, bool]:
    """A page (oldest first), the cursor behind it, and whether to go on at once. Raises ValueError for a cursor."""
    mode, _, rest = (cursor or "").partition(":")
    match mode:
        case "on":
            page = await listed({"limit": PAGE, "ending_before": rest})
            found = page["data"]
            return found[::-1], f"on:{found[0]['id']}" if found else f"on:{rest}", page["has_more"]
        case "back" | "":
            newest, _, after = rest.partition(":")
            page = await listed({"limit": PAGE} | ({"starting_after": after} if after else {}))
            found = page["data"]
            if not found:
                return [], f"on:{newest}" if newest else "", False
            newest = newest or found[0]["id"]
            more = page["has_more"]
            return found[::-1], f"back:{newest}:{found[-1]['id']}" if more else f"on:{newest}", more
        case _:
            raise ValueError(f"{mode[:20]!r} isn't a cursor of Stripe's lists")
