"""What the signer's journal has signed, as the chain's own payments: only names and shapes change here. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chain.evm.signed import transaction_hash
from chain.fees import Bid
from chain.networks import Registry
from chain.payments import Payment
from chain.rebuilding import JournalAttempt, JournalPayment
from chain.signing import Allow, Anchor, Batch, Carry, Deploy, KeySet, Leg, Order, OwnAddress, OwnKey, Role
from chain.transaction_states import Kind
from custody import intents
from custody.signed_subjects import SignedAttempt, SignedSubject
from wiring.signing import XpubAddresses, claims_from_journal

WITHDRAWAL = "wdr_"
"""Subjects of users' withdrawals; a transfer with another one is somebody's own affair."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OutOfReach(Exception):
    """A person has to look at it; the words say why."""


def journal_payment(
    signed: SignedSubject, *, book: str, registry: Registry, addresses: XpubAddresses
) -> JournalPayment:
    """The payment that a subject of the journal is. Raises OutOfReach for what can't be an own transaction here."""
    network = next((one.name for one in registry.networks.values() if one.chain_id == signed.chain_id), None)
    if network is None:
        raise OutOfReach(f"its network, chain id {signed.chain_id}, isn't configured")
    first = signed.first
    if first is None:
        raise OutOfReach("a resync gave it back, so only its bytes are known")
    if isinstance(first, intents.Cancel):
        raise OutOfReach("the journal has its cancellation, but not what was cancelled")
    attempts = journal_attempts(signed)
    claims = claims_from_journal(signed.claims) if isinstance(signed.claims, Mapping) else None
    told = None if claims is None else claims.fee_wei_max
    highest = max(one.gas_limit * one.bid.max_fee_per_gas for one in attempts)
    kind, terms = _terms(first, addresses)
    if isinstance(terms["order"], Batch) and isinstance(signed.claims, list):
        terms = {**terms, "order": _claimed(terms["order"], signed.claims)}
    payment = Payment(
        network=network,
        kind=kind,
        book=book,
        subject=signed.subject,
        sender=_own(first.sender, addresses),
        gas_limit=first.gas_limit,
        fee_wei_max=max(highest, told or 0),
        claims=claims,
        **terms,
    )
    return JournalPayment(payment=payment, nonce=signed.nonce, attempts=attempts)


def journal_attempts(signed: SignedSubject) -> tuple[JournalAttempt, ...]:
    """Its attempts, without those that a resync gave back: of them only the bytes are known."""
    return tuple(_attempt(one, one.intent) for one in signed.attempts if one.intent is not None)


def own_key(key: intents.KeyRef) -> OwnKey:
    """The same key in the chain's own type."""
    return OwnKey(Role(key.role.value), key.index, key.generation)


def _terms(intent: intents.Payment, addresses: XpubAddresses) -> tuple[Kind, Mapping[str, Any]]:
    match intent:
        case intents.NativeTransfer() | intents.TokenTransfer():
            if not intent.subject.startswith(WITHDRAWAL):
                raise OutOfReach("a payment of the house's own: book what it paid")
            contract = intent.contract if isinstance(intent, intents.TokenTransfer) else None
            return Kind.WITHDRAWAL, _of(contract, _to(intent.to, addresses), intent.amount)
        case intents.Sweep():
            return Kind.SWEEP, _of(intent.contract, _to(intent.to, addresses), intent.amount)
        case intents.TopUp():
            return Kind.GAS_TOPUP, _of(None, _to(intent.to, addresses), intent.amount)
        case intents.PayoutBatch():
            legs = tuple(Leg(leg.subject, _hex(leg.to), leg.amount) for leg in intent.legs)
            return Kind.BATCH, _of(intent.contract, _hex(intent.via), intent.amount, Batch(legs))
        case intents.Allowance():
            return Kind.ALLOWANCE, _of(intent.contract, _hex(intent.spender), intent.amount, Allow(intent.batch))
        case intents.Relay():
            carried = Carry(intent.authorisation, _own(intent.owner, addresses), intent.valid_before, intent.signature)
            return Kind.SWEEP, _of(intent.contract, _to(intent.to, addresses), intent.amount, carried)
        case intents.Deployment():
            from custody.transactions import created_address  # it needs coincurve, which most processes don't

            sender = bytes.fromhex(_own(intent.sender, addresses).address[2:])
            made = _hex(created_address(sender, intent.nonce))
            return Kind.DEPLOYMENT, _of(None, made, 0, Deploy(intent.code))
        case intents.Anchor():
            return Kind.ANCHOR, _of(None, _hex(intent.to), 0, Anchor(intent.root))
        case _:
            raise OutOfReach(f"nothing here books a transaction of kind {intent.kind}")


def _of(contract: bytes | None, to: str | OwnAddress, amount: int, order: Order | None = None) -> Mapping[str, Any]:
    return {"contract": None if contract is None else _hex(contract), "to": to, "amount": amount, "order": order}


def _claimed(batch: Batch, told: Sequence[Mapping[str, Any] | None]) -> Batch:
    """The legs with what was claimed of each, in their order."""
    legs = zip(batch.legs, told, strict=True)
    return Batch(
        tuple(leg if claims is None else replace(leg, claims=claims_from_journal(claims)) for leg, claims in legs)
    )


def _attempt(one: SignedAttempt, intent: intents.Payment) -> JournalAttempt:
    return JournalAttempt(
        attempt=one.attempt,
        kind="cancel" if isinstance(intent, intents.Cancel) else "pay",
        gas_limit=intent.gas_limit,
        bid=Bid(intent.max_fee_per_gas, intent.max_priority_fee_per_gas),
        raw=one.raw,
        tx_hash=None if one.raw is None else transaction_hash(one.raw),
        sequence=one.at.sequence,
        head=one.at.hash,
        at=_EPOCH + timedelta(microseconds=one.at_us),
    )


def _to(to: intents.Destination, addresses: XpubAddresses) -> str | OwnAddress:
    return _own(to, addresses) if isinstance(to, intents.KeyRef) else _hex(to)


def _own(key: intents.KeyRef, addresses: XpubAddresses) -> OwnAddress:
    own = own_key(key)
    if KeySet(own.role, own.generation) not in addresses.fingerprints:
        raise OutOfReach(f"no public key of {own.keys} is recorded: put it under [xpubs]")
    return OwnAddress(own, addresses.address(own).lower())


def _hex(address: bytes) -> str:
    return "0x" + address.hex()
