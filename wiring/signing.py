"""The signer's client and the xpubs' addresses, as the chain asks for them. Only names and shapes are changed here."""

from collections.abc import Mapping
from typing import Any, Protocol

from base.errors import OnebookError
from chain.errors import KeyNotRecorded
from chain.errors import NoKeyAtIndex as ChainNoKeyAtIndex
from chain.errors import SignerConflict as ChainSignerConflict
from chain.errors import SignerRefused as ChainSignerRefused
from chain.errors import SignerUnavailable as ChainSignerUnavailable
from chain.signing import (
    Allow,
    Anchor,
    AuthorisationIntent,
    Batch,
    CancelIntent,
    Carry,
    Claims,
    ControlIntent,
    Deploy,
    Intent,
    KeySet,
    Order,
    OwnKey,
    Role,
    Signed,
    TransferIntent,
)
from custody import derivation, intents
from custody.approval_requests import USER_WITHDRAWAL
from custody.approvals import Mandate
from custody.client import SignerClient
from custody.errors import IntentInvalid, NoKeyAtIndex, SignerRefused, SignerUnavailable
from custody.judging import DENIALS
from custody.rolekeys import address_source

POLICY_REFUSALS = DENIALS
"""The signer's codes that mean: nothing was ever signed for this, nor will be. Every other no is about its journal."""

WAITS = frozenset({"frozen", "clock_behind", "clock_drifts", "journal_behind", "journal_differs", "journal_halted"})
"""The signer's codes that mean: nothing is signed now, for anybody; what is asked has to wait."""


