"""Deposits: what arrives at users' addresses becomes theirs, once, and is taken back if its block leaves the chain.

Seen: a hold. Spendable deep: settled. Its block orphaned: voided, or taken back where it was credited. The same
transfer in another block is a new version of the deposit. What nobody can be credited for is recorded all the same.
Addresses are in `wallet.deposit_addresses`; sweeping them is the treasury's.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from chain.networks import Network, Registry, to_ledger_units
from chain.status import NetworkStatus
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.asking import work
from ledger.commands import Group, Hold, Post, Posting, Settle, Void, alone
from ledger.engine import Ledger
from ledger.requests import content_hash, worker_id
from ledger.riders import Advance, Insert
from wallet import store
from wallet.errors import WalletCorrupt
from wallet.receivables import receivable_account
from wallet.resources import Deposit, DepositState
from wallet.store import Arrival
from wallet.tables import deposits

BATCH = 200
"""Deposits that one step moves at most, per kind of move."""

SUSPENSE = "suspense"

_S = DepositState


class Deposits:
    """Turns the follower's observations into entries, and shows users what became of them."""

    def __init__(
        self, engine: AsyncEngine, *, ledger: Ledger, registry: Registry, clock: Clock, entropy: Entropy
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._clock = clock
        self._entropy = entropy
        self._done_through: dict[str, int] = {}
        """Per network, the final height up to which every arrival is recorded; only saves looking again."""

    async def get(self, owner: str, deposit: str) -> Deposit:
        """The user's deposit with this id. Raises NotFound, also for somebody else's."""
        async with tx(self._engine) as connection:
            found = await store.load_deposit(connection, self._ledger.book, deposit)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no deposit {deposit[:40]!r}", param="deposit")
        return found

    async def list_for(
        self, owner: str, *, before: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[Deposit]:
        """The user's deposits, newest first (oldest first with `after`); `before` and `after` are ids."""
        async with tx(self._engine) as connection:
            return await store.list_deposits(
                connection, self._ledger.book, owner, before=before, after=after, limit=limit
            )

    async def step(self) -> int:
        """Do what the chain's record asks for now, a bounded piece; returns how many deposits moved.

        What left the chain comes first, so that a transfer that was mined again finds its earlier version ended.
        """
        moved = 0
        for network in self._registry.networks.values():
            async with tx(self._engine) as connection:
                at = await store.load_status(connection, network)
            if at is not None:
                moved += await self._take_back(network)
                moved += await self._record(network, at)
                moved += await self._credit(network, at)
                moved += await self._finish(network, at)
        return moved

    # The four moves

    async def _take_back(self, network: Network) -> int:
        book, now = self._ledger.book, self._clock.now()
        async with tx(self._engine) as connection:
            gone = await store.load_vanished(connection, book, network.name, limit=BATCH)
            unbooked = [deposit for deposit in gone if deposit.entry is None]
            await store.mark_orphaned(connection, book, unbooked, now=now)
        booked = [deposit for deposit in gone if deposit.entry is not None]
        owing = {receivable_account(deposit.owner, deposit.asset) for deposit in booked if deposit.asset}
        await self._ledger.ensure_open(*sorted(owing))
        return len(unbooked) + await self._submit([partial(self._undo, deposit) for deposit in booked])

    async def _record(self, network: Network, at: NetworkStatus) -> int:
        book = self._ledger.book
        if at.halted:  # what was final isn't: nothing known of it counts any more
            self._done_through.pop(network.name, None)
        above = self._done_through.get(network.name, -1)
        async with tx(self._engine) as connection:
            # Asked first: another worker may end a ghost in between, and what it hid would seem recorded.
            ghosts = await store.load_vanished(connection, book, network.name, limit=1)
            arrivals = await store.load_arrivals(connection, book, network.name, above=above, limit=BATCH)
            seen = [await self._deposit(arrival) for arrival in arrivals]
            unbooked = [deposit for deposit in seen if deposit.state is not _S.PENDING]
            await store.insert_deposits(connection, book, unbooked)
        pending = [deposit for deposit in seen if deposit.state is _S.PENDING]
        await self._ledger.ensure_open(*sorted({account for deposit in pending for account in _accounts(deposit)}))
        moved = len(unbooked) + await self._submit([partial(self._hold, deposit) for deposit in pending])
        if len(arrivals) == moved < BATCH and not ghosts and not at.halted:
            self._done_through[network.name] = at.final_height
        return moved

    async def _credit(self, network: Network, at: NetworkStatus) -> int:
        if at.halted:
            return 0
        async with tx(self._engine) as connection:
            ripe = await store.load_ripe(
                connection, self._ledger.book, network.name, state=_S.PENDING, through=at.spendable_height, limit=BATCH
            )
        return await self._submit([partial(self._settle, deposit) for deposit in ripe])

    async def _finish(self, network: Network, at: NetworkStatus) -> int:
        book, now = self._ledger.book, self._clock.now()
        async with tx(self._engine) as connection:
            finished = await store.mark_final(connection, book, network.name, through=at.final_height, now=now)
            dust = await store.load_ripe(
                connection, book, network.name, state=_S.BELOW_MINIMUM, through=at.final_height, limit=BATCH
            )
        await self._ledger.ensure_open(*sorted({account for deposit in dust for account in _accounts(deposit)}))
        return finished + await self._submit([partial(self._to_suspense, deposit) for deposit in dust])

    async def _submit(self, makers: list[Callable[[int], Group]]) -> int:
        refusals = await work(self._ledger, *makers)
        return refusals.count(None)

    async def _deposit(self, arrival: Arrival) -> Deposit:
        """What an arrival is: a deposit of a known asset, too little of one, or a token that nobody named."""
        deployment = self._registry.by_contract(arrival.network, arrival.contract)
        amount, state = None, _S.UNKNOWN_TOKEN
        if deployment is not None:
            asset = await self._ledger.asset(deployment.asset)
            amount = to_ledger_units(arrival.chain_amount, deployment, scale=asset.scale)
            state = _S.PENDING if amount >= deployment.deposit_minimum else _S.BELOW_MINIMUM
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
        row = store.deposit_values(replace(deposit, entry=name))
        return alone(
            Hold(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(_posting(deposit),)),
            Insert(deposits.name, store.deposit_key(self._ledger.book, deposit), row),
            content=_content(deposit, "seen"),
        )

    def _settle(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "credit", attempt)
        command = Settle(id=name, subject=deposit.id, evidence=deposit.evidence, hold=_entry(deposit), close=True)
        return alone(command, self._to(deposit, _S.CREDITED))

    def _to_suspense(self, deposit: Deposit, attempt: int) -> Group:
        name = _command(deposit, "suspense", attempt)
        posting = msgspec.structs.replace(_posting(deposit), credit=house_account(SUSPENSE, _asset(deposit)))
        command = Post(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(posting,))
        return alone(command, self._to(deposit, _S.BELOW_MINIMUM, entry=name))

    def _undo(self, deposit: Deposit, attempt: int) -> Group:
        """Void what was held; take back what was credited, and what the user has spent of it becomes a receivable."""
        if deposit.state is _S.PENDING:
            name = _command(deposit, "void", attempt)
            void = Void(id=name, subject=deposit.id, evidence=deposit.evidence, hold=_entry(deposit))
            return alone(void, self._to(deposit, _S.ORPHANED))
        booked, owner = _posting(deposit), receivable_account(deposit.owner, _asset(deposit))
        back = Posting(booked.credit, booked.debit, booked.asset, booked.amount, debit_rest=owner)
        if deposit.state is _S.BELOW_MINIMUM:
            back = Posting(house_account(SUSPENSE, booked.asset), booked.debit, booked.asset, booked.amount)
        name = _command(deposit, "reverse", attempt)
        post = Post(id=name, subject=deposit.id, evidence=deposit.evidence, postings=(back,))
        return alone(post, self._to(deposit, _S.REVERSED))

    def _to(self, deposit: Deposit, state: DepositState, *, entry: str | None = None) -> Advance:
        change: dict[str, object] = {"state": state.value, "updated_at": self._clock.now()}
        if entry is not None:
            change["entry"] = entry
        key = store.deposit_key(self._ledger.book, deposit)
        return Advance(deposits.name, key, {"state": deposit.state.value, "entry": deposit.entry}, change)


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
    return posting.debit, posting.credit, house_account(SUSPENSE, posting.asset)


def _asset(deposit: Deposit) -> str:
    if deposit.asset is None:
        raise WalletCorrupt(f"{deposit.id} is booked, but of no asset")
    return deposit.asset


def _entry(deposit: Deposit) -> str:
    if deposit.entry is None:
        raise WalletCorrupt(f"{deposit.id} is {deposit.state}, but nothing is booked for it")
    return deposit.entry
