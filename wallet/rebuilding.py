"""Withdrawals as the signer's journal has them, put back into a book that has forgotten them.

Each in one group: what its user had promised is held again under the request's own key, so that the request's repeat
finds it and not a second one, and its row rides along. Money that the restored book lacks becomes a receivable, as
after a reorganisation: what comes back to the user repays it. A withdrawal that is known, but not that it was signed,
moves on. Its transaction is put back by `chain.rebuilding` before; what becomes of it the chain tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import OnebookError
from chain.evm.addresses import show_address
from chain.networks import Deployment, Registry, to_ledger_units
from chain.rebuilding import JournalPayment
from chain.signing import Claims
from db.engine import tx
from exchange.rates import RateSource
from exchange.ratios import Ratio
from ledger.accounts import WALLET, house_account, split_account_id, user_account
from ledger.asking import refusal_of, work
from ledger.commands import Command, Group, Hold, Post, Posting, SignerEvidence
from ledger.engine import Ledger
from ledger.money import format_amount
from ledger.owing import receivable_account
from ledger.requests import content_hash, request_id, worker_id
from ledger.riders import Insert
from wallet import withdrawal_entries as entries
from wallet import withdrawal_store
from wallet.errors import CannotRebuild
from wallet.network_fees import highest_fee, wei_price
from wallet.resources import Withdrawal
from wallet.tables import withdrawals
from wallet.withdrawal_states import CANCELLABLE, WithdrawalState, catch_up

IN_A_BATCH = "a batch that the restored database doesn't know may have paid it"
"""Why a withdrawal needs a person after a restore, as its user is told."""

_S = WithdrawalState


class Fate(StrEnum):
    """What is to be done about a withdrawal that was signed."""

    REBUILD = "rebuild"
    """Nothing is known of it: hold, row and key are made."""
    MOVE_ON = "move_on"
    """It's known, but not that it was signed."""
    KNOWN = "known"
    """It's known as signed, or as ended by that."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be done. `shortage`: what the user lacks of `total` (amount and fees) and would owe."""

    fate: Fate
    withdrawal: Withdrawal
    total: int
    shortage: int


