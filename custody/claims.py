"""What the asker says beside an intent: whose account it's for, kept in the journal so that a lost book can be rebuilt.

Claims: nothing is decided by them.
"""

from custody.errors import IntentInvalid

_TEXT_MAX = 200
_HASH_BYTES = 32


def claims_from(told: object) -> dict[str, object]:
    """Claims as plain values: `account` and `asset` (texts), `amount` (smallest units, as text), `key_hash` (SHA-256 of
    the idempotency key, or None). Raises IntentInvalid."""
    match told:
        case {"account": str(account), "asset": str(asset), "amount": str(amount), "key_hash": key_hash, **rest}:
            texts = all(1 <= len(text) <= _TEXT_MAX for text in (account, asset, amount))
            hashed = key_hash is None or (isinstance(key_hash, bytes) and len(key_hash) == _HASH_BYTES)
            if not rest and texts and hashed and amount.isascii() and amount.isdecimal():
                return {"account": account, "asset": asset, "amount": amount, "key_hash": key_hash}
    raise IntentInvalid("claims are account, asset, amount (digits) and key_hash (32 bytes or null)", param="claims")
