"""Intents as JSON, for files and APIs: `docs/approvals.md` has each kind by example. Pure, exact both ways.

Whole numbers are strings of digits (a JSON number below 2**53 is read as well), bytes are 0x and hex, one of our own
keys is "hot:0", a leg of a batch {"subject", "to", "amount"}. What people approve of an intent (its terms) is the same
without nonce, attempt, gas and prices.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from custody.derivation import MAX_INDEX, Role, checksummed
from custody.errors import IntentInvalid
from custody.intents import (
    Authorisation,
    Cancel,
    First,
    Intent,
    KeyRef,
    Leg,
    ProofOfControl,
    from_map,
    keys_name,
    keys_named,
    to_map,
)

_NUMBERS: Final = frozenset(
    {
        *("chain_id", "attempt", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas"),
        *("amount", "valid_before"),
    }
)
_ADDRESSES: Final = frozenset({"contract", "via", "spender", "to"})
_BYTES: Final = frozenset({"code", "root", "signature"})
_KEYS: Final = frozenset({"sender", "owner"})
PRICED: Final[Mapping[str, int]] = {
    "attempt": 1,
    "nonce": 0,
    "gas_limit": 21_000,
    "max_fee_per_gas": 1,
    "max_priority_fee_per_gas": 0,
}
"""What isn't among an intent's terms, with what stands in for it where a whole intent is wanted."""

_MESSAGES: Final = frozenset({Authorisation.kind, ProofOfControl.kind})
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,77}")
_HEX: Final = re.compile(r"0x([0-9a-fA-F]{2})*")
_KEY: Final = re.compile(r"([a-z]+(?:\.[0-9]+)?):(0|[1-9][0-9]{0,9})")
_EXACT: Final = 2**53
_BYTES_MAX: Final = 256 * 1024


def intent_to_json(intent: Intent) -> dict[str, object]:
    """An intent as JSON values."""
    return {name: _told(name, value) for name, value in to_map(intent).items()}


def intent_from_json(told: object) -> Intent:
    """The intent that JSON values mean. Raises IntentInvalid naming the field at fault."""
    if not isinstance(told, dict):
        raise IntentInvalid("an intent is a JSON object")
    return from_map({str(name): _read(str(name), value) for name, value in told.items()})


def terms_to_json(intent: Intent) -> dict[str, object]:
    """An intent's terms as JSON values; creation code in full, though it's approved by its hash."""
    return {name: value for name, value in intent_to_json(intent).items() if name not in PRICED}


def intent_from_terms_json(told: object) -> First:
    """An intent with these terms, given as JSON values; what isn't among them is made up. Raises IntentInvalid."""
    if not isinstance(told, dict):
        raise IntentInvalid("an intent's terms are a JSON object", param="terms")
    return intent_from_terms({str(name): _read(str(name), value) for name, value in told.items()})


def intent_from_terms(told: Mapping[str, object]) -> First:
    """An intent with these terms, given as CBOR values; what isn't among them is made up. Raises IntentInvalid."""
    odd = sorted(told.keys() & PRICED.keys())
    if odd:
        raise IntentInvalid(f"terms have no {', '.join(odd)}: that's the chain's affair", param="terms")
    if told.get("kind") == "cancel":
        raise IntentInvalid("a cancellation needs nobody's approval", param="kind")
    made = from_map({**({} if told.get("kind") in _MESSAGES else PRICED), **told})
    assert not isinstance(made, Cancel)
    return made


def read_intent(text: str) -> Intent:
    """The intent in a file's text. Raises IntentInvalid."""
    return intent_from_json(_parsed(text))


def terms_of_file(text: str) -> object:
    """The terms in a file's text, as JSON values: those of a whole intent, or terms alone. Raises IntentInvalid."""
    told = _parsed(text)
    return {name: value for name, value in told.items() if name not in PRICED} if isinstance(told, dict) else told


def _parsed(text: str) -> object:
    if len(text) > _BYTES_MAX:
        raise IntentInvalid("the file is too long for an intent")
    try:
        return json.loads(text, parse_float=_refuse, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as problem:
        raise IntentInvalid(f"the intent isn't JSON: {problem}") from problem


def _told(name: str, value: object) -> object:
    if name == "legs" and isinstance(value, list):
        return [{"subject": subject, "to": checksummed(to), "amount": str(amount)} for subject, to, amount in value]
    match value:
        case [str(role), int(index)]:
            return f"{role}:{index}"
        case [str(role), int(index), int(generation)]:
            return f"{keys_name(Role(role), generation)}:{index}"
        case bytes() if name in _ADDRESSES:
            return checksummed(value)
        case bytes():
            return "0x" + value.hex()
        case int():
            return str(value)
        case _:
            return value


def _read(name: str, told: object) -> object:
    if name in _NUMBERS:
        return _number(name, told)
    if name in _KEYS:
        return _key(name, told)
    if name == "to" and isinstance(told, str) and _KEY.fullmatch(told):
        return _key(name, told)
    if name in _ADDRESSES and told is not None:
        return _address(name, told)
    if name in _BYTES:
        return _bytes(name, told)
    if name == "legs":
        return _legs(told)
    return told


def _number(name: str, told: object) -> int:
    if isinstance(told, str) and _DIGITS.fullmatch(told):
        return int(told)
    if type(told) is int and 0 <= told < _EXACT:
        return told
    raise IntentInvalid(f'{name} is a whole number as a string of digits, such as "1000000"', param=name)


def key_named(told: object, param: str = "key") -> KeyRef:
    """The key that a text such as `hot:0` or `hot.2:0` names. Raises IntentInvalid."""
    found = _KEY.fullmatch(told) if isinstance(told, str) else None
    if found is None or int(found[2]) > MAX_INDEX:
        raise IntentInvalid(f'{param}: a key is written "hot:0", of a later generation "hot.2:0"', param=param)
    role, generation = keys_named(found[1])
    return KeyRef(role, int(found[2]), generation)


def _key(name: str, told: object) -> list[object]:
    key = key_named(told, name)
    return [key.role.value, key.index, *([key.generation] if key.generation > 1 else [])]


def _bytes(name: str, told: object) -> bytes:
    if not isinstance(told, str) or not _HEX.fullmatch(told):
        raise IntentInvalid(f"{name} is 0x and hexadecimal digits", param=name)
    return bytes.fromhex(told[2:])


def _address(name: str, told: object) -> bytes:
    address = _bytes(name, told)
    if len(address) != 20:
        raise IntentInvalid(f"{name}: an address is 0x and 40 hexadecimal digits", param=name)
    if told not in ("0x" + address.hex(), checksummed(address)):
        raise IntentInvalid(f"{name}: {told} has a wrong EIP-55 checksum: a character is mistyped", param=name)
    return address


def _legs(told: object) -> list[list[object]]:
    if not isinstance(told, list):
        raise IntentInvalid("legs are a list", param="legs")
    legs: list[list[object]] = []
    for leg in told:
        if not isinstance(leg, dict) or leg.keys() != {"subject", "to", "amount"}:
            raise IntentInvalid("a leg has subject, to and amount", param="legs")
        made = Leg(leg["subject"], _address("legs.to", leg["to"]), _number("legs.amount", leg["amount"]))
        legs.append([made.subject, made.to, made.amount])
    return legs


def _refuse(text: str) -> object:
    raise ValueError(f"{text} isn't a whole number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
