"""How long PayPal knows our keys, and how old one is: our ids carry the time of their making. Pure."""

from datetime import UTC, datetime, timedelta

ORDER_KEY = timedelta(hours=5)
"""Orders v2 keeps a PayPal-Request-Id for 6 hours; less a margin."""

PAYMENT_KEY = timedelta(days=44)
"""Payments v2 (captures, voids, refunds) keeps one for 45 days."""

PAYOUT_KEY = timedelta(days=29)
"""A sender_batch_id is refused again for 30 days; so long Payouts v1 keeps a PayPal-Request-Id, too."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_LENGTH, _LENGTH = 10, 26


def still_known(reference: str, kept: timedelta, now: datetime) -> bool:
    """Whether PayPal surely knows the key `reference` if it ever got it.

    The id was made before the first call, so its age bounds the key's. One that isn't an id of ours has no age: False.
    """
    made_at = _made_at(reference)
    return made_at is not None and now - made_at < kept


def _made_at(reference: str) -> datetime | None:
    """The time in an id's ULID (its first 48 bits are milliseconds)."""
    ulid = reference.rpartition("_")[2].lower()
    if len(ulid) != _LENGTH or not set(ulid) <= set(_ALPHABET):
        return None
    milliseconds = 0
    for letter in ulid[:_TIME_LENGTH]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(letter)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError):
        return None
