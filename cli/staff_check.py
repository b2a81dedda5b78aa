"""Whether four eyes are two people's: keys that may move value by hand, and whose they are."""

from identity.scopes import Scope
from identity.service import Identity

NAMED_MAX = 5
"""Keys that are named; the rest are counted."""


async def nobodys_keys(identity: Identity) -> str | None:
    """What is to be minded about treasury keys that say no person; None where each does."""
    found = await identity.staff_keys(None, scope=Scope.TREASURY_WRITE)
    if not found:
        return None
    named = ", ".join(key.id for key in found[:NAMED_MAX])
    more = f" and {len(found) - NAMED_MAX} more" if len(found) > NAMED_MAX else ""
    return (
        f"{named}{more} may write for the treasury and say no person, so each counts as one of its own: whoever has two"
        " of them can confirm what they proposed. Make keys with `person` and revoke these (docs/operations.md)"
    )
