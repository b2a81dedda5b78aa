"""What the worker does with withdrawals: all that stand at the same point are taken a state further together.

Each of its moves is one tx, or one group commit, however many withdrawals it's about; killed between any two it goes on
from what is committed. Who pays is chosen before a nonce is taken, so that one that can't be paid waits without being
in the others' way. What ends a withdrawal is booked with the block that proves it. Signing and sending are the chain's.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import Unavailable
from chain import foreign_store, token_store, transactions
from chain.checkpoints import Checkpoint
from chain.errors import ScreeningUnavailable
from chain.networks import Deployment, Registry, to_ledger_units
from chain.screening import Screening
from chain.senders import Assigned, Lacking, Wanted
from chain.signing import OwnAddress
from chain.tokens import Quirk
from chain.transaction_states import Kind, State
from chain.transaction_states import WaitingFor as OwnWaitingFor
from chain.transactions import Mined, OwnTransaction, Payment
from chain.trials import Failure, Fault
from db.engine import tx
from ledger.asking import contents_of, stopping, work
from ledger.commands import Group, Posting
from ledger.engine import Ledger
from ledger.riders import Advance
from wallet import batch_store, rows, withdrawal_store
from wallet import withdrawal_entries as entries
from wallet.errors import WalletCorrupt
from wallet.resources import Withdrawal
from wallet.tables import withdrawals
from wallet.withdrawal_approvals import ALONE, APPROVABLE, ASKED, NOT_APPROVED, Answer, Approving
from wallet.withdrawal_states import CANCELLABLE, WaitingFor, WithdrawalState, advance, catch_up

BATCH = 500
"""Open withdrawals that one step looks at; the next step takes the next ones."""

LISTED = "the recipient can't be paid"
"""Why a withdrawal to a listed address is rejected, in the words that its user is told."""

NOT_ALLOWED = "the house's policy doesn't allow this payment"
"""What the user is told of one that the signer refused."""

BY_THE_HOUSE = "cancelled by the house"
"""What the user is told of one that a treasurer cancelled."""

_S = WithdrawalState
_FOLLOWED = (_S.NONCE_RESERVED, _S.SIGNED, _S.BROADCAST, _S.MINED, _S.NEEDS_REVIEW)
_MIRRORED = {
    State.SIGNED: _S.SIGNED,
    State.BROADCAST: _S.BROADCAST,
    State.MINED: _S.MINED,
    State.NEEDS_REVIEW: _S.NEEDS_REVIEW,
}
"""The states of a transaction that its withdrawal shows as its own."""

Maker = Callable[[int], Group]
"""Makes the group that ends a withdrawal; the attempt's number is part of its ids."""


class HotSenders(Protocol):
    """Knows who could pay; the chain's database and node answer."""

    async def assign(self, network: str, wanted: Sequence[Wanted]) -> list[Assigned]:
        """Who pays each of these. Raises Unavailable."""
        ...


class Gathering(Protocol):
    """Knows which approved withdrawals wait to be paid together; `wallet.batches.Batches` is one."""

    async def kept(self, found: Sequence[Withdrawal]) -> frozenset[str]:
        """Ids of those of `found` that aren't to be paid alone now."""
        ...


@dataclass(frozen=True, slots=True)
class Waits:
    """What a withdrawal waits for, and why if that isn't plain."""

    lacking: WaitingFor | None
    reason: str | None = None


