"""A policy with known limits, and intents that it allows."""

from typing import Any

from custody.derivation import Role
from custody.intents import Cancel, KeyRef, NativeTransfer, TokenTransfer
from custody.policy_file import Limits, starter_policy

CHAIN = 31_337
TOKEN = bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")
STRANGER = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")
GWEI = 10**9
FEE_WEI_MAX = 10**16
TOKEN_LIMITS = Limits(per_transfer=1_000, per_day=2_500)
NATIVE_LIMITS = Limits(per_transfer=10**18, per_day=5 * 10**18)
HOT = KeyRef(Role.HOT, 0)


def policy_text(**changes: Any) -> str:
    stated: dict[str, Any] = {
        "chain_id": CHAIN,
        "tokens": {"0x" + TOKEN.hex(): TOKEN_LIMITS},
        "native": NATIVE_LIMITS,
        "top_ups": Limits(per_transfer=10**17, per_day=10**18),
        "fee_wei_max": FEE_WEI_MAX,
        "highest_deposit_index": 5_000,
    }
    return starter_policy(**(stated | changes))


_COMMON: dict[str, Any] = {
    "subject": "wdr_1",
    "attempt": 1,
    "chain_id": CHAIN,
    "sender": HOT,
    "nonce": 0,
    "gas_limit": 60_000,
    "max_fee_per_gas": 30 * GWEI,
    "max_priority_fee_per_gas": 2 * GWEI,
}


def token_transfer(**changes: Any) -> TokenTransfer:
    return TokenTransfer(**(_COMMON | {"contract": TOKEN, "to": STRANGER, "amount": 500} | changes))


def native_transfer(**changes: Any) -> NativeTransfer:
    return NativeTransfer(**(_COMMON | {"to": STRANGER, "amount": 10**17} | changes))


def cancel(**changes: Any) -> Cancel:
    return Cancel(**(_COMMON | changes))


def dearer(intent: Any, *, attempt: int = 2, **changes: Any) -> dict[str, Any]:
    """The fields of a replacement's fees."""
    return {
        "attempt": attempt,
        "max_fee_per_gas": intent.max_fee_per_gas * 2,
        "max_priority_fee_per_gas": intent.max_priority_fee_per_gas * 2,
    } | changes
