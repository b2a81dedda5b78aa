"""Withdrawals: value leaves over a chain, once. Between asking and final evidence the money stays held.

Asking holds amount and highest fee together with the withdrawal's row. The worker's `step` takes each one a state
further; the payment itself is one of the chain's own transactions, reserved in the tx that changes the state here and
followed from then on. What ends it is booked with the block that proves it. Signing and sending are the chain's.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol, assert_never

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError, NotFound, Unavailable
from base.ids import new_id
from chain import addresses, transactions
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.evm.addresses import parse_address
from chain.fees import FeeEstimate
from chain.networks import Deployment, Registry, to_chain_units, to_ledger_units
from chain.signing import OwnAddress as OwnKeyAddress
from chain.signing import OwnKey, Role
from chain.transaction_states import Kind, State
from chain.transactions import Mined, OwnTransaction, Payment
from db.engine import tx
from ledger.asking import decide, decided_before, stopping, work
from ledger.commands import Group, Posting, Void
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Advance, Insert
from wallet import store
from wallet import withdrawal_entries as entries
from wallet.errors import BelowMinimum, FeesUnknown, NotCancellable, OwnAddress, WalletCorrupt
from wallet.network_fees import highest_fee, wei_price
from wallet.quotes import RateSource
from wallet.receivables import receivable_accounts
from wallet.resources import Estimate, Withdrawal
from wallet.tables import withdrawals
from wallet.withdrawal_states import CANCELLABLE, WaitingFor, WithdrawalState, advance, catch_up

BATCH = 100
"""Open withdrawals that one step looks at; the next step takes the next ones."""

HOT = OwnKey(Role.HOT, 0)
"""The key that pays."""

_S = WithdrawalState


class NetworkFees(Protocol):
    """Knows what a payment would cost now; the chain's node answers."""

    async def estimate(self, deployment: Deployment, *, sender: str, to: str, amount: int) -> FeeEstimate | None:
        """The cost of paying `amount` chain units; None while gas is above the network's cap. Raises Unavailable."""
        ...


class Screening(Protocol):
    """Looks at a withdrawal before anything leaves."""

    async def objection(self, withdrawal: Withdrawal) -> str | None:
        """Why it must not be paid; None if nothing speaks against it. Raises Unavailable when it can't tell."""
        ...


class NoScreening:
    """Objects to nothing."""

    async def objection(self, withdrawal: Withdrawal) -> str | None:
        return None


