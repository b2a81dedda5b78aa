"""What people sign, and how the signer checks it: approvals of intents, policies, freezes, times and journals. Pure.

A statement is deterministic CBOR (RFC 8949 section 4.2) of [domain, body]; the domain says what kind it is, so that no
signature can be taken for another. Signatures are Ed25519 (RFC 8032) over the statement itself. A signature names its
scheme, so that passkeys (WebAuthn assertions over the statement's hash) can be verified beside, later.

Not here: who may approve (the policy's people), how many are needed (its rules), keeping keys (approver_keys).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from custody.errors import IntentInvalid
from custody.intents import Intent, terms

ED25519: Final = "ed25519"
"""The one scheme that is verified today."""

SIGNATURES_MAX: Final = 32
"""Signatures under one statement."""

SMALL_ORDER: Final = tuple(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
"""Public keys of small order, but for the sign bit: anybody makes signatures that hold under them (libsodium's)."""

APPROVAL: Final = "onebook/approval/1"
"""Domain of what approvers of an intent sign."""

_MADE = "onebook/made/1"
_POLICY = "onebook/policy-approval/1"
_FREEZE = "onebook/freeze/1"
_LIFT = "onebook/lift/1"
_TIME = "onebook/time/1"
_RESYNC = "onebook/resync/1"
_NAME_MAX = 64
_SECONDS_MAX = 2**40
_FEE_MAX = 2**160
_FINGERPRINT_BYTES = 32
_MORE = frozenset({"policy_fingerprint", "made_by", "approvals"})
_SIGNATURE_BYTES_MAX = 1024
"""An Ed25519 signature has 64, a passkey's assertion some hundreds: a row must stay short enough to be read."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose signature counts: a name, and an Ed25519 public key (32 bytes)."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """A person's signature under a statement; which one is said beside it."""

    by: str
    signature: bytes = field(repr=False)
    scheme: str = ED25519


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """What people said about an intent: who made it, until when it may first be signed, at which highest total fee.

    `policy_version` and `policy_fingerprint` (32 bytes) are the policy that they had in mind, which names the keys that
    it is for; `not_after` Unix seconds. `made_by` is the maker's own signature, for all but a user's withdrawal, whose
    maker is a claim.
    """

    maker: str
    not_after: int
    fee_wei_max: int
    policy_version: int
    policy_fingerprint: bytes
    made_by: Signature | None = None
    approvals: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.maker, str) or not 1 <= len(self.maker) <= _NAME_MAX or not self.maker.isprintable():
            raise IntentInvalid(f"a maker is a name of 1 to {_NAME_MAX} characters", param="maker")
        for name, limit in (("not_after", _SECONDS_MAX), ("fee_wei_max", _FEE_MAX), ("policy_version", 2**63)):
            number = getattr(self, name)
            if type(number) is not int or not 0 <= number < limit:
                raise IntentInvalid(f"{name} is a whole number below {limit}", param=name)
        if not isinstance(self.policy_fingerprint, bytes) or len(self.policy_fingerprint) != _FINGERPRINT_BYTES:
            raise IntentInvalid("a policy's fingerprint has 32 bytes", param="policy_fingerprint")
        if len(self.approvals) > SIGNATURES_MAX:
            raise IntentInvalid(f"at most {SIGNATURES_MAX} approvals", param="approvals")


@dataclass(frozen=True, slots=True)
class Unproven:
    """Why signatures don't count, as a stable code and a sentence."""

    code: str
    sentence: str


def approval_statement(intent: Intent, mandate: Mandate) -> bytes:
    """What an approver signs: the intent's terms and the mandate, without anybody's signature."""
    return _statement(APPROVAL, _mandated(intent, mandate))


def maker_statement(intent: Intent, mandate: Mandate) -> bytes:
    """What the maker of a treasury intent signs: the same, under another domain."""
    return _statement(_MADE, _mandated(intent, mandate))


def policy_statement(fingerprint: bytes, version: int) -> bytes:
    """What approvers of the policy in force sign under its successor."""
    return _statement(_POLICY, {"policy": fingerprint, "version": version})


def freeze_statement(*, serial: str, chain_id: int | None, asset: str | None) -> bytes:
    """Stop signing: all (neither is given), a network, or an asset on it. `serial` is the journal's, against replay,
    here or at another signer."""
    return _statement(_FREEZE, {"serial": serial, "chain_id": chain_id, "asset": asset})


def lift_statement(*, serial: str, chain_id: int | None, asset: str | None) -> bytes:
    """Take such a freeze back."""
    return _statement(_LIFT, {"serial": serial, "chain_id": chain_id, "asset": asset})


def time_statement(*, serial: str, seconds: int) -> bytes:
    """It is this time now (Unix seconds)."""
    return _statement(_TIME, {"serial": serial, "seconds": seconds})


