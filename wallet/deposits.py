"""Deposits: what arrives at users' addresses becomes theirs, once, and is taken back if its block leaves the chain.

Seen: a hold. Spendable deep: settled. Its block orphaned: voided, or taken back where it was credited. The same
transfer in another block is a new version of the deposit. What nobody can be credited for is recorded all the same.
Of a token counts what arrived (`chain.tokens`), and only while nothing stops it; until then it's under review. So it is
while nobody could tell whether its sender is listed (`chain.screening`); a listed one's goes to quarantine.
What is there of the native coin without anything telling of it (`chain.coins`) waits in suspense.
Addresses are in `wallet.deposit_addresses`; sweeping them is the treasury's.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import assert_never

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from chain.coins import SURPLUS as SURPLUS_PLACE
from chain.networks import Deployment, Network, Registry, to_ledger_units
from chain.status import NetworkStatus, status_if_followed
from chain.tokens import Verdict, judge
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.asking import work
from ledger.commands import Group, Hold, Post, Posting, Settle, Void, alone
from ledger.engine import Ledger
from ledger.owing import receivable_account
from ledger.requests import content_hash, worker_id
from ledger.riders import Advance, Insert
from wallet import arrival_store, deposit_store
from wallet.arrival_store import Arrival
from wallet.errors import WalletCorrupt
from wallet.resources import SET_ASIDE, Deposit, DepositState
from wallet.tables import deposits

BATCH = 200
"""Deposits that one step moves at most, per kind of move."""

_S = DepositState


class Deposits:
    """Turns the follower's observations into entries, and shows users what became of them."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        clock: Clock,
        entropy: Entropy,
        screened: Collection[str] = (),
    ) -> None:
        """`screened`: the networks on which nothing is held for a user before its sender was asked about."""
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._entropy = entropy
        self._screened = frozenset(screened)
        self._done_through: dict[tuple[str, int], tuple[int, int]] = {}
        """Per network and epoch, the final height up to which every arrival is recorded, and how many of those that
        were told later than their blocks; only saves looking again."""

    async def get(self, owner: str, deposit: str) -> Deposit:
        """The user's deposit with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await deposit_store.load_deposit(connection, self._ledger.book, deposit)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no deposit {deposit[:40]!r}", param="deposit")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Deposit]:
        """The user's deposits, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            return await deposit_store.list_deposits(
                connection, self._ledger.book, owner, before=before, after=after, limit=limit
            )

    async def step(self) -> int:
        """Do what the chain's record asks for now, a bounded piece; returns how many deposits moved.

        What left the chain comes first, so that a transfer that was mined again finds its earlier version ended.
        """
        moved = 0
        for network in self._registry.networks.values():
            async with tx(self._engine) as connection:
                at = await status_if_followed(connection, network)
            if at is not None:
                moved += await self.take_back(network)
                moved += await self._record(network, at)
                moved += await self._reconsider(network)
                moved += await self._credit(network, at)
                moved += await self._credit_explained(network, at)
                moved += await self._finish(network, at)
        return moved

    # The six moves

    async def take_back(self, network: Network) -> int:
        """Void or reverse up to BATCH deposits whose transfer has left the chain; returns how many."""
        book, now = self._ledger.book, self._clock.now()
        async with tx(self._engine) as connection:
            gone = await deposit_store.load_vanished(connection, book, network.name, limit=BATCH)
            unbooked = [deposit for deposit in gone if deposit.entry is None]
            await deposit_store.mark_orphaned(connection, book, unbooked, now=now)
        booked = [deposit for deposit in gone if deposit.entry is not None]
        owing = {receivable_account(deposit.owner, deposit.asset) for deposit in booked if deposit.asset}
        await self._ledger.ensure_open(*sorted(owing))
        return len(unbooked) + await self._submit([partial(self._undo, deposit) for deposit in booked])

    async def _record(self, network: Network, at: NetworkStatus) -> int:
        book = self._ledger.book
        if at.halted:  # what was final isn't: nothing known of it counts any more
            self._done_through.pop((network.name, at.epoch), None)
        above, late_above = self._done_through.get((network.name, at.epoch), (-1, 0))
        async with tx(self._engine) as connection:
            # Asked first: another worker may end a ghost in between, and what it hid would seem recorded.
            ghosts = await deposit_store.load_vanished(connection, book, network.name, limit=1)
            arrivals = await arrival_store.load_arrivals(
                connection,
                book,
                network.name,
                above=above,
                late_above=late_above,
                screened=network.name in self._screened,
                limit=BATCH,
            )
            seen = [await self._deposit(arrival) for arrival in arrivals]
            unbooked = [deposit for deposit in seen if deposit.state is not _S.PENDING]
            await deposit_store.insert_deposits(connection, book, unbooked)
        pending = [deposit for deposit in seen if deposit.state is _S.PENDING]
        await self._ledger.ensure_open(*sorted({account for deposit in pending for account in _accounts(deposit)}))
        moved = len(unbooked) + await self._submit([partial(self._hold, deposit) for deposit in pending])
        if len(arrivals) == moved < BATCH and not ghosts and not at.halted:
            self._done_through = {key: through for key, through in self._done_through.items() if key[0] != network.name}
            self._done_through[network.name, at.epoch] = at.final_height, at.late
        return moved

    async def _reconsider(self, network: Network) -> int:
        """What was under review and can be judged now is held like any other, or said to be what it is."""
        book, tokens = self._ledger.book, self._registry.tokens(network.name)
        unsaid = [contract for contract, entry in tokens.items() if _needs_measure(entry)]
        async with tx(self._engine) as connection:
            reviewed = await arrival_store.load_reviewed(
                connection,
                book,
                network.name,
                contracts=list(tokens),
                unsaid=unsaid,
                screened=network.name in self._screened,
                limit=BATCH,
            )
            judged = [replace(await self._deposit(arrival), id=before.id) for before, arrival in reviewed]
            unbooked = [deposit for deposit in judged if deposit.state is not _S.PENDING]
            await deposit_store.judge_deposits(connection, book, unbooked)
        pending = [deposit for deposit in judged if deposit.state is _S.PENDING]
        await self._ledger.ensure_open(*sorted({account for deposit in pending for account in _accounts(deposit)}))
        return len(unbooked) + await self._submit([partial(self._hold_reviewed, deposit) for deposit in pending])

    async def _credit(self, network: Network, at: NetworkStatus) -> int:
        if at.halted:
            return 0
        async with tx(self._engine) as connection:
            ripe = await deposit_store.load_ripe(
                connection,
                self._ledger.book,
                network.name,
                states=[_S.PENDING],
                through=at.spendable_height,
                limit=BATCH,
            )
        return await self._submit([partial(self._settle, deposit) for deposit in ripe])

    async def _credit_explained(self, network: Network, at: NetworkStatus) -> int:
        """Surpluses of which traces, told later, tell all: they are their users' now.

        Not where senders are screened: who sent a surplus is for the treasurer to find out.
        """
        if at.halted or network.name in self._screened:
            return 0
        async with tx(self._engine) as connection:
            told = await deposit_store.load_explained(connection, self._ledger.book, network.name, limit=BATCH)
        needed = {account for deposit in told for account in (*_accounts(deposit), _posting(deposit).credit)}
        await self._ledger.ensure_open(*sorted(needed))
        return await self._submit([partial(self._out_of_suspense, deposit) for deposit in told])

    async def _finish(self, network: Network, at: NetworkStatus) -> int:
        book, now = self._ledger.book, self._clock.now()
        async with tx(self._engine) as connection:
            finished = await deposit_store.mark_final(connection, book, network.name, through=at.final_height, now=now)
            aside = await deposit_store.load_ripe(
                connection, book, network.name, states=SET_ASIDE, through=at.final_height, limit=BATCH
            )
        await self._ledger.ensure_open(*sorted({account for deposit in aside for account in _accounts(deposit)}))
        return finished + await self._submit([partial(self._set_aside, deposit) for deposit in aside])

    async def _submit(self, makers: list[Callable[[int], Group]]) -> int:
        refusals = await work(self._ledger, *makers)
        return refusals.count(None)

    async def _deposit(self, arrival: Arrival) -> Deposit:
        """What an arrival is: of a known asset and to be held, or not; or of a token that nobody named."""
        deployment = self._registry.by_contract(arrival.network, arrival.contract)
        amount, state = None, _S.UNKNOWN_TOKEN
        if deployment is not None:
            asset = await self._ledger.asset(deployment.asset)
            state, came = _judged(arrival, deployment)
            if came is not None:
                amount = to_ledger_units(came, deployment, scale=asset.scale)
                if state is _S.PENDING and amount < deployment.deposit_minimum:
                    state = _S.BELOW_MINIMUM
                if came and arrival.objection is not None:
                    state = _S.SENDER_LISTED
        now = self._clock.now()
        return Deposit(
            id=new_id("dep", self._clock, self._entropy),
            owner=arrival.owner,
            state=state,
            asset=None if deployment is None else deployment.asset,
            amount=amount,
            network=arrival.network,
            contract=arrival.contract,
            chain_amount=arrival.chain_amount,
            sender=arrival.sender,
            address=arrival.address,
            block_number=arrival.block_number,
            block_hash=arrival.block_hash,
            tx_hash=arrival.tx_hash,
            place=arrival.place,
            version=arrival.version,
            entry=None,
            seen_at=now,
            updated_at=now,
        )

    # Groups of one command and the row that commits with it; `attempt` is part of the command's id

    def _hold(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "seen", attempt)
        row = deposit_store.deposit_values(replace(deposit, entry=name))
        return alone(
            Hold(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(_posting(deposit),)),
            Insert(deposits.name, deposit_store.deposit_key(self._ledger.book, deposit), row),
            content=_content(deposit, "seen"),
        )

    def _hold_reviewed(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "seen", attempt)
        hold = Hold(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(_posting(deposit),))
        before = {"state": _S.UNDER_REVIEW.value, "entry": None}
        change = {"state": _S.PENDING.value, "entry": name, "asset": deposit.asset, "amount": deposit.amount}
        row = Advance(deposits.name, deposit_store.deposit_key(self._ledger.book, deposit), before, change)
        return alone(hold, row, content=_content(deposit, "seen"))

    def _settle(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "credit", attempt)
        command = Settle(id=name, subject=deposit.id, evidence=deposit.evidence, hold=_entry(deposit), close=True)
        return alone(command, self._to(deposit, _S.CREDITED))

    def _set_aside(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "suspense", attempt)
        posting = msgspec.structs.replace(_posting(deposit), credit=set_aside_account(deposit))
        command = Post(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(posting,))
        return alone(command, self._to(deposit, deposit.state, entry=name))

    def _out_of_suspense(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "told", attempt)
        posting = msgspec.structs.replace(_posting(deposit), debit=set_aside_account(deposit))
        command = Post(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(posting,))
        return alone(command, self._to(deposit, _S.FINAL, entry=name))

    def _undo(self, deposit: Deposit, attempt: int) -> Group:
        """Void what was held; take back what was credited, and what the user has spent of it becomes a receivable."""
        if deposit.state is _S.PENDING:
            name = _command(deposit, "void", attempt)
            void = Void(id=name, subject=deposit.id, evidence=deposit.evidence, hold=_entry(deposit))
            return alone(void, self._to(deposit, _S.ORPHANED))
        booked, owner = _posting(deposit), receivable_account(deposit.owner, _asset(deposit))
        back = Posting(booked.credit, booked.debit, booked.asset, booked.amount, debit_rest=owner)
        if deposit.state in SET_ASIDE:
            back = Posting(set_aside_account(deposit), booked.debit, booked.asset, booked.amount)
        name = _command(deposit, "reverse", attempt)
        post = Post(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(back,))
        return alone(post, self._to(deposit, _S.REVERSED))

    def _to(self, deposit: Deposit, state: DepositState, *, entry: str | None = None) -> Advance:
        change: dict[str, object] = {"state": state.value, "updated_at": self._clock.now()}
        if entry is not None:
            change["entry"] = entry
        key = deposit_store.deposit_key(self._ledger.book, deposit)
        return Advance(deposits.name, key, {"state": deposit.state.value, "entry": deposit.entry}, change)


