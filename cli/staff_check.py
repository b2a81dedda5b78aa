"""Whether four eyes are two people's: keys that may move value by hand, whose they are, and who can make more."""

from collections.abc import AsyncIterator, Sequence

from identity.keys import ApiKey
from identity.scopes import Scope
from identity.service import Identity

NAMED_MAX = 5
"""Keys that are named; the rest are counted."""


async def doubtful_keys(identity: Identity) -> AsyncIterator[str]:
    """What is to be minded about treasury keys, a sentence each; none where each is one person's and makes no other."""
    if nobodys := await identity.staff_keys(None, scope=Scope.TREASURY_WRITE):
        yield (
            f"{_named(nobodys)} may write for the treasury and say no person, so each counts as one of its own: whoever"
            " has two of them can confirm what they proposed. Make keys with `person` and revoke these"
            " (docs/operations.md)"
        )
    if makers := await identity.keys_that_may(Scope.TREASURY_WRITE, Scope.KEYS_WRITE):
        yield (
            f"{_named(makers)} may write for the treasury and make keys: whoever has one can make another in somebody"
            " else's name and confirm with it what they proposed. Give the two to different people (docs/operations.md)"
        )


def _named(keys: Sequence[ApiKey]) -> str:
    more = f" and {len(keys) - NAMED_MAX} more" if len(keys) > NAMED_MAX else ""
    return ", ".join(key.id for key in keys[:NAMED_MAX]) + more
