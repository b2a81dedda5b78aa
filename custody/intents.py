"""What may be asked of the signer: a closed set of typed intents. There is none that signs bytes or a hash.

An intent names its sender by role and index; the signer derives the address and builds the transaction itself. The
checks here are those of form; whether an intent is allowed is the policy's word, whether its nonce is right the
journal's. Pure.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias

import cbor2

from custody.derivation import MAX_INDEX, Role
from custody.errors import IntentInvalid

DOMAIN: Final = "onebook/intent/1"
"""Stands before every canonical intent, so that its bytes can't be taken for anything else; ends in the version."""

NATIVE: Final = "native"
"""The asset of a NativeTransfer, where a token is named by its contract."""

_UINT256 = 2**256
_INT63 = 2**63 - 1
"""Bound for chain ids (EIP-2294 allows slightly less), nonces (EIP-2681 slightly more) and gas: they fit any store."""
_FEE_MAX = 2**128
"""Bound for wei per gas; a real one is far below 2**64."""
_ATTEMPT_MAX = 10_000
_GAS_LIMIT_MIN = 21_000
_SUBJECT = re.compile(r"[a-z][a-z0-9]{0,15}_[a-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key by role and index: `m/44'/60'/role'/0/index`."""

    role: Role
    index: int

    def __post_init__(self) -> None:
        _whole("sender.index", self.index, 0, MAX_INDEX)

    def __str__(self) -> str:
        return f"{self.role.value}:{self.index}"


Destination: TypeAlias = bytes | KeyRef
"""Whom to pay: 20 bytes of anybody, or one of our own keys, whose address only the signer's derivation decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What every intent says. Fees are wei per gas, as EIP-1559 means them; `subject` is what is paid (`wdr_...`)."""

    subject: str
    attempt: int
    chain_id: int
    sender: KeyRef
    nonce: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int

    @property
    def fee_wei_max(self) -> int:
        """The most that the network can take for this attempt."""
        return self.gas_limit * self.max_fee_per_gas

    def _check_attempt(self) -> None:
        if not isinstance(self.subject, str) or not _SUBJECT.fullmatch(self.subject):
            raise IntentInvalid("a subject is an id such as wdr_01jd3v", param="subject")
        _whole("attempt", self.attempt, 1, _ATTEMPT_MAX)
        _whole("chain_id", self.chain_id, 1, _INT63)
        _whole("nonce", self.nonce, 0, _INT63)
        _whole("gas_limit", self.gas_limit, _GAS_LIMIT_MIN, _INT63)
        _whole("max_fee_per_gas", self.max_fee_per_gas, 1, _FEE_MAX)
        _whole("max_priority_fee_per_gas", self.max_priority_fee_per_gas, 0, self.max_fee_per_gas)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeTransfer(_Attempt):
    """Pay `amount` wei of the network's own coin."""

    to: Destination
    amount: int

    def __post_init__(self) -> None:
        self._check_attempt()
        _destination(self.to)
        _whole("amount", self.amount, 1, _UINT256 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTransfer(_Attempt):
    """Pay `amount` smallest units of the ERC-20 token at `contract` (20 bytes)."""

    contract: bytes
    to: Destination
    amount: int

    def __post_init__(self) -> None:
        self._check_attempt()
        _address("contract", self.contract)
        _destination(self.to)
        if self.to == self.contract:
            raise IntentInvalid("paying a token to its own contract would lose it", param="to", code="to_is_contract")
        _whole("amount", self.amount, 1, _UINT256 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(_Attempt):
    """Use up the nonce of a journalled intent: pay nothing to oneself at higher fees."""

    def __post_init__(self) -> None:
        self._check_attempt()


Transfer: TypeAlias = NativeTransfer | TokenTransfer
Intent: TypeAlias = NativeTransfer | TokenTransfer | Cancel

_KINDS: Final[dict[str, type[Intent]]] = {
    "native_transfer": NativeTransfer,
    "token_transfer": TokenTransfer,
    "cancel": Cancel,
}
_COMMON: Final = (
    "subject",
    "attempt",
    "chain_id",
    "sender",
    "nonce",
    "gas_limit",
    "max_fee_per_gas",
    "max_priority_fee_per_gas",
)
_FIELDS: Final[dict[str, frozenset[str]]] = {
    "native_transfer": frozenset((*_COMMON, "to", "amount")),
    "token_transfer": frozenset((*_COMMON, "contract", "to", "amount")),
    "cancel": frozenset(_COMMON),
}


def asset_of(intent: Transfer) -> str:
    """`native`, or the token's contract in lower-case hex: how policy and journal name what is paid."""
    return NATIVE if isinstance(intent, NativeTransfer) else "0x" + intent.contract.hex()


def kind_of(intent: Intent) -> str:
    """The intent's name on the wire and in the journal."""
    return next(name for name, form in _KINDS.items() if type(intent) is form)


def to_map(intent: Intent) -> dict[str, object]:
    """An intent as a map of CBOR values: a key as [role, index], an address as 20 bytes."""
    fields: dict[str, object] = {name: _plain(getattr(intent, name)) for name in _FIELDS[kind_of(intent)]}
    return {"kind": kind_of(intent), **fields}


def from_map(told: object) -> Intent:
    """The intent that a map means. Raises IntentInvalid for an unknown kind, missing or unknown fields, wrong types."""
    if not isinstance(told, dict):
        raise IntentInvalid("an intent is a map")
    kind = told.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise IntentInvalid("the signer knows no such kind of intent", code="intent_unknown", param="kind")
    fields = {name: value for name, value in told.items() if name != "kind"}
    if fields.keys() != _FIELDS[kind]:
        odd = sorted(str(name)[:64] for name in fields.keys() ^ _FIELDS[kind])
        raise IntentInvalid(f"a {kind} has exactly its own fields; unknown or missing: {', '.join(odd[:8])}")
    fields["sender"] = _key_ref("sender", fields["sender"])
    if isinstance(fields.get("to"), list):
        fields["to"] = _key_ref("to", fields["to"])
    return _KINDS[kind](**fields)


def canonical(intent: Intent) -> bytes:
    """Deterministic CBOR (RFC 8949 section 4.2) of an intent under its domain: what is journalled and approved."""
    return cbor2.dumps([DOMAIN, to_map(intent)], canonical=True)


def digest(intent: Intent) -> bytes:
    """SHA-256 of the canonical intent."""
    return sha256(canonical(intent)).digest()


def _plain(value: object) -> object:
    return [value.role.value, value.index] if isinstance(value, KeyRef) else value


def _key_ref(param: str, told: object) -> KeyRef:
    match told:
        case [str(role), int(index)] if role in Role.__members__.values():
            return KeyRef(Role(role), index)
    raise IntentInvalid("a key is named by [role, index]", param=param)


def _whole(param: str, number: object, low: int, high: int) -> None:
    if type(number) is not int or not low <= number <= high:
        raise IntentInvalid(f"{param} must be a whole number from {low} to {high}", param=param)


def _address(param: str, address: object) -> None:
    if not isinstance(address, bytes) or len(address) != 20:
        raise IntentInvalid(f"{param} must be an address of 20 bytes", param=param)
    if not any(address):
        raise IntentInvalid("nobody holds the zero address", param=param, code="zero_address")


def _destination(to: object) -> None:
    if not isinstance(to, KeyRef):
        _address("to", to)