def resync_statement(*, policy: bytes, head: bytes, signed: bytes) -> bytes:
    """Go on from a journal whose head is `head`, taking back the transactions whose digest is `signed`."""
    return _statement(_RESYNC, {"policy": policy, "head": head, "signed": signed})


def sign_statement(name: str, key: Ed25519PrivateKey, statement: bytes) -> Signature:
    """A person's signature."""
    return Signature(name, key.sign(statement))


def proven(
    statement: bytes, signatures: Sequence[Signature], people: Iterable[Person], *, except_for: Collection[str] = ()
) -> frozenset[str] | Unproven:
    """The names of those whose signatures are good. One that isn't good, or doesn't count, spoils all.

    `except_for` are people who may not sign this: the maker.
    """
    known = {person.name: person for person in people}
    names: set[str] = set()
    for signature in signatures:
        if signature.scheme != ED25519:
            return Unproven("scheme_unknown", "a signature is by a scheme that this signer can't verify")
        person = known.get(signature.by)
        if person is None:
            return Unproven("approver_unknown", f"the policy in force knows nobody called {signature.by[:_NAME_MAX]!r}")
        if person.name in except_for:
            return Unproven("approval_by_maker", f"{person.name} made this and can't approve it")
        if person.name in names:
            return Unproven("approval_repeated", f"{person.name} signed twice")
        try:
            Ed25519PublicKey.from_public_bytes(person.key).verify(signature.signature, statement)
        except InvalidSignature:
            return Unproven("approval_invalid", f"the signature of {person.name} isn't over what is asked")
        names.add(person.name)
    return frozenset(names)


def is_forgeable(key: bytes) -> bool:
    """Whether signatures by this public key (32 bytes) prove nothing, such as by a placeholder of zeros."""
    return key[:31] + bytes([key[31] & 0x7F]) in SMALL_ORDER


def mandate_map(mandate: Mandate) -> dict[str, object]:
    """A mandate as a map of CBOR values; a signature as [name, scheme, bytes]."""
    return {
        "maker": mandate.maker,
        "not_after": mandate.not_after,
        "fee_wei_max": mandate.fee_wei_max,
        "policy_version": mandate.policy_version,
        "policy_fingerprint": mandate.policy_fingerprint,
        "made_by": None if mandate.made_by is None else signature_list(mandate.made_by),
        "approvals": [signature_list(approval) for approval in mandate.approvals],
    }


def mandate_from(told: object) -> Mandate:
    """The mandate that a map means. Raises IntentInvalid."""
    match told:
        case {"maker": maker, "not_after": end, "fee_wei_max": fee, "policy_version": version, **rest}:
            if rest.keys() == _MORE and isinstance(rest["approvals"], list):
                fingerprint: Any = rest["policy_fingerprint"]
                made_by = None if rest["made_by"] is None else signature_from(rest["made_by"])
                return Mandate(
                    maker=maker,
                    not_after=end,
                    fee_wei_max=fee,
                    policy_version=version,
                    policy_fingerprint=fingerprint,
                    made_by=made_by,
                    approvals=tuple(signature_from(one) for one in rest["approvals"]),
                )
    raise IntentInvalid(
        "a mandate has maker, not_after, fee_wei_max, policy_version, policy_fingerprint, made_by and approvals"
    )


def signature_list(signature: Signature) -> list[object]:
    """A signature as CBOR values."""
    return [signature.by, signature.scheme, signature.signature]


def signature_from(told: object) -> Signature:
    """The signature that a list means. Raises IntentInvalid."""
    match told:
        case [str(by), str(scheme), bytes(signature)]:
            if max(len(by), len(scheme)) <= _NAME_MAX and len(signature) <= _SIGNATURE_BYTES_MAX:
                return Signature(by, signature, scheme)
    raise IntentInvalid("a signature is [name, scheme, bytes]", param="approvals")


def signatures_from(told: object) -> tuple[Signature, ...]:
    """The signatures that a list means. Raises IntentInvalid."""
    if not isinstance(told, list) or len(told) > SIGNATURES_MAX:
        raise IntentInvalid(f"signatures are a list of at most {SIGNATURES_MAX}", param="approvals")
    return tuple(signature_from(one) for one in told)


def _mandated(intent: Intent, mandate: Mandate) -> dict[str, object]:
    return {
        "terms": terms(intent),
        "maker": mandate.maker,
        "not_after": mandate.not_after,
        "fee_wei_max": mandate.fee_wei_max,
        "policy_version": mandate.policy_version,
        "policy_fingerprint": mandate.policy_fingerprint,
    }


def _statement(domain: str, body: dict[str, object]) -> bytes:
    return bytes(cbor2.dumps([domain, body], canonical=True))
