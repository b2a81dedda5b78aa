"""How long an order's idempotency key still lives, by the time that is in our id. Pure.

An order is sent after its id was made, so a key that is young by its id is younger still by its order. Where the id
says that it's old, it may yet live: then the adapter asks by lists, which is always safe.
"""

from datetime import datetime, timedelta

from base.ids import made_at

LEEWAY = timedelta(minutes=10)
"""How much earlier than our id's time an object may have been made by the provider's clock."""


def lives(reference: str, *, now: datetime, seconds: int) -> bool:
    """Whether the provider surely still knows the key `reference`, of keys that live for `seconds`."""
    return now - made_at(reference) < timedelta(seconds=seconds)


def not_before(reference: str) -> datetime:
    """The earliest time that a provider may have written on what was ordered under `reference`."""
    return made_at(reference) - LEEWAY