def _judged(arrival: Arrival, deployment: Deployment) -> tuple[DepositState, int | None]:
    """The state of an arrival of a known asset, before its minimum, and the chain units that it counts for."""
    if arrival.place.startswith(SURPLUS_PLACE):
        return _S.SURPLUS, arrival.chain_amount
    if not arrival.believed:
        return _S.UNDER_REVIEW, None
    if arrival.contract is None:
        return _S.PENDING, arrival.chain_amount
    match judge(deployment.quirks, told=arrival.chain_amount, came=arrival.came):
        case Verdict.CREDIT:
            return _S.PENDING, arrival.chain_amount if arrival.came is None else arrival.came
        case Verdict.QUARANTINE:
            return _S.QUARANTINED, arrival.came
        case Verdict.NOTHING:
            return _S.NOT_RECEIVED, 0
        case Verdict.WAIT:
            return _S.UNDER_REVIEW, None
        case _ as never:
            assert_never(never)


def _needs_measure(deployment: Deployment) -> bool:
    """Whether a transfer of this token stays under review where nobody can tell what arrived."""
    return judge(deployment.quirks, told=1, came=None) is Verdict.WAIT


def _command(deposit: Deposit, act: str, attempt: int) -> str:
    where = f"{deposit.network}:{deposit.block_hash}:{deposit.tx_hash}:{deposit.place}"
    return worker_id(f"deposit:{where}:v{deposit.version}:{act}", attempt)