class Rebuilding:
    """Puts withdrawals back. Only while nothing else moves money: see `chain.restores`."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, rates: RateSource, clock: Clock
    ) -> None:
        """`rates` are asked where the journal doesn't tell what fee was promised."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._rates = rates
        self._clock = clock

    async def look(self, signed: JournalPayment) -> Outlook:
        """What would be done about it; nothing changes. Raises CannotRebuild, saying what a person has to know."""
        known = await self._known(signed)
        if known is None:
            withdrawal = await self._withdrawal(signed)
            total = withdrawal.held
            return Outlook(Fate.REBUILD, withdrawal, total, max(0, total - await self._available(withdrawal)))
        return Outlook(_fate(known), known, known.held, 0)

    async def rebuild(self, signed: JournalPayment) -> bool:
        """Do it; False if there was nothing to do. Raises CannotRebuild."""
        outlook = await self.look(signed)
        match outlook.fate:
            case Fate.KNOWN:
                return False
            case Fate.MOVE_ON:
                return await self._move_on(outlook.withdrawal)
            case Fate.REBUILD:
                await self.put_back(signed, outlook.withdrawal)
                return True

    # Known

    async def _known(self, signed: JournalPayment) -> Withdrawal | None:
        async with tx(self._engine) as connection:
            known = await withdrawal_store.load_withdrawal(connection, self._ledger.book, signed.subject)
        if known is None:
            return None
        payment = signed.payment
        if (known.network, known.address, known.chain_amount) != (payment.network, payment.recipient, payment.amount):
            raise CannotRebuild(f"{known.id} stands here with another recipient or amount than was signed for it")
        if known.state in (_S.REJECTED, _S.CANCELLED) and known.block_hash is None:
            raise CannotRebuild(
                f"{known.id} is {known.state} here and its hold was released, but it was signed: book what it paid"
            )
        return known

    async def _move_on(self, known: Withdrawal) -> bool:
        async with tx(self._engine) as connection:
            moved = await withdrawal_store.change_withdrawals(
                connection, self._ledger.book, [known.id], expect=known.state, change=self.moved_on(known)
            )
        return bool(moved)

    def moved_on(self, known: Withdrawal) -> Mapping[str, object]:
        """The columns of one that was signed: from here on only the chain's evidence ends it."""
        if known.state is not _S.NEEDS_REVIEW:  # there only a recovery can have left it, before it knew as much
            catch_up(known.state, _S.NONCE_RESERVED)
        fresh = {"waiting_for": None, "reason": None, "updated_at": self._clock.now()}
        return {"state": _S.NONCE_RESERVED, "cancellable": False, **fresh}

    async def leave_to_a_person(self, withdrawals: Sequence[str]) -> int:
        """Those for which nothing was signed here, and that a batch may have paid which can't be rebuilt: nobody pays
        or releases them. How many there were."""
        moved, now = 0, self._clock.now()
        for id in withdrawals:
            async with tx(self._engine) as connection:
                known = await withdrawal_store.load_withdrawal(connection, self._ledger.book, id)
                if known is None or known.state not in (*CANCELLABLE, _S.NONCE_RESERVED):
                    continue
                change = {"state": catch_up(known.state, _S.NEEDS_REVIEW), "cancellable": False, "waiting_for": None}
                change |= {"reason": IN_A_BATCH, "updated_at": now}
                moved += len(
                    await withdrawal_store.change_withdrawals(
                        connection, self._ledger.book, [id], expect=known.state, change=change
                    )
                )
        return moved

    # Forgotten

    async def put_back(self, signed: JournalPayment, withdrawal: Withdrawal, *, leg: Insert | None = None) -> None:
        """Hold what it had promised, and write its row; of a batch together with its `leg`. Raises CannotRebuild."""
        ledger, native = self._ledger, self._registry.network(withdrawal.network).native_asset
        owed = receivable_account(withdrawal.owner, withdrawal.asset)
        await ledger.ensure_open(*entries.accounts(withdrawal, native=native), owed)
        short = withdrawal.held > await self._available(withdrawal)
        content = _content(signed, format_amount(withdrawal.amount, await ledger.asset(withdrawal.asset)))
        rows = () if leg is None else (leg,)
        if not await ledger.outcomes(withdrawal.hold):
            (outcomes,) = await ledger.submit(self._group(signed, withdrawal, content, rows, 1, short=short))
            if refusal_of(outcomes) is None:
                return
        # Its key was used again meanwhile, or the money went between two looks: then it's held under a name of our own.
        (refusal,) = await work(ledger, partial(self._renamed, signed, withdrawal, content, rows))
        if refusal is not None:
            raise CannotRebuild(f"the book refuses to hold {withdrawal.id}: {refusal.code}; run it again")

    def _renamed(
        self, signed: JournalPayment, withdrawal: Withdrawal, content: bytes, rows: tuple[Insert, ...], attempt: int
    ) -> Group:
        name = worker_id(f"recover:{withdrawal.id}:hold", attempt)
        return self._group(signed, replace(withdrawal, hold=name), content, rows, attempt, short=True, source="renamed")

    def _group(
        self,
        signed: JournalPayment,
        withdrawal: Withdrawal,
        content: bytes,
        rows: tuple[Insert, ...],
        attempt: int,
        *,
        short: bool,
        source: str = "lent",
    ) -> Group:
        """The hold with its row and `rows`; before it, where the user is `short`, what they lack, as their debt."""
        evidence = _evidence(signed)
        hold = entries.hold(withdrawal, owing_nothing=())
        held = Hold(id=hold.id, subject=hold.subject, postings=hold.postings, evidence=evidence)
        key = {"book": self._ledger.book, "id": withdrawal.id}
        row = Insert(withdrawals.name, key, withdrawal_store.withdrawal_values(withdrawal))
        lent = _lending(withdrawal, evidence, source, attempt) if short else ()
        return Group((*lent, held), (row, *rows), content=content)

    async def _available(self, withdrawal: Withdrawal) -> int:
        account = await self._ledger.account(user_account(withdrawal.owner, withdrawal.asset))
        return 0 if account is None else max(0, account.available)

    async def _withdrawal(self, signed: JournalPayment) -> Withdrawal:
        """The row as it was when its nonce was reserved."""
        payment, claims = signed.payment, signed.payment.claims
        if claims is None:
            raise CannotRebuild(f"the journal doesn't say whose {signed.subject} is")
        deployment = self._deployment(signed, claims)
        owner, purpose, asset = split_account_id(claims.account)
        scale = (await self._ledger.asset(asset)).scale
        if purpose != WALLET or to_ledger_units(payment.amount, deployment, scale=scale) != claims.amount:
            raise CannotRebuild(f"what the journal claims of {signed.subject} isn't what was signed")
        price = await self._price(claims, deployment)
        fee = claims.fee_highest
        began, name = signed.attempts[0].at, worker_id(f"recover:{signed.subject}:hold", 1)
        return Withdrawal(
            id=signed.subject,
            owner=owner,
            state=_S.NONCE_RESERVED,
            cancellable=False,
            waiting_for=None,
            reason=None,
            asset=asset,
            network=payment.network,
            address=payment.recipient,
            amount=claims.amount,
            chain_amount=payment.amount,
            fee_highest=max(1, highest_fee(price, payment.fee_wei_max)) if fee is None else fee,
            fee=None,
            service_fee=claims.service_fee or 0,
            fee_price=price,
            gas_limit=payment.gas_limit,
            fee_wei_max=payment.fee_wei_max,
            hold=name if claims.key_hash is None else request_id(claims.key_hash),
            tx_hash=None,
            block_number=None,
            block_hash=None,
            fee_wei=None,
            created_at=began,
            updated_at=self._clock.now(),
        )

    def _deployment(self, signed: JournalPayment, claims: Claims) -> Deployment:
        found = self._registry.by_contract(signed.payment.network, signed.payment.contract)
        if found is None:
            raise CannotRebuild(
                f"{signed.subject} paid {signed.payment.contract} on {signed.payment.network}, which isn't configured:"
                " put it under [[deployments]] and run it again"
            )
        if (found.asset, claims.asset) != (claims.asset, split_account_id(claims.account)[2]):
            raise CannotRebuild(f"{signed.subject} paid {found.asset}, but the journal claims {claims.asset}")
        return found

    async def _price(self, claims: Claims, deployment: Deployment) -> Ratio:
        """The price that its fee was promised at, else today's."""
        if claims.fee_price is not None:
            num, den = claims.fee_price.split("/")
            return Ratio(int(num), int(den))
        native = self._registry.by_asset(deployment.network, self._registry.network(deployment.network).native_asset)
        try:
            rates = None if deployment.asset == native.asset else await self._rates.current()
            assets = await self._ledger.assets()
            return wei_price(native, assets[native.asset], assets[deployment.asset], rates)
        except OnebookError as problem:
            raise CannotRebuild(
                f"the fee that was promised isn't known, and there is no rate: {problem.message}"
            ) from (problem)