class WithdrawalSteps:
    """Brings open withdrawals to their end."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        senders: HotSenders,
        screening: Mapping[str, Screening],
        gathering: Gathering | None = None,
        approving: Approving | None = None,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint,
    ) -> None:
        self.screening = dict(screening)
        """By network, who is asked about recipients; nobody where there is none."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._lossy = frozenset(
            (one.network, one.contract) for one in registry.deployments if Quirk.FEE_ON_TRANSFER in one.quirks
        )
        self._senders = senders
        self._gathering = gathering
        self._approving = approving
        self._clock = clock
        self._entropy = entropy
        self._checkpoint = checkpoint
        self._looked_at: str | None = None

    async def step(self) -> int:
        """Take up to five hundred open withdrawals one state further, where the outside allows; how many moved."""
        async with tx(self._engine) as connection:
            found = await withdrawal_store.load_open_withdrawals(
                connection, self._ledger.book, after=self._looked_at, limit=BATCH
            )
        self._looked_at = found[-1].id if len(found) == BATCH else None
        moves: tuple[tuple[tuple[WithdrawalState, ...], Callable[[list[Withdrawal]], Awaitable[int]]], ...] = (
            (_FOLLOWED, self._follow),
            ((_S.APPROVED,), self._reserve),
            ((_S.AWAITING_APPROVAL,), self._hear),
            ((_S.SCREENED,), self._approve),
            ((_S.HELD,), self._screen),
        )
        moved = 0
        for states, move in moves:
            mine = [withdrawal for withdrawal in found if withdrawal.state in states]
            if not mine:
                continue
            for withdrawal in mine:
                self._checkpoint.reached(f"withdrawal.{withdrawal.state}.before")
            moved += await move(mine)
            for withdrawal in mine:
                self._checkpoint.reached(f"withdrawal.{withdrawal.state}.after")
        return moved

    # Before a nonce is reserved

    async def _screen(self, mine: Sequence[Withdrawal]) -> int:
        moved = 0
        for network, asked in _by_network(mine).items():
            try:
                objections = await self.objections(network, sorted({withdrawal.address for withdrawal in asked}))
            except Unavailable:
                await self._wait({withdrawal: Waits(WaitingFor.SCREENING) for withdrawal in asked})
                continue
            listed = [withdrawal for withdrawal in asked if withdrawal.address in objections]
            moved += await self._set([one for one in asked if one.address not in objections], _S.SCREENED)
            moved += await self._end(partial(self._released, one, _S.REJECTED, LISTED) for one in listed)
        return moved

    async def objections(self, network: str, recipients: Sequence[str]) -> Mapping[str, str]:
        """What is known against these addresses as of the newest block. Raises Unavailable when it can't be told."""
        screening = self.screening.get(network)
        if screening is None:
            return {}
        async with tx(self._engine) as connection:
            at = await rows.load_status(connection, self._registry.network(network))
        if at is None or at.block_hash is None:
            raise ScreeningUnavailable(f"network {network} wasn't followed yet")
        return await screening.objections(recipients, block=at.block_hash)

    async def _approve(self, mine: Sequence[Withdrawal]) -> int:
        return await self._set(mine, _S.APPROVED)

    async def _hear(self, mine: Sequence[Withdrawal]) -> int:
        """Go on with what people approved; what they didn't is given back."""
        unwanted = [one for one in mine if one.cancelling is not None]
        moved = await self._end(partial(self._released, one, _S.CANCELLED, BY_THE_HOUSE) for one in unwanted)
        waiting = [one for one in mine if one not in unwanted]
        told = {} if self._approving is None else await self._approving.asked([one.id for one in waiting])
        answers = {one: told[one.id].answer if one.id in told else None for one in waiting}
        # Where nobody was asked, as after a restore, the signer says anew what it wants.
        moved += await self._set(
            [one for one, answer in answers.items() if answer in (None, Answer.APPROVED)], _S.APPROVED
        )
        ended = [one for one, answer in answers.items() if answer is Answer.ENDED]
        return moved + await self._end(partial(self._released, one, _S.REJECTED, NOT_APPROVED) for one in ended)

    async def _reserve(self, mine: Sequence[Withdrawal]) -> int:
        """Give nonces to what can be paid. The last moment at which a freeze still stops it: what has one is signed."""
        kept = await self._gathering.kept(mine) if self._gathering is not None else frozenset()
        mine = [withdrawal for withdrawal in mine if withdrawal.id not in kept]
        freezes = await self._ledger.freezes()
        waits: dict[Withdrawal, Waits] = {}
        moved = 0
        for network, asked in _by_network(mine).items():
            unwanted = [withdrawal for withdrawal in asked if withdrawal.cancelling is not None]
            moved += await self._end(
                partial(self._released, withdrawal, _S.CANCELLED, BY_THE_HOUSE) for withdrawal in unwanted
            )
            frozen = [one for one in asked if one not in unwanted and stopping(freezes, *entries.paying(one))]
            waits |= dict.fromkeys(frozen, Waits(WaitingFor.APPROVAL, "frozen"))
            open_ones = [one for one in asked if one not in unwanted and one not in waits]
            stopped = await self._stopped(network, open_ones)
            waits |= stopped
            moved += await self._pay([one for one in open_ones if one not in stopped], network, waits)
        await self._wait(waits)
        return moved

    async def _stopped(self, network: str, asked: Sequence[Withdrawal]) -> dict[Withdrawal, Waits]:
        """What waits because the network is halted, or its token under review."""
        async with tx(self._engine) as connection:
            at = await rows.load_status(connection, self._registry.network(network))
            if at is None or at.halted:
                reason = at.halted if at is not None else None
                return dict.fromkeys(asked, Waits(WaitingFor.NODE, reason))
            doubts = {}
            for asset in {withdrawal.asset for withdrawal in asked}:
                doubts[asset] = await token_store.doubt(connection, network, self._contract(network, asset))
        return {
            one: Waits(WaitingFor.APPROVAL, f"{one.asset} on {network} is under review: {doubts[one.asset]}")
            for one in asked
            if doubts[one.asset] is not None
        }

    async def _pay(self, asked: Sequence[Withdrawal], network: str, waits: dict[Withdrawal, Waits]) -> int:
        """Choose who pays each, and take the nonces; adds to `waits` what can't be paid now."""
        if not asked:
            return 0
        told = {} if self._approving is None else await self._approving.asked([one.id for one in asked])
        bound = {id: one.sender for id, one in told.items() if one.answer is Answer.APPROVED}
        wanted = [
            Wanted(
                contract=self._contract(network, one.asset),
                to=one.address,
                amount=one.chain_amount,
                gas_limit=one.gas_limit,
                fee_wei_max=one.fee_wei_max,
                sender=bound.get(one.id),
            )
            for one in asked
        ]
        try:
            assigned = await self._senders.assign(network, wanted)
        except Unavailable:
            waits |= dict.fromkeys(asked, Waits(WaitingFor.NODE))
            return 0
        paying: dict[str, tuple[Withdrawal, OwnAddress]] = {}
        refused = []
        for one, found in zip(asked, assigned, strict=True):
            match found:
                case OwnAddress():
                    paying[one.id] = one, found
                case Lacking(lack, words):  # how much the house has there is told the treasurer, not its users
                    shown = words if lack is OwnWaitingFor.APPROVAL else None
                    waits[one] = Waits(WaitingFor(lack.value), shown)
                case Failure(Fault.TOKEN | Fault.NODE, words):
                    waits[one] = Waits(WaitingFor.APPROVAL, words)
                case Failure(_, words):
                    refused.append(partial(self._released, one, _S.REJECTED, words))
                case None:
                    waits[one] = Waits(None)
        return await self._end(refused) + await self._take_nonces(network, paying)

    async def _take_nonces(self, network: str, paying: Mapping[str, tuple[Withdrawal, OwnAddress]]) -> int:
        """States and nonces commit together, so that a worker killed here has done both or neither."""
        if not paying:
            return 0
        contents = await contents_of(self._ledger, (one.hold for one, _ in paying.values()))
        async with tx(self._engine) as connection:
            at = await rows.load_status(connection, self._registry.network(network))
            if at is None or at.halted:
                return 0
            halted = await foreign_store.halted_senders(connection, network)
            paying = {id: pair for id, pair in paying.items() if pair[1].address not in halted}
            taken = await withdrawal_store.change_withdrawals(
                connection,
                self._ledger.book,
                list(paying),
                expect=_S.APPROVED,
                change=self._change(advance(_S.APPROVED, _S.NONCE_RESERVED), reason=None),
                unless_cancelling=True,
            )
            payments = [self._payment(*paying[id], contents) for id in paying if id in taken]
            await transactions.reserve_all(connection, payments, clock=self._clock, entropy=self._entropy)
            self._checkpoint.reached("reserving")
        return len(taken)

    def _payment(self, withdrawal: Withdrawal, sender: OwnAddress, contents: Mapping[str, bytes | None]) -> Payment:
        return Payment(
            network=withdrawal.network,
            kind=Kind.WITHDRAWAL,
            book=self._ledger.book,
            subject=withdrawal.id,
            sender=sender,
            contract=self._contract(withdrawal.network, withdrawal.asset),
            to=withdrawal.address,
            amount=withdrawal.chain_amount,
            gas_limit=withdrawal.gas_limit,
            fee_wei_max=withdrawal.fee_wei_max,
            claims=entries.claims(withdrawal, content=contents.get(withdrawal.hold)),
        )

    # From then on

    async def _follow(self, mine: Sequence[Withdrawal]) -> int:
        """Bring each withdrawal to where its transaction stands; its end is booked with the evidence."""
        book, ids = self._ledger.book, [withdrawal.id for withdrawal in mine]
        async with tx(self._engine) as connection:
            own = await transactions.find_all(connection, book=book, subjects=ids)
            past = await withdrawal_store.load_past(connection, book, [id for id in ids if id not in own])
            sent = await withdrawal_store.load_sent(connection, book, ids)
            refused = await withdrawal_store.load_refused(
                connection, book, [id for id, (state, _) in past.items() if state is State.REFUSED], codes=APPROVABLE
            )
            final = [(one, own[one.id]) for one in mine if one.id in own and own[one.id].state is State.FINAL]
            paid = [(one, found.payment.contract, _proof(found)) for one, found in final]
            places = await withdrawal_store.load_places(connection, paid, lossy=self._lossy)
            kept = {
                one.id: await self._kept(connection, one, found, places[one.id])
                for one, found in final
                if one.id in places
            }
        changes: list[tuple[Withdrawal, dict[str, object]]] = []
        ends: list[Maker] = []
        people = await self._ask_people(mine, refused)
        for withdrawal in mine:
            found = own.get(withdrawal.id)
            if withdrawal.id in people:
                if people[withdrawal.id]:
                    asking = self._change(advance(withdrawal.state, _S.AWAITING_APPROVAL), reason=ASKED)
                    changes.append((withdrawal, asking))
            elif found is None:
                self._unsigned(withdrawal, past.get(withdrawal.id), changes, ends)
            elif found.state is State.FINAL and (
                withdrawal.id not in kept or sum(units for _, units in kept[withdrawal.id]) >= withdrawal.amount
            ):
                why = "the transaction succeeded, but paid nothing"
                changes += self._shown(withdrawal, found, sent, _S.NEEDS_REVIEW, reason=why)
            elif found.state is State.FINAL:
                gas = await self._gas(withdrawal, _proof(found))
                ends.append(
                    partial(self._paid, withdrawal, _proof(found), places[withdrawal.id], gas, kept[withdrawal.id])
                )
            elif found.state in (State.REVERTED, State.CANCELLED):
                gas = await self._gas(withdrawal, _proof(found))
                to = _S.REVERTED if found.state is State.REVERTED else _S.CANCELLED
                ends.append(partial(self._unpaid, withdrawal, _proof(found), to, gas))
            else:
                to = _MIRRORED.get(found.state, withdrawal.state)
                tells = found.state is State.NEEDS_REVIEW or found.waiting_for is OwnWaitingFor.APPROVAL
                reason = found.refusal if tells else _meanwhile(withdrawal)
                changes += self._shown(withdrawal, found, sent, to, reason=reason)
        moved = await self._save(changes)
        return moved + await self._end(ends)

    async def _ask_people(self, mine: Sequence[Withdrawal], refused: Mapping[str, OwnTransaction]) -> dict[str, bool]:
        """By withdrawal: whether people are asked to approve what the signer refused; False: they can't be asked now.

        Not of those which nobody could approve, or nobody wants paid any more.
        """
        if self._approving is None:
            return {}
        asked: dict[str, bool] = {}
        for withdrawal in mine:
            own = refused.get(withdrawal.id)
            if own is None or withdrawal.state is not _S.NONCE_RESERVED or withdrawal.cancelling is not None:
                continue
            try:
                code, owner = own.refusal_code or "", withdrawal.owner
                if await self._approving.ask(own.payment, owner=owner, code=code, refused=own.id):
                    asked[withdrawal.id] = True
            except Unavailable:
                asked[withdrawal.id] = False
        # What people approve is this very payment: as the leg of a batch it would be refused, and the batch with it.
        alone = dict.fromkeys((id for id, is_asked in asked.items() if is_asked), ALONE)
        if alone:
            async with tx(self._engine) as connection:
                await batch_store.pay_alone(connection, self._ledger.book, alone, now=self._clock.now())
        return asked

    def _unsigned(
        self,
        withdrawal: Withdrawal,
        past: tuple[State, str] | None,
        changes: list[tuple[Withdrawal, dict[str, object]]],
        ends: list[Maker],
    ) -> None:
        """Its transaction ended without a signature: refused by the signer, or given back by the broadcaster.

        One under review may have been paid otherwise, as by a batch that a restore has forgotten: a person ends it.
        """
        if withdrawal.state is _S.NEEDS_REVIEW:
            return
        match past:
            case (State.REFUSED, _):
                # The signer's words tell of limits and of what others withdraw: they stay with the transaction.
                ends.append(partial(self._released, withdrawal, _S.REJECTED, NOT_ALLOWED))
            case (State.GIVEN_BACK, _) if withdrawal.cancelling is not None:
                ends.append(partial(self._released, withdrawal, _S.CANCELLED, BY_THE_HOUSE))
            case (State.GIVEN_BACK, words):
                back = self._change(advance(withdrawal.state, _S.APPROVED), reason=words)
                changes.append((withdrawal, back))

    async def _end(self, makers: Iterable[Maker]) -> int:
        """Book these ends, all in one group commit; returns how many were accepted."""
        ends = list(makers)
        if not ends:
            return 0
        self._checkpoint.reached("booking.before")
        refusals = await work(self._ledger, *ends)
        self._checkpoint.reached("booking.after")
        return sum(refusal is None for refusal in refusals)

    def _paid(
        self,
        withdrawal: Withdrawal,
        mined: Mined,
        place: str,
        gas: tuple[Posting, ...],
        kept: Sequence[tuple[str, int]],
        attempt: int,
    ) -> Group:
        row = self._row(withdrawal, _S.FINAL, mined=mined, fee=entries.fee_of(withdrawal, mined))
        return Group(entries.paid(withdrawal, mined, place=place, gas=gas, kept=kept, attempt=attempt), (row,))

    async def _kept(
        self, connection: AsyncConnection, withdrawal: Withdrawal, own: OwnTransaction, place: str
    ) -> tuple[tuple[str, int], ...]:
        """What a token that keeps a part of each transfer told of that part."""
        if (withdrawal.network, own.payment.contract) not in self._lossy:
            return ()
        told = await token_store.load_kept(
            connection,
            withdrawal.network,
            block_hash=_proof(own).block_hash,
            tx_hash=_proof(own).tx_hash,
            contract=own.payment.contract,
            sender=own.payment.sender.address,
            besides=place,
        )
        deployment = self._registry.by_asset(withdrawal.network, withdrawal.asset)
        scale = (await self._ledger.asset(withdrawal.asset)).scale
        return tuple((place, to_ledger_units(units, deployment, scale=scale)) for place, units in told)

    def _unpaid(
        self, withdrawal: Withdrawal, mined: Mined, to: WithdrawalState, gas: tuple[Posting, ...], attempt: int
    ) -> Group:
        fee = entries.fee_of_reverted(withdrawal, mined) if to is _S.REVERTED else 0
        reason = BY_THE_HOUSE if to is _S.CANCELLED else None
        row = self._row(withdrawal, to, mined=mined, fee=fee, reason=reason)
        return Group(entries.unpaid(withdrawal, mined, gas=gas, attempt=attempt, fee=fee), (row,))

    def _released(self, withdrawal: Withdrawal, to: WithdrawalState, reason: str, attempt: int) -> Group:
        return Group((entries.release(withdrawal, attempt),), (self._row(withdrawal, to, reason=reason),))

    async def _gas(self, withdrawal: Withdrawal, mined: Mined) -> tuple[Posting, ...]:
        native = self._native(withdrawal.network)
        scale = (await self._ledger.asset(native.asset)).scale
        amount = to_ledger_units(mined.fee_wei, native, scale=scale)
        return entries.gas_postings(withdrawal.network, native.asset, amount)

    # Rows

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
        key = {"book": self._ledger.book, "id": withdrawal.id}
        return Advance(withdrawals.name, key, {"state": withdrawal.state.value}, change)

    async def _set(self, mine: Sequence[Withdrawal], to: WithdrawalState) -> int:
        """All of them, in one state, move on to the next."""
        if not mine:
            return 0
        change = self._change(advance(mine[0].state, to), reason=None)
        ids = [withdrawal.id for withdrawal in mine]
        async with tx(self._engine) as connection:
            return len(
                await withdrawal_store.change_withdrawals(
                    connection, self._ledger.book, ids, expect=mine[0].state, change=change
                )
            )

    def _shown(
        self,
        withdrawal: Withdrawal,
        own: OwnTransaction,
        sent: Mapping[str, str],
        to: WithdrawalState,
        *,
        reason: str | None = None,
    ) -> list[tuple[Withdrawal, dict[str, object]]]:
        """What the chain says of the transaction, if it says something new. `sent`: the hashes last sent."""
        waiting = None if own.waiting_for is None else WaitingFor(own.waiting_for.value)
        columns = {
            "waiting_for": waiting,
            "reason": reason,
            **_mined_columns(own.mined, sent.get(withdrawal.id)),
        }
        unchanged = all(getattr(withdrawal, name) == value for name, value in columns.items())
        if to is withdrawal.state and unchanged:
            return []
        state = to if to is withdrawal.state else catch_up(withdrawal.state, to)
        return [(withdrawal, self._change(state, **columns))]

    async def _save(self, changes: Sequence[tuple[Withdrawal, Mapping[str, object]]]) -> int:
        """One tx for all of them; those that somebody else moved on meanwhile stay as they are."""
        if not changes:
            return 0
        async with tx(self._engine) as connection:
            return await withdrawal_store.save_withdrawals(connection, self._ledger.book, changes)

    async def _wait(self, waits: Mapping[Withdrawal, Waits]) -> None:
        """Say what each waits for, where that's new; states stay. Not a move."""
        now = self._clock.now()
        await self._save(
            [
                (
                    withdrawal,
                    {
                        "state": withdrawal.state.value,
                        "cancellable": withdrawal.cancellable,
                        "waiting_for": waits_for.lacking,
                        "reason": waits_for.reason,
                        "updated_at": now,
                    },
                )
                for withdrawal, waits_for in waits.items()
                if (withdrawal.waiting_for, withdrawal.reason) != (waits_for.lacking, waits_for.reason)
            ]
        )

    def _contract(self, network: str, asset: str) -> str | None:
        return self._registry.by_asset(network, asset).contract

    def _native(self, network: str) -> Deployment:
        return self._registry.by_asset(network, self._registry.network(network).native_asset)


def _by_network(mine: Iterable[Withdrawal]) -> dict[str, list[Withdrawal]]:
    found: dict[str, list[Withdrawal]] = defaultdict(list)
    for withdrawal in mine:
        found[withdrawal.network].append(withdrawal)
    return found


def _meanwhile(withdrawal: Withdrawal) -> str | None:
    return None if withdrawal.cancelling is None else "the house is cancelling it"


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