_COMMON = (*("subject", "attempt", "chain_id", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas"),)


WANTS_PEOPLE = frozenset({"approvals_missing", "over_ceiling"})
"""The signer's codes that mean: enough people's approvals would change it."""


class Mandates(Protocol):
    """Knows what people approved; `wiring.approving` does."""

    async def mandate(self, subject: str) -> tuple[str, Mandate] | None:
        """An approval's id, and what enough people signed of it."""
        ...

    async def used(self, approval: str) -> None:
        """Its subject was signed by it."""
        ...


class CustodySigner:
    """A `chain.signing.Signer` over one or several clients of the signer; each sender's questions go to the same one.

    So they come in order, while those for several senders come together.
    """

    def __init__(self, *clients: SignerClient, mandates: Mandates | None = None) -> None:
        """`mandates`: who knows what people approved; nobody is asked by default."""
        self._clients = clients
        self._mandates = mandates

    async def sign(self, intent: Intent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The signed transaction. Raises the chain's SignerRefused, SignerConflict, SignerUnavailable.

        What the policy wants people's approvals for is asked for once more with these, where they're there.
        """
        client = self._clients[intent.sender.index % len(self._clients)]
        asked, claims = for_custody(intent), _claimed(intent)
        try:
            try:
                signed = await client.sign(asked, highest=highest, claims=claims)
            except SignerRefused as no:
                found = await self._mandate(intent, no)
                if found is None:
                    raise
                approval, mandate = found
                signed = await client.sign(asked, highest=highest, claims=claims, mandate=mandate)
                await self._used(approval)
        except (IntentInvalid, SignerRefused, SignerUnavailable) as no:
            raise for_chain(no) from no
        return Signed(signed.raw, signed.sequence, signed.head)

    async def _mandate(self, intent: Intent, no: SignerRefused) -> tuple[str, Mandate] | None:
        if self._mandates is None or no.code not in WANTS_PEOPLE or not intent.subject.startswith(USER_WITHDRAWAL):
            return None
        return await self._mandates.mandate(intent.subject)

    async def _used(self, approval: str) -> None:
        assert self._mandates is not None
        await self._mandates.used(approval)

    async def authorise(self, intent: AuthorisationIntent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The owner's signature. Raises the chain's SignerRefused, SignerConflict, SignerUnavailable."""
        try:
            signed = await self._clients[0].sign(_authorisation(intent), highest=highest)
        except (IntentInvalid, SignerRefused, SignerUnavailable) as no:
            raise for_chain(no) from no
        return Signed(signed.raw, signed.sequence, signed.head)

    async def prove(self, intent: ControlIntent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The owner's signature. Raises the chain's SignerRefused, SignerConflict, SignerUnavailable."""
        asked = intents.ProofOfControl(
            subject=intent.subject,
            chain_id=intent.chain_id,
            sender=_key(intent.owner),
            epoch=str(intent.epoch),
            root=intent.root,
        )
        try:
            signed = await self._clients[0].sign(asked, highest=highest)
        except (IntentInvalid, SignerRefused, SignerUnavailable) as no:
            raise for_chain(no) from no
        return Signed(signed.raw, signed.sequence, signed.head)


class SignerKeys:
    """A `chain.signing.KeyHolder` over a client of the signer that has no keys pinned: they're what is compared."""

    def __init__(self, client: SignerClient) -> None:
        self._client = client

    async def fingerprints(self) -> dict[KeySet, bytes]:
        """SHA-256 of each extended public key, as the signer has it; it runs only with those that its policy states."""
        try:
            status = await self._client.status()
            return {_named(name): mark for name, mark in status.fingerprints.items()}
        except (IntentInvalid, SignerUnavailable) as no:
            raise for_chain(no) from no

    async def addresses(self, keys: KeySet, *, first: int, count: int) -> list[str]:
        """The signer's own derivation. Raises the chain's SignerRefused, SignerUnavailable."""
        try:
            told = await self._client.addresses(str(keys), first=first, count=count)
        except SignerRefused as no:
            raise ChainSignerRefused(no.sentence, code=no.code) from no
        except SignerUnavailable as no:
            raise for_chain(no) from no
        return ["0x" + address.hex() for address in told]


class SignerReservations:
    """A `chain.signing.Reserver` over the signer's client."""

    def __init__(self, client: SignerClient) -> None:
        self._client = client

    async def reserve(self, keys: KeySet, *, count: int, highest: tuple[int, bytes] | None) -> int:
        """The first of `count` indexes. Raises the chain's SignerRefused, SignerUnavailable."""
        try:
            return await self._client.reserve(str(keys), count=count, highest=highest)
        except SignerRefused as no:
            if no.code in WAITS:
                raise for_chain(no) from no
            raise ChainSignerRefused(no.sentence, code=no.code) from no
        except SignerUnavailable as no:
            raise for_chain(no) from no


class XpubAddresses:
    """A `chain.signing.AddressSource` over public keys: account-level extended ones, or a token's single one.

    They're given by the keys' names: `deposit`, `deposit.2`. Raises IntentInvalid for a name that is none.
    """

    can_derive = True

    def __init__(self, xpubs: Mapping[str, str] | Mapping[derivation.Role, str]) -> None:
        self._sources = {_named(name): address_source(public) for name, public in xpubs.items()}

    def address(self, key: OwnKey) -> str:
        """The lower-case hex address of `key`. Raises NoKeyAtIndex, KeyNotRecorded."""
        source = self._sources.get(key.keys)
        if source is None:
            raise KeyNotRecorded(f"no public key of {key.keys} is recorded here: put it under [xpubs], and start again")
        try:
            return "0x" + source.address(key.index).hex()
        except NoKeyAtIndex as none:
            raise ChainNoKeyAtIndex(none.message) from none

    @property
    def fingerprints(self) -> dict[KeySet, bytes]:
        """SHA-256 of each extended public key that addresses are derived from."""
        return {keys: source.fingerprint for keys, source in self._sources.items()}


def for_chain(no: IntentInvalid | SignerRefused | SignerUnavailable) -> OnebookError:
    """What a signer's no means to the chain; a refusal that isn't plainly the policy's frees nothing."""
    match no:
        case SignerRefused(code=code) if code in POLICY_REFUSALS:
            return ChainSignerRefused(no.sentence, code=code, journal=(no.sequence, no.head))
        case SignerRefused(code=code) if code in WAITS:
            return ChainSignerUnavailable(no.sentence, code=code)
        case SignerRefused():
            return ChainSignerConflict(no.sentence, code=no.code)
        case IntentInvalid():
            return ChainSignerRefused(no.message, code=no.code)
        case SignerUnavailable():
            return ChainSignerUnavailable(no.message, code=no.code)


def for_custody(intent: Intent) -> intents.Payment:
    """The same intent in the signer's own types: what a gas key gives is a top-up, what a deposit key gives a sweep."""
    common: dict[str, Any] = {name: getattr(intent, name) for name in _COMMON}
    common["sender"] = _key(intent.sender)
    if isinstance(intent, CancelIntent):
        return intents.Cancel(**common)
    to = _destination(intent.to)
    contract = None if intent.contract is None else bytes.fromhex(intent.contract[2:])
    if intent.order is not None:
        return _ordered(intent.order, common, contract=contract, to=to, amount=intent.amount)
    match intent.sender.role, contract, to:
        case Role.GAS, None, intents.KeyRef():
            return intents.TopUp(**common, to=to, amount=intent.amount)
        case Role.DEPOSIT, _, _:
            return intents.Sweep(**common, contract=contract, to=to, amount=intent.amount)
        case _, None, _:
            return intents.NativeTransfer(**common, to=to, amount=intent.amount)
        case _:
            return intents.TokenTransfer(**common, contract=contract, to=to, amount=intent.amount)


def _ordered(
    order: Order, common: dict[str, Any], *, contract: bytes | None, to: intents.Destination, amount: int
) -> intents.Payment:
    match order:
        case Batch(legs):
            assert isinstance(to, bytes), "a contract has no key"
            told = tuple(intents.Leg(leg.subject, bytes.fromhex(leg.to[2:]), leg.amount) for leg in legs)
            return intents.PayoutBatch(**common, via=to, contract=contract, legs=told)
        case Deploy(code):
            return intents.Deployment(**common, code=code)
        case Anchor(root):
            assert isinstance(to, bytes), "what is written to is no key of ours"
            return intents.Anchor(**common, to=to, root=root)
    assert contract is not None, "what is left is about a token"
    match order:
        case Allow(batch):
            assert isinstance(to, bytes), "a contract has no key"
            return intents.Allowance(**common, contract=contract, spender=to, amount=amount, batch=batch)
        case Carry(authorisation, owner, valid_before, signature):
            return intents.Relay(
                **common,
                authorisation=authorisation,
                contract=contract,
                owner=_key(owner.key),
                to=to,
                amount=amount,
                valid_before=valid_before,
                signature=signature,
            )


def _authorisation(intent: AuthorisationIntent) -> intents.Authorisation:
    return intents.Authorisation(
        subject=intent.subject,
        chain_id=intent.chain_id,
        sender=_key(intent.owner),
        contract=bytes.fromhex(intent.contract[2:]),
        domain_name=intent.domain_name,
        domain_version=intent.domain_version,
        to=_destination(intent.to),
        amount=intent.amount,
        valid_before=intent.valid_before,
    )


def _claimed(intent: Intent) -> dict[str, object] | list[dict[str, object] | None] | None:
    """Whose payment it is; of a batch, whose each leg is."""
    match intent:
        case TransferIntent(order=Batch(legs)):
            return [None if leg.claims is None else _claims(leg.claims) for leg in legs]
        case TransferIntent(claims=Claims() as claims):
            return _claims(claims)
    return None


def _claims(claims: Claims) -> dict[str, object]:
    told: dict[str, object] = {"account": claims.account, "asset": claims.asset, "amount": str(claims.amount)}
    more: dict[str, object] = {
        "content": claims.content,
        "fee_highest": None if claims.fee_highest is None else str(claims.fee_highest),
        "fee_price": claims.fee_price,
        "fee_wei_max": None if claims.fee_wei_max is None else str(claims.fee_wei_max),
        "service_fee": None if claims.service_fee is None else str(claims.service_fee),
    }
    known = {name: value for name, value in more.items() if value is not None}
    return {**told, "key_hash": claims.key_hash, **known}


def claims_from_journal(told: Mapping[str, Any]) -> Claims:
    """The claims that a row of the signer's journal carries."""
    return Claims(
        told["account"],
        told["asset"],
        int(told["amount"]),
        told["key_hash"],
        content=told.get("content"),
        fee_highest=int(told["fee_highest"]) if "fee_highest" in told else None,
        fee_price=told.get("fee_price"),
        fee_wei_max=int(told["fee_wei_max"]) if "fee_wei_max" in told else None,
        service_fee=int(told["service_fee"]) if "service_fee" in told else None,
    )


def _destination(to: str | OwnKey) -> intents.Destination:
    return _key(to) if isinstance(to, OwnKey) else bytes.fromhex(to[2:])


def _key(key: OwnKey) -> intents.KeyRef:
    return intents.KeyRef(derivation.Role(key.role.value), key.index, key.generation)


def _named(name: str) -> KeySet:
    role, generation = intents.keys_named(name)
    return KeySet(Role(role.value), generation)