def _fate(known: Withdrawal) -> Fate:
    early = known.state in CANCELLABLE or known.state is _S.REQUESTED
    return Fate.MOVE_ON if early else Fate.KNOWN


def _lending(withdrawal: Withdrawal, evidence: SignerEvidence, source: str, attempt: int) -> tuple[Command, ...]:
    """What the user has goes and comes back, so that the book itself, under its lock, finds what is missing; it is owed
    from then on."""
    total = withdrawal.held
    user, owed = (
        user_account(withdrawal.owner, withdrawal.asset),
        receivable_account(withdrawal.owner, withdrawal.asset),
    )
    way = house_account(f"in-transit:{withdrawal.network}:out", withdrawal.asset)
    named, asset = f"recover:{withdrawal.id}:{source}", withdrawal.asset
    counted = Post(
        id=worker_id(f"{named}:counted", attempt),
        subject=withdrawal.id,
        evidence=evidence,
        postings=(Posting(user, way, asset, total, debit_rest=owed),),
    )
    given = Post(
        id=worker_id(f"{named}:given", attempt),
        subject=withdrawal.id,
        evidence=evidence,
        postings=(Posting(way, user, asset, total),),
    )
    return counted, given


def _evidence(signed: JournalPayment) -> SignerEvidence:
    row = signed.attempts[-1]
    return SignerEvidence(row.sequence, row.head.hex())


def _content(signed: JournalPayment, amount: str) -> bytes:
    """The hash of what was requested; where the journal hasn't got it, of the request as it's usually written."""
    claims = signed.payment.claims
    if claims is not None and claims.content is not None:
        return claims.content
    payment = signed.payment
    asset = None if claims is None else claims.asset
    address = show_address(payment.recipient)
    return content_hash({"asset": asset, "network": payment.network, "address": address, "amount": amount})
