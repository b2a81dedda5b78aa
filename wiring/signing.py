"""The signer's client and the xpubs' addresses, as the chain asks for them. Only names and shapes are changed here."""

from collections.abc import Mapping
from typing import Any

from base.errors import OnebookError
from chain.errors import NoKeyAtIndex as ChainNoKeyAtIndex
from chain.errors import SignerConflict as ChainSignerConflict
from chain.errors import SignerRefused as ChainSignerRefused
from chain.errors import SignerUnavailable as ChainSignerUnavailable
from chain.signing import CancelIntent, Claims, Intent, OwnKey, Role, Signed, TransferIntent
from custody import derivation, intents
from custody.client import SignerClient
from custody.errors import IntentInvalid, NoKeyAtIndex, SignerRefused, SignerUnavailable
from custody.judging import DENIALS
from custody.rolekeys import address_source

POLICY_REFUSALS = DENIALS
"""The signer's codes that mean: nothing was ever signed for this, nor will be. Every other no is about its journal."""

WAITS = frozenset({"frozen", "clock_behind", "clock_drifts", "journal_behind", "journal_differs", "journal_halted"})
"""The signer's codes that mean: nothing is signed now, for anybody; what is asked has to wait."""


_COMMON = (*("subject", "attempt", "chain_id", "nonce", "gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas"),)


class CustodySigner:
    """A `chain.signing.Signer` over the signer's client."""

    def __init__(self, client: SignerClient) -> None:
        self._client = client

    async def sign(self, intent: Intent, *, highest: tuple[int, bytes] | None) -> Signed:
        """The signed transaction. Raises the chain's SignerRefused, SignerConflict, SignerUnavailable."""
        try:
            claims = _claims(intent.claims) if isinstance(intent, TransferIntent) and intent.claims else None
            signed = await self._client.sign(for_custody(intent), highest=highest, claims=claims)
        except (IntentInvalid, SignerRefused, SignerUnavailable) as no:
            raise for_chain(no) from no
        return Signed(signed.raw, signed.sequence, signed.head)


class SignerKeys:
    """A `chain.signing.KeyHolder` over a client of the signer that has no keys pinned: they're what is compared."""

    def __init__(self, client: SignerClient) -> None:
        self._client = client

    async def fingerprints(self) -> dict[Role, bytes]:
        """SHA-256 of each extended public key, as the signer has it; it runs only with those that its policy states."""
        try:
            status = await self._client.status()
        except SignerUnavailable as no:
            raise for_chain(no) from no
        return {Role(name): mark for name, mark in status.fingerprints.items() if "." not in name}

    async def addresses(self, role: Role, *, first: int, count: int) -> list[str]:
        """The signer's own derivation. Raises the chain's SignerRefused, SignerUnavailable."""
        try:
            told = await self._client.addresses(role.value, first=first, count=count)
        except SignerRefused as no:
            raise ChainSignerRefused(no.sentence, code=no.code) from no
        except SignerUnavailable as no:
            raise for_chain(no) from no
        return ["0x" + address.hex() for address in told]


class SignerReservations:
    """A `chain.signing.Reserver` over the signer's client."""

    def __init__(self, client: SignerClient) -> None:
        self._client = client

    async def reserve(self, role: Role, *, count: int, highest: tuple[int, bytes] | None) -> int:
        """The first of `count` indexes. Raises the chain's SignerRefused, SignerUnavailable."""
        try:
            return await self._client.reserve(role.value, count=count, highest=highest)
        except SignerRefused as no:
            if no.code in WAITS:
                raise for_chain(no) from no
            raise ChainSignerRefused(no.sentence, code=no.code) from no
        except SignerUnavailable as no:
            raise for_chain(no) from no


class XpubAddresses:
    """A `chain.signing.AddressSource` over public keys: account-level extended ones, or a token's single one."""

    can_derive = True

    def __init__(self, xpubs: Mapping[derivation.Role, str]) -> None:
        self._sources = {role: address_source(public) for role, public in xpubs.items()}

    def address(self, key: OwnKey) -> str:
        """The lower-case hex address of `key`. Raises NoKeyAtIndex."""
        try:
            return "0x" + self._sources[derivation.Role(key.role.value)].address(key.index).hex()
        except NoKeyAtIndex as none:
            raise ChainNoKeyAtIndex(none.message) from none

    @property
    def fingerprints(self) -> dict[Role, bytes]:
        """SHA-256 of each extended public key that addresses are derived from."""
        return {Role(role.value): source.fingerprint for role, source in self._sources.items()}


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
    match intent.sender.role, contract, to:
        case Role.GAS, None, intents.KeyRef():
            return intents.TopUp(**common, to=to, amount=intent.amount)
        case Role.DEPOSIT, _, _:
            return intents.Sweep(**common, contract=contract, to=to, amount=intent.amount)
        case _, None, _:
            return intents.NativeTransfer(**common, to=to, amount=intent.amount)
        case _:
            return intents.TokenTransfer(**common, contract=contract, to=to, amount=intent.amount)


def _claims(claims: Claims) -> dict[str, object]:
    told = {"account": claims.account, "asset": claims.asset, "amount": str(claims.amount)}
    return {**told, "key_hash": claims.key_hash}


def _destination(to: str | OwnKey) -> intents.Destination:
    return _key(to) if isinstance(to, OwnKey) else bytes.fromhex(to[2:])


def _key(key: OwnKey) -> intents.KeyRef:
    return intents.KeyRef(derivation.Role(key.role.value), key.index)
