"""What may be asked of the signer: a closed set of typed intents. There is none that signs bytes or a hash.

An intent names its sender by role and index; the signer derives the address and builds what is signed itself. Most are
transactions (EIP-1559); an authorisation (EIP-3009) and a proof of control (EIP-191) are messages. The checks here are
those of form; whether an intent is allowed is the policy's word, whether its nonce is right the journal's. Pure.

Contracts that an intent names (a token, what pays batches, an anchor) are claims like all else in it: the policy
compares them with its own literals.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, ClassVar, Final, TypeAlias

import cbor2

from custody.derivation import MAX_INDEX, Role, keccak
from custody.errors import IntentInvalid

DOMAIN: Final = "onebook/intent/1"
"""Stands before every canonical intent, so that its bytes can't be taken for anything else; ends in the version."""

NATIVE: Final = "native"
"""The asset of the network's own coin, where a token is named by its contract."""

LEGS_MAX: Final = 100
"""Payments in one batch."""

CODE_BYTES_MAX: Final = 49_152
"""Creation code of a contract (EIP-3860)."""

GENERATIONS_MAX: Final = 99
"""Seeds of one role, one after the other."""

AUTHORISATION_SECONDS: Final = 3600
"""The longest that an authorisation may stay valid."""

_UINT256 = 2**256
_INT63 = 2**63 - 1
"""Bound for chain ids (EIP-2294 allows slightly less), nonces (EIP-2681 slightly more) and gas: they fit any store."""
_FEE_MAX = 2**128
"""Bound for wei per gas; a real one is far below 2**64."""
_ATTEMPT_MAX = 10_000
_GAS_LIMIT_MIN = 21_000
_SUBJECT = re.compile(r"[a-z][a-z0-9]{0,15}_[a-z0-9-]{1,64}")
_GENERATION = re.compile(r"[2-9]|[1-9][0-9]")
_EPOCH = re.compile(r"[0-9]{1,20}")
_HASH_BYTES = 32
_SIGNATURE_BYTES = 65
_DOMAIN_TEXT_MAX = 64


@dataclass(frozen=True, slots=True)
class KeyRef:
    """A key by role, index and generation: `m/44'/60'/role'/0/index` of the seed that the generation names."""

    role: Role
    index: int
    generation: int = 1

    def __post_init__(self) -> None:
        _whole("sender.index", self.index, 0, MAX_INDEX)
        _whole("sender.generation", self.generation, 1, GENERATIONS_MAX)

    @property
    def keys(self) -> str:
        """The name of the keys it's one of: `hot`, or `hot.2` after a rotation."""
        return keys_name(self.role, self.generation)

    def __str__(self) -> str:
        return f"{self.keys}:{self.index}"


def keys_name(role: Role, generation: int) -> str:
    """How a role's keys of a generation are named: the first by the role alone."""
    return role.value if generation == 1 else f"{role.value}.{generation}"


def keys_named(name: str) -> tuple[Role, int]:
    """Role and generation behind such a name. Raises IntentInvalid."""
    role, dot, generation = name.partition(".")
    if role in Role.__members__.values() and (not dot or _GENERATION.fullmatch(generation)):
        return Role(role), int(generation) if dot else 1
    raise IntentInvalid("keys are named by their role, later generations as hot.2", param="keys", code="keys_unknown")


Destination: TypeAlias = bytes | KeyRef
"""Whom to pay: 20 bytes of anybody, or one of our own keys, whose address only the signer's derivation decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What every intent says. `subject` is what it's for (`wdr_...`): one subject is signed once."""

    kind: ClassVar[str]

    subject: str
    chain_id: int
    sender: KeyRef

    def _check_asked(self) -> None:
        _subject("subject", self.subject)
        _whole("chain_id", self.chain_id, 1, _INT63)
        if not isinstance(self.sender, KeyRef):
            raise IntentInvalid("a key is named by [role, index]", param="sender")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt(_Asked):
    """What every transaction says. Fees are wei per gas, as EIP-1559 means them."""

    attempt: int
    nonce: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int

    @property
    def fee_wei_max(self) -> int:
        """The most that the network can take for this attempt."""
        return self.gas_limit * self.max_fee_per_gas

    def _check_attempt(self) -> None:
        self._check_asked()
        _whole("attempt", self.attempt, 1, _ATTEMPT_MAX)
        _whole("nonce", self.nonce, 0, _INT63)
        _whole("gas_limit", self.gas_limit, _GAS_LIMIT_MIN, _INT63)
        _whole("max_fee_per_gas", self.max_fee_per_gas, 1, _FEE_MAX)
        _whole("max_priority_fee_per_gas", self.max_priority_fee_per_gas, 0, self.max_fee_per_gas)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message(_Asked):
    """What is signed off the chain: it has no nonce and no fee, and is signed once."""

    @property
    def attempt(self) -> int:
        return 1

    @property
    def nonce(self) -> None:
        return None

    @property
    def fee_wei_max(self) -> int:
        return 0


