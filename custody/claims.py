"""What the asker says beside an intent: whose account it's for, kept in the journal so that a lost book can be rebuilt.

Claims: nothing is decided by them. A batch has as many as it has legs, in their order.
"""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from custody.errors import IntentInvalid
from custody.intents import Intent, PayoutBatch

Claims: TypeAlias = dict[str, object] | list[dict[str, object] | None]
"""Whose payment it is; of a batch, whose each leg is, None where the asker doesn't say."""

_TEXT_MAX = 200
_HASH_BYTES = 32
_RATIO = re.compile(r"[0-9]{1,100}/[0-9]{1,99}", re.ASCII)


def claims_of(intent: Intent, told: object) -> Claims | None:
    """What was told beside `intent`. Raises IntentInvalid for what isn't claims, or doesn't fit its legs."""
    if told is None:
        return None
    if not isinstance(intent, PayoutBatch):
        return claims_from(told)
    if not isinstance(told, list) or len(told) != len(intent.legs):
        raise IntentInvalid("the claims of a batch are a list, one for each leg in order", param="claims")
    return [None if one is None else claims_from(one) for one in told]


def claims_from(told: object) -> dict[str, object]:
    """Claims as plain values: `account` and `asset` (texts), `amount` (smallest units, as text), `key_hash` (SHA-256 of
    the idempotency key, or None); and, where the asker has them, `content` (SHA-256 of what was requested),
    `fee_highest` and `service_fee` (smallest units of the asset), `fee_price` (of them per wei, "num/den") and
    `fee_wei_max`.

    Raises IntentInvalid.
    """
    match told:
        case {"account": str(account), "asset": str(asset), "amount": str(amount), "key_hash": key_hash, **rest}:
            texts = all(1 <= len(text) <= _TEXT_MAX for text in (account, asset))
            more = {str(name): value for name, value in rest.items()}
            if texts and _is_whole(amount) and (key_hash is None or _is_hash(key_hash)) and _are_terms(more):
                return {"account": account, "asset": asset, "amount": amount, "key_hash": key_hash, **more}
    raise IntentInvalid(
        "claims are account, asset, amount (digits) and key_hash (32 bytes or null); where known, content (32 bytes),"
        " fee_highest, fee_wei_max, service_fee (digits) and fee_price (digits/digits)",
        param="claims",
    )


def _are_terms(told: Mapping[str, object]) -> bool:
    return all(name in _TERMS and _TERMS[name](value) for name, value in told.items())


def _is_hash(told: object) -> bool:
    return isinstance(told, bytes) and len(told) == _HASH_BYTES


def _is_whole(told: object) -> bool:
    return isinstance(told, str) and 1 <= len(told) <= _TEXT_MAX and told.isascii() and told.isdecimal()


def _is_ratio(told: object) -> bool:
    return isinstance(told, str) and _RATIO.fullmatch(told) is not None


_TERMS: dict[str, Callable[[object], bool]] = {
    "content": _is_hash,
    "fee_highest": _is_whole,
    "fee_price": _is_ratio,
    "fee_wei_max": _is_whole,
    "service_fee": _is_whole,
}