def _content(deposit: Deposit, act: str) -> bytes:
    """Of the evidence only: a second worker's id for the same deposit is another one, and that is no conflict."""
    return content_hash([act, *msgspec.structs.astuple(deposit.evidence), deposit.version])


def _posting(deposit: Deposit) -> Posting:
    custody = house_account(f"custody:{deposit.network}:deposit", _asset(deposit))
    return Posting(custody, user_account(deposit.owner, _asset(deposit)), _asset(deposit), deposit.amount or 0)


def _accounts(deposit: Deposit) -> tuple[str, ...]:
    posting = _posting(deposit)
    return posting.debit, set_aside_account(deposit) if deposit.state in SET_ASIDE else posting.credit


def set_aside_account(deposit: Deposit) -> str:
    """The house's account that a deposit which isn't credited by itself is booked to."""
    return house_account(SET_ASIDE[deposit.state], _asset(deposit))


def _asset(deposit: Deposit) -> str:
    if deposit.asset is None:
        raise WalletCorrupt(f"{deposit.id} is booked, but of no asset")
    return deposit.asset


def _entry(deposit: Deposit) -> str:
    if deposit.entry is None:
        raise WalletCorrupt(f"{deposit.id} is {deposit.state}, but nothing is booked for it")
    return deposit.entry