class Withdrawals:
    """Takes requests for withdrawals and brings them to their end."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        fees: NetworkFees,
        rates: RateSource,
        clock: Clock,
        entropy: Entropy,
        screening: Screening | None = None,
        minimums: Mapping[tuple[str, str], int] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`minimums`: (network, asset) -> smallest withdrawal in the asset's smallest units; 1 where none is given.

        `checkpoint` is told before and after each move: `withdrawal.approved.before`, ...
        """
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._fees = fees
        self._rates = rates
        self._clock = clock
        self._entropy = entropy
        self._screening = screening or NoScreening()
        self._minimums = dict(minimums or {})
        self._checkpoint = checkpoint or NoCheckpoint()
        self._looked_at: str | None = None

    # What users ask

    async def estimate(self, owner: str, *, asset: str, network: str, amount: int, to: str | None = None) -> Estimate:
        """The highest cost of withdrawing `amount` now, to `to` if it's known already.

        Raises UnknownAsset, NotOnNetwork, NotAWholeUnit, BelowMinimum, NoRate, RatesTooOld, FeesUnknown, and for `to`
        what `request` raises.
        """
        known = await self._ledger.asset(asset)
        deployment = self._registry.by_asset(network, asset)
        chain_amount = to_chain_units(amount, deployment, scale=known.scale)
        minimum = self._minimums.get((network, asset), 1)
        if amount < minimum:
            raise BelowMinimum("this is below the smallest withdrawal", param="amount", minimum=minimum, amount=amount)
        hot = await self._hot()
        recipient = hot.address if to is None else await self._recipient(to, deployment)
        cost = await self._fees.estimate(deployment, sender=hot.address, to=recipient, amount=chain_amount)
        if cost is None:
            raise FeesUnknown(f"gas on {network} costs more now than the house pays; try later", network=network)
        native = self._native(network)
        native_asset = await self._ledger.asset(native.asset)
        rates = None if asset == native.asset else self._rates.current()
        price = wei_price(native, native_asset, known, rates)
        fee = highest_fee(price, cost.highest_wei)
        return Estimate(
            asset=asset,
            network=network,
            amount=amount,
            fee_highest=fee,
            total=amount + fee,
            price=price,
            gas_limit=cost.gas_limit,
            fee_wei_max=cost.highest_wei,
        )

    async def request(
        self, *, key: RequestKey, owner: str, asset: str, network: str, to: str, amount: int
    ) -> Withdrawal:
        """Hold `amount` and the highest fee, and queue the payment to `to`.

        Raises what `estimate` does, chain.errors.InvalidAddress (form, checksum, zero address), OwnAddress,
        RequestConflict, and RefusedByBook (`insufficient_funds`, `frozen`, `receivable_open`).
        """
        if (first := await decided_before(self._ledger, key)) is not None:
            return replace(await self.get(owner, first.subject or ""), replayed=True)
        estimate = await self.estimate(owner, asset=asset, network=network, amount=amount, to=to)
        withdrawal = await self._new(key, owner, estimate, to)
        await self._ledger.ensure_open(*entries.accounts(withdrawal, native=self._native(network).asset))
        hold = entries.hold(withdrawal, owing_nothing=await receivable_accounts(self._ledger, owner))
        row = Insert(withdrawals.name, self._key(withdrawal), store.withdrawal_values(withdrawal))
        (outcome,) = await decide(self._ledger, Group((hold,), (row,), content=key.content))
        if outcome.replayed:
            return replace(await self.get(owner, outcome.subject or ""), replayed=True)
        return withdrawal

    async def cancel(self, *, key: RequestKey, owner: str, withdrawal: str) -> Withdrawal:
        """Give it up before a nonce is reserved for it, and release the hold.

        Raises NotFound, NotCancellable, RequestConflict.
        """
        found = await self.get(owner, withdrawal)
        try:
            first = await decided_before(self._ledger, key)
            if first is not None:
                return replace(found, replayed=True)
            if not found.cancellable:
                raise _too_late(found)
            row = Advance(withdrawals.name, self._key(found), {"cancellable": True}, self._change(_S.CANCELLED))
            void = Void(id=key.id, subject=found.id, hold=found.hold)
            (outcome,) = await decide(self._ledger, Group((void,), (row,), content=key.content))
        except RefusedByBook as refusal:
            if refusal.code == Refused.STALE_STATE:
                raise _too_late(await self.get(owner, withdrawal)) from refusal
            raise
        return replace(await self.get(owner, withdrawal), replayed=outcome.replayed)

    async def get(self, owner: str, withdrawal: str) -> Withdrawal:
        """The owner's withdrawal with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await store.load_withdrawal(connection, self._ledger.book, withdrawal)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no withdrawal {withdrawal[:40]!r}", param="withdrawal")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Withdrawal]:
        """The owner's withdrawals, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            return await store.list_withdrawals(
                connection, self._ledger.book, owner, before=before, after=after, limit=limit
            )

    # What the worker does

    async def step(self) -> int:
        """Take up to a hundred open withdrawals one state further, where the outside allows; returns how many moved."""
        async with tx(self._engine) as connection:
            found = await store.load_open_withdrawals(connection, self._ledger.book, after=self._looked_at, limit=BATCH)
        self._looked_at = found[-1].id if len(found) == BATCH else None
        moved = 0
        for withdrawal in found:
            self._checkpoint.reached(f"withdrawal.{withdrawal.state}.before")
            moved += await self._move(withdrawal)
            self._checkpoint.reached(f"withdrawal.{withdrawal.state}.after")
        return moved

    async def _move(self, withdrawal: Withdrawal) -> bool:
        match withdrawal.state:
            case _S.HELD:
                return await self._screen(withdrawal)
            case _S.SCREENED:
                return await self._set(withdrawal, _S.APPROVED)
            case _S.APPROVED:
                return await self._reserve(withdrawal)
            case _S.NONCE_RESERVED | _S.SIGNED | _S.BROADCAST | _S.MINED | _S.NEEDS_REVIEW:
                return await self._follow(withdrawal)
            case _S.REQUESTED | _S.AWAITING_APPROVAL | _S.FINAL | _S.REJECTED | _S.CANCELLED | _S.REVERTED:
                return False
            case _ as never:
                assert_never(never)

    async def _screen(self, withdrawal: Withdrawal) -> bool:
        try:
            objection = await self._screening.objection(withdrawal)
        except Unavailable:
            return await self._wait(withdrawal, WaitingFor.SCREENING)
        if objection is None:
            return await self._set(withdrawal, _S.SCREENED)
        return await self._end(partial(self._released, withdrawal, _S.REJECTED, objection))

    async def _reserve(self, withdrawal: Withdrawal) -> bool:
        """State and nonce commit together, so that a worker killed here has done both or neither.

        The last moment at which a freeze still stops it: what has a nonce is signed.
        """
        if stopping(await self._ledger.freezes(), *entries.paying(withdrawal)):
            return await self._wait(withdrawal, WaitingFor.APPROVAL, "frozen")
        hot, deployment = await self._hot(), self._registry.by_asset(withdrawal.network, withdrawal.asset)
        payment = Payment(
            network=withdrawal.network,
            kind=Kind.WITHDRAWAL,
            book=self._ledger.book,
            subject=withdrawal.id,
            sender=hot,
            contract=deployment.contract,
            to=withdrawal.address,
            amount=withdrawal.chain_amount,
            gas_limit=withdrawal.gas_limit,
            fee_wei_max=withdrawal.fee_wei_max,
            claims=entries.claims(withdrawal),
        )
        async with tx(self._engine) as connection:
            at = await store.load_status(connection, self._registry.network(withdrawal.network))
            if at is None or at.halted:
                reason = at.halted if at is not None else None
                return await self._note(connection, withdrawal, waiting_for=WaitingFor.NODE, reason=reason)
            taken = await self._change_row(connection, withdrawal, _S.NONCE_RESERVED)
            if taken:
                await transactions.reserve(connection, payment, clock=self._clock, entropy=self._entropy)
            self._checkpoint.reached("reserving")
        return taken

    async def _follow(self, withdrawal: Withdrawal) -> bool:
        """Bring the withdrawal to where its transaction stands; its end is booked with the evidence."""
        book = self._ledger.book
        async with tx(self._engine) as connection:
            own = await transactions.find(connection, book=book, subject=withdrawal.id)
            refusal = None if own else await store.load_refusal(connection, book, withdrawal.id)
            place = await self._place(connection, withdrawal, own)
            sent = await store.load_sent(connection, book, withdrawal.id)
        if own is None:
            return refusal is not None and await self._end(
                partial(self._released, withdrawal, _S.REJECTED, f"the signer refused: {refusal}")
            )
        match own.state:
            case State.RESERVED:
                return await self._mirror(withdrawal, own, sent, withdrawal.state)
            case State.SIGNED:
                return await self._mirror(withdrawal, own, sent, _S.SIGNED)
            case State.BROADCAST:
                return await self._mirror(withdrawal, own, sent, _S.BROADCAST)
            case State.MINED:
                return await self._mirror(withdrawal, own, sent, _S.MINED)
            case State.NEEDS_REVIEW:
                return await self._mirror(withdrawal, own, sent, _S.NEEDS_REVIEW, reason=own.refusal)
            case State.FINAL:
                if place is None:
                    why = "the transaction succeeded, but paid nothing"
                    return await self._mirror(withdrawal, own, sent, _S.NEEDS_REVIEW, reason=why)
                gas = await self._gas(withdrawal, _proof(own))
                return await self._end(partial(self._paid, withdrawal, _proof(own), place, gas))
            case State.REVERTED | State.CANCELLED:
                end = _S.REVERTED if own.state is State.REVERTED else _S.CANCELLED
                gas = await self._gas(withdrawal, _proof(own))
                return await self._end(partial(self._unpaid, withdrawal, _proof(own), end, gas))
            case State.REFUSED:
                return False
            case _ as never:
                assert_never(never)

    async def _place(
        self, connection: AsyncConnection, withdrawal: Withdrawal, own: OwnTransaction | None
    ) -> str | None:
        if own is None or own.mined is None:
            return None
        return await store.load_place(connection, withdrawal, contract=own.payment.contract, mined=own.mined)

    async def _end(self, maker: Callable[[int], Group]) -> bool:
        self._checkpoint.reached("booking.before")
        (refusal,) = await work(self._ledger, maker)
        self._checkpoint.reached("booking.after")
        return refusal is None

    # Groups that end a withdrawal; `attempt` is part of their ids

    def _paid(self, withdrawal: Withdrawal, mined: Mined, place: str, gas: tuple[Posting, ...], attempt: int) -> Group:
        row = self._row(withdrawal, _S.FINAL, mined=mined, fee=entries.fee_of(withdrawal, mined))
        return Group(entries.paid(withdrawal, mined, place=place, gas=gas, attempt=attempt), (row,))

    def _unpaid(
        self, withdrawal: Withdrawal, mined: Mined, to: WithdrawalState, gas: tuple[Posting, ...], attempt: int
    ) -> Group:
        row = self._row(withdrawal, to, mined=mined, fee=0)
        return Group(entries.unpaid(withdrawal, mined, gas=gas, attempt=attempt), (row,))

    def _released(self, withdrawal: Withdrawal, to: WithdrawalState, reason: str, attempt: int) -> Group:
        return Group((entries.release(withdrawal, attempt),), (self._row(withdrawal, to, reason=reason),))

    async def _gas(self, withdrawal: Withdrawal, mined: Mined) -> tuple[Posting, ...]:
        native = self._native(withdrawal.network)
        scale = (await self._ledger.asset(native.asset)).scale
        amount = to_ledger_units(mined.fee_wei, native, scale=scale)
        return entries.gas_postings(withdrawal.network, native.asset, amount)

    # Rows

    async def _new(self, key: RequestKey, owner: str, estimate: Estimate, to: str) -> Withdrawal:
        deployment = self._registry.by_asset(estimate.network, estimate.asset)
        scale = (await self._ledger.asset(estimate.asset)).scale
        now = self._clock.now()
        state = advance(_S.REQUESTED, _S.HELD)  # the row is only there once the hold is
        return Withdrawal(
            id=new_id("wdr", self._clock, self._entropy),
            owner=owner,
            state=state,
            cancellable=True,
            waiting_for=None,
            reason=None,
            asset=estimate.asset,
            network=estimate.network,
            address=parse_address(to, param="address"),
            amount=estimate.amount,
            chain_amount=to_chain_units(estimate.amount, deployment, scale=scale),
            fee_highest=estimate.fee_highest,
            fee=None,
            fee_price=estimate.price,
            gas_limit=estimate.gas_limit,
            fee_wei_max=estimate.fee_wei_max,
            hold=key.id,
            tx_hash=None,
            block_number=None,
            block_hash=None,
            fee_wei=None,
            created_at=now,
            updated_at=now,
        )

    def _key(self, withdrawal: Withdrawal) -> dict[str, object]:
        return {"book": self._ledger.book, "id": withdrawal.id}

    def _change(self, to: WithdrawalState, **columns: object) -> dict[str, object]:
        fresh = {"waiting_for": None, "updated_at": self._clock.now()}
        return {"state": to.value, "cancellable": to in CANCELLABLE, **fresh, **columns}

    def _row(
        self,
        withdrawal: Withdrawal,
        to: WithdrawalState,
        *,
        mined: Mined | None = None,
        fee: int | None = None,
        reason: str | None = None,
    ) -> Advance:
        change = self._change(catch_up(withdrawal.state, to), fee=fee, reason=reason, **_mined_columns(mined))
        return Advance(withdrawals.name, self._key(withdrawal), {"state": withdrawal.state.value}, change)

    async def _set(self, withdrawal: Withdrawal, to: WithdrawalState) -> bool:
        async with tx(self._engine) as connection:
            return await self._change_row(connection, withdrawal, advance(withdrawal.state, to))

    async def _change_row(self, connection: AsyncConnection, withdrawal: Withdrawal, to: WithdrawalState) -> bool:
        change = self._change(advance(withdrawal.state, to), reason=None)
        return await store.change_withdrawal(
            connection, self._ledger.book, withdrawal.id, expect=withdrawal.state, change=change
        )

    async def _mirror(
        self,
        withdrawal: Withdrawal,
        own: OwnTransaction,
        sent: str | None,
        to: WithdrawalState,
        *,
        reason: str | None = None,
    ) -> bool:
        """Copy what the chain says of the transaction, if it says something new. `sent`: the hash last sent."""
        waiting = None if own.waiting_for is None else WaitingFor(own.waiting_for.value)
        columns = {"waiting_for": waiting, "reason": reason, **_mined_columns(own.mined, sent)}
        unchanged = all(getattr(withdrawal, name) == value for name, value in columns.items())
        if to is withdrawal.state and unchanged:
            return False
        state = to if to is withdrawal.state else catch_up(withdrawal.state, to)
        async with tx(self._engine) as connection:
            return await store.change_withdrawal(
                connection,
                self._ledger.book,
                withdrawal.id,
                expect=withdrawal.state,
                change=self._change(state, **columns),
            )

    async def _wait(self, withdrawal: Withdrawal, lacking: WaitingFor, reason: str | None = None) -> bool:
        async with tx(self._engine) as connection:
            return await self._note(connection, withdrawal, waiting_for=lacking, reason=reason)

    async def _note(
        self, connection: AsyncConnection, withdrawal: Withdrawal, *, waiting_for: WaitingFor, reason: str | None
    ) -> bool:
        """Say what it waits for; its state stays. Not a move: always False."""
        if (withdrawal.waiting_for, withdrawal.reason) != (waiting_for, reason):
            change = {"waiting_for": waiting_for, "reason": reason, "updated_at": self._clock.now()}
            await store.change_withdrawal(
                connection, self._ledger.book, withdrawal.id, expect=withdrawal.state, change=change
            )
        return False

    # What a request is checked against

    async def _recipient(self, to: str, deployment: Deployment) -> str:
        address = parse_address(to, param="address")
        async with tx(self._engine) as connection:
            role = await store.load_house_role(connection, address)
        if address == deployment.contract:
            raise OwnAddress(
                f"this is the contract of {deployment.asset} itself; what it gets is lost", param="address"
            )
        if role is not None:
            raise OwnAddress("this address is the house's own", param="address", role=role)
        return address

    async def _hot(self) -> OwnKeyAddress:
        async with tx(self._engine) as connection:
            hot = await addresses.house(connection, key=HOT)
        if hot is None:
            raise ConfigError("no hot address is enrolled, so nothing can be paid", code="no_hot_address")
        return hot

    def _native(self, network: str) -> Deployment:
        return self._registry.by_asset(network, self._registry.network(network).native_asset)


def _proof(own: OwnTransaction) -> Mined:
    if own.mined is None:
        raise WalletCorrupt(f"{own.id} is {own.state}, but in no block")
    return own.mined


def _mined_columns(mined: Mined | None, sent: str | None = None) -> dict[str, object]:
    if mined is None:
        return {"tx_hash": sent, "block_number": None, "block_hash": None, "fee_wei": None}
    return {
        "tx_hash": mined.tx_hash,
        "block_number": mined.block_number,
        "block_hash": mined.block_hash,
        "fee_wei": mined.fee_wei,
    }


def _too_late(withdrawal: Withdrawal) -> NotCancellable:
    return NotCancellable(
        f"the withdrawal is {withdrawal.state}; it can be cancelled only until a nonce is reserved for it",
        param="withdrawal",
        state=withdrawal.state.value,
    )