# --- paying others ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeTransfer(_Attempt):
    """Pay `amount` wei of the network's own coin."""

    kind = "native_transfer"

    to: Destination
    amount: int

    def __post_init__(self) -> None:
        self._check_attempt()
        _destination("to", self.to)
        _amount("amount", self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTransfer(_Attempt):
    """Pay `amount` smallest units of the ERC-20 token at `contract` (20 bytes)."""

    kind = "token_transfer"

    contract: bytes
    to: Destination
    amount: int

    def __post_init__(self) -> None:
        self._check_attempt()
        _address("contract", self.contract)
        _destination("to", self.to)
        _not_the_contract(self.to, self.contract)
        _amount("amount", self.amount)


@dataclass(frozen=True, slots=True)
class Leg:
    """One payment of a batch: `subject` is its withdrawal, paid by this batch and by nothing else."""

    subject: str
    to: bytes
    amount: int

    def __post_init__(self) -> None:
        _subject("legs.subject", self.subject)
        _address("legs.to", self.to)
        _amount("legs.amount", self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutBatch(_Attempt):
    """Pay 1 to 100 legs of one asset through the payout contract `via`; `contract` is the token, None the coin."""

    kind = "payout_batch"

    via: bytes
    contract: bytes | None
    legs: tuple[Leg, ...]

    def __post_init__(self) -> None:
        self._check_attempt()
        _address("via", self.via)
        if self.contract is not None:
            _address("contract", self.contract)
        if not isinstance(self.legs, tuple) or not 1 <= len(self.legs) <= LEGS_MAX:
            raise IntentInvalid(f"a batch has 1 to {LEGS_MAX} legs", param="legs")
        if len({leg.subject for leg in self.legs} | {self.subject}) <= len(self.legs):
            raise IntentInvalid("every leg of a batch pays another withdrawal", param="legs", code="leg_repeated")
        for leg in self.legs:
            if leg.to in (self.via, self.contract):
                raise IntentInvalid("a leg to the contract itself would lose it", param="legs", code="to_is_contract")
        _amount("legs", self.amount)

    @property
    def amount(self) -> int:
        """The sum of the legs."""
        return sum(leg.amount for leg in self.legs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance(_Attempt):
    """Let `spender`, our payout contract, take exactly `amount` of a token for the batch whose subject is `batch`.

    Amount 0 takes an allowance back, which some tokens want before another is given.
    """

    kind = "allowance"

    contract: bytes
    spender: bytes
    amount: int
    batch: str

    def __post_init__(self) -> None:
        self._check_attempt()
        _address("contract", self.contract)
        _address("spender", self.spender)
        _whole("amount", self.amount, 0, _UINT256 - 1)
        _subject("batch", self.batch)
        if self.batch == self.subject:
            raise IntentInvalid("an allowance is another subject than its batch", param="batch")


# --- moving our own --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(_Attempt):
    """Move what lies on an own address to its sweep target; `contract` is the token, None the native coin."""

    kind = "sweep"

    contract: bytes | None
    to: Destination
    amount: int

    def __post_init__(self) -> None:
        self._check_attempt()
        if self.contract is not None:
            _address("contract", self.contract)
            _not_the_contract(self.to, self.contract)
        _destination("to", self.to)
        _elsewhere(self.sender, self.to)
        _amount("amount", self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp(_Attempt):
    """Give an own address `amount` wei, so that it can pay for its transactions."""

    kind = "top_up"

    to: KeyRef
    amount: int

    def __post_init__(self) -> None:
        self._check_attempt()
        if not isinstance(self.to, KeyRef):
            raise IntentInvalid("a top-up goes to one of our keys, named by [role, index]", param="to")
        _elsewhere(self.sender, self.to)
        _amount("amount", self.amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation(_Message):
    """Let anybody move `amount` of a token from the sender to `to`, until `valid_before` (Unix seconds; EIP-3009).

    `domain_name` and `domain_version` are the token's, for EIP-712.
    """

    kind = "authorisation"

    contract: bytes
    domain_name: str
    domain_version: str
    to: Destination
    amount: int
    valid_before: int

    def __post_init__(self) -> None:
        self._check_asked()
        _address("contract", self.contract)
        _short("domain_name", self.domain_name)
        _short("domain_version", self.domain_version)
        _destination("to", self.to)
        _elsewhere(self.sender, self.to)
        _not_the_contract(self.to, self.contract)
        _amount("amount", self.amount)
        _whole("valid_before", self.valid_before, 1, _INT63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay(_Attempt):
    """Carry an authorisation that this signer gave to its token; all but `authorisation` repeats what was signed."""

    kind = "relay"

    authorisation: str
    contract: bytes
    owner: KeyRef
    to: Destination
    amount: int
    valid_before: int
    signature: bytes

    def __post_init__(self) -> None:
        self._check_attempt()
        _subject("authorisation", self.authorisation)
        _address("contract", self.contract)
        if not isinstance(self.owner, KeyRef):
            raise IntentInvalid("a key is named by [role, index]", param="owner")
        _destination("to", self.to)
        _amount("amount", self.amount)
        _whole("valid_before", self.valid_before, 1, _INT63)
        _sized("signature", self.signature, _SIGNATURE_BYTES)


# --- beside money ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(_Attempt):
    """Create a contract from `code` (with its arguments); no value goes with it."""

    kind = "deployment"

    code: bytes

    def __post_init__(self) -> None:
        self._check_attempt()
        if not isinstance(self.code, bytes) or not 1 <= len(self.code) <= CODE_BYTES_MAX:
            raise IntentInvalid(f"creation code has 1 to {CODE_BYTES_MAX} bytes", param="code")

    @property
    def code_hash(self) -> bytes:
        """Keccak-256 of the creation code: what a policy names it by."""
        return bytes(keccak(self.code))


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor(_Attempt):
    """Write a root (32 bytes) on the chain: a call of `to` with nothing but it, and no value."""

    kind = "anchor"

    to: bytes
    root: bytes

    def __post_init__(self) -> None:
        self._check_attempt()
        _address("to", self.to)
        _sized("root", self.root, _HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOfControl(_Message):
    """Sign `Onebook proves control of ADDRESS on network CHAIN for EPOCH ROOT` (EIP-191) with the sender's key."""

    kind = "proof"

    epoch: str
    root: bytes

    def __post_init__(self) -> None:
        self._check_asked()
        if not isinstance(self.epoch, str) or not _EPOCH.fullmatch(self.epoch):
            raise IntentInvalid("an epoch is 1 to 20 digits", param="epoch")
        _sized("root", self.root, _HASH_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(_Attempt):
    """Use up the nonce of a journalled intent: pay nothing to oneself at higher fees."""

    kind = "cancel"

    def __post_init__(self) -> None:
        self._check_attempt()


Transfer: TypeAlias = NativeTransfer | TokenTransfer
Message: TypeAlias = Authorisation | ProofOfControl
First: TypeAlias = (
    NativeTransfer
    | TokenTransfer
    | PayoutBatch
    | Allowance
    | Sweep
    | TopUp
    | Relay
    | Deployment
    | Anchor
    | Authorisation
    | ProofOfControl
)
"""What a subject can begin with; a cancellation only follows."""
Payment: TypeAlias = (
    NativeTransfer | TokenTransfer | PayoutBatch | Allowance | Sweep | TopUp | Relay | Deployment | Anchor | Cancel
)
"""What becomes a transaction."""
Intent: TypeAlias = First | Cancel

_FORMS: Final[dict[str, type[Intent]]] = {
    form.kind: form
    for form in (
        *(NativeTransfer, TokenTransfer, PayoutBatch, Allowance, Sweep, TopUp, Authorisation, Relay),
        *(Deployment, Anchor, ProofOfControl, Cancel),
    )
}
_NAMES: Final = {name: frozenset(item.name for item in fields(form)) for name, form in _FORMS.items()}
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(item.name for item in fields(form)) for name, form in _FORMS.items()
}
_PRICED = frozenset({"attempt", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas"})
"""What people don't approve: the chain's affairs. The fee has its highest total."""


def asset_of(intent: Intent) -> str | None:
    """`native`, or the token's contract in lower-case hex: how policy and journal name what moves; None if nothing."""
    match intent:
        case NativeTransfer() | TopUp():
            return NATIVE
        case PayoutBatch(contract=None) | Sweep(contract=None):
            return NATIVE
        case Deployment() | Anchor() | ProofOfControl() | Cancel():
            return None
        case _:
            assert intent.contract is not None
            return "0x" + intent.contract.hex()


def subjects_of(intent: Intent) -> tuple[str, ...]:
    """Every subject that is used up by signing: the intent's own, and those of its legs."""
    legs = tuple(leg.subject for leg in intent.legs) if isinstance(intent, PayoutBatch) else ()
    return (intent.subject, *legs)


def keys_of(intent: Intent) -> tuple[KeyRef, ...]:
    """Every own key that an intent names, the sender first."""
    named = (getattr(intent, "to", None), getattr(intent, "owner", None))
    return (intent.sender, *(key for key in named if isinstance(key, KeyRef)))


def kind_of(intent: Intent) -> str:
    """The intent's name on the wire and in the journal."""
    return intent.kind


def to_map(intent: Intent) -> dict[str, object]:
    """An intent as CBOR values: a key as a list, an address as 20 bytes, a leg as [subject, to, amount]."""
    told: dict[str, object] = {name: _plain(getattr(intent, name)) for name in _FIELDS[intent.kind]}
    return {"kind": intent.kind, **told}


def terms(intent: Intent) -> dict[str, object]:
    """What people approve of an intent: all but nonce, attempt and prices; creation code by its hash."""
    told = {name: value for name, value in to_map(intent).items() if name not in _PRICED}
    if isinstance(intent, Deployment):
        told["code"] = intent.code_hash
    return told


def from_map(told: object) -> Intent:
    """The intent that a map means. Raises IntentInvalid for an unknown kind, missing or unknown fields, wrong types."""
    if not isinstance(told, dict):
        raise IntentInvalid("an intent is a map")
    kind = told.get("kind")
    if not isinstance(kind, str) or kind not in _FORMS:
        raise IntentInvalid("the signer knows no such kind of intent", code="intent_unknown", param="kind")
    values: dict[str, Any] = {name: value for name, value in told.items() if name != "kind"}
    if values.keys() != _NAMES[kind]:
        odd = sorted(str(name)[:64] for name in values.keys() ^ _NAMES[kind])
        raise IntentInvalid(f"a {kind} has exactly its own fields; unknown or missing: {', '.join(odd[:8])}")
    for name, read in _READERS.items():
        if name in values:
            values[name] = read(name, values[name])
    return _FORMS[kind](**values)


def canonical(intent: Intent) -> bytes:
    """Deterministic CBOR (RFC 8949 section 4.2) of an intent under its domain: what is journalled."""
    return cbor2.dumps([DOMAIN, to_map(intent)], canonical=True)


def digest(intent: Intent) -> bytes:
    """SHA-256 of the canonical intent."""
    return sha256(canonical(intent)).digest()


def _plain(value: object) -> object:
    match value:
        case KeyRef():
            return [value.role.value, value.index, *([value.generation] if value.generation > 1 else [])]
        case tuple():
            return [[leg.subject, leg.to, leg.amount] for leg in value]
        case _:
            return value


def _key_ref(param: str, told: object) -> KeyRef:
    match told:
        case [str(role), int(index)] if role in Role.__members__.values():
            return KeyRef(Role(role), index)
        case [str(role), int(index), int(generation)] if role in Role.__members__.values() and generation != 1:
            return KeyRef(Role(role), index, generation)
    raise IntentInvalid("a key is named by [role, index], or [role, index, generation] from 2 on", param=param)


def _to(param: str, told: object) -> object:
    return _key_ref(param, told) if isinstance(told, list) else told


def _legs(param: str, told: object) -> tuple[Leg, ...]:
    if not isinstance(told, list) or not all(isinstance(leg, list) and len(leg) == 3 for leg in told):
        raise IntentInvalid("legs are a list of [subject, to, amount]", param=param)
    return tuple(Leg(*leg) for leg in told)


_READERS: Final[dict[str, Callable[[str, object], object]]] = {
    "sender": _key_ref,
    "owner": _key_ref,
    "to": _to,
    "legs": _legs,
}


def _whole(param: str, number: object, low: int, high: int) -> None:
    if type(number) is not int or not low <= number <= high:
        raise IntentInvalid(f"{param} must be a whole number from {low} to {high}", param=param)


def _amount(param: str, amount: object) -> None:
    _whole(param, amount, 1, _UINT256 - 1)


def _subject(param: str, subject: object) -> None:
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise IntentInvalid("a subject is an id such as wdr_01jd3v", param=param)


def _address(param: str, address: object) -> None:
    _sized(param, address, 20)
    if not any(address):  # type: ignore[arg-type]  # bytes, or the line before raised
        raise IntentInvalid("nobody holds the zero address", param=param, code="zero_address")


def _destination(param: str, to: object) -> None:
    if not isinstance(to, KeyRef):
        _address(param, to)


def _not_the_contract(to: object, contract: bytes) -> None:
    if to == contract:
        raise IntentInvalid("paying a token to its own contract would lose it", param="to", code="to_is_contract")


def _elsewhere(sender: KeyRef, to: object) -> None:
    if to == sender:
        raise IntentInvalid("an address doesn't pay itself", param="to", code="to_is_sender")


def _sized(param: str, told: object, size: int) -> None:
    if not isinstance(told, bytes) or len(told) != size:
        what = "an address of 20 bytes" if size == 20 else f"{size} bytes"
        raise IntentInvalid(f"{param} must be {what}", param=param)


def _short(param: str, told: object) -> None:
    if not isinstance(told, str) or not 1 <= len(told) <= _DOMAIN_TEXT_MAX or not told.isprintable():
        raise IntentInvalid(f"{param} is a text of 1 to {_DOMAIN_TEXT_MAX} characters", param=param)
