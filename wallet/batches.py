"""Gathers approved withdrawals of one asset into batches, each paid by one transaction through the payout contract.

One tx writes the batch, its legs, their withdrawals' states, and reserves the transactions in the order of their
nonces: for a token what the contract may take, exactly the sum, and then the batch. What can't share a transaction, or
finds no company, is left to be paid alone. What becomes of a batch is `wallet.batch_ends`'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from chain import payout_contract, token_store, transactions
from chain import signing as chain
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.evm.node import Node
from chain.networks import Deployment, Registry
from chain.payout import ALLOWANCE_GAS
from chain.payout_contract import PayoutContract
from chain.senders import Lacking, Senders, Wanted
from chain.signing import Allow
from chain.status import status_if_followed
from chain.transaction_states import Kind
from chain.transactions import Payment
from db.engine import tx
from ledger.asking import contents_of, stopping
from ledger.engine import Ledger
from wallet import batch_rules as rules
from wallet import batch_store, withdrawal_store
from wallet import withdrawal_entries as entries
from wallet.batch_rules import Terms
from wallet.batch_store import Waiting
from wallet.resources import Batch, BatchState, Withdrawal
from wallet.withdrawal_states import WithdrawalState

LOOKED_AT = 4
"""So many times the legs of a batch are looked at, since some may be frozen."""

FEW = "too few others waited"
REFUSES = "its recipient or the token would refuse it now, as one of many"
UNUSED = "its recipient holds nothing yet: a contract pays 25,000 gas more for that"
GAS = "its recipient may need more gas than the payout contract hands on"
OURS = "it goes to an address of ours, or to the contract that would pay it"

ALLOWS, TAKES_BACK = "alw", "alz"
"""How the subjects of a batch's allowances begin; what follows is as in its own id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gatherer:
    """What batches of one network are made with: how, through which contract, and a node to ask."""

    terms: Terms
    contract: PayoutContract
    node: Node


class Batches:
    """Makes batches. One for all steps of a process: `kept` knows what `step` found."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        registry: Registry,
        gatherers: Mapping[str, Gatherer],
        senders: Senders,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """`gatherers`: by network; on the others everything is paid alone. `senders` choose who pays.

        `checkpoint` is told `batch.gathered`, `batch.reserving` (within the tx) and `batch.reserved`.
        """
        self._engine = engine
        self._ledger = ledger
        self._registry = registry
        self._gatherers = dict(gatherers)
        self._senders = senders
        self._clock = clock
        self._entropy = entropy
        self._checkpoint = checkpoint or NoCheckpoint()
        self._found: dict[str, tuple[int, bool]] = {}
        """By network, the epoch in which a final block was last looked at, and whether the code was there."""
        self._short: set[tuple[str, str]] = set()
        """Network and asset of which no sender had enough for a whole batch: what there is pays one by one."""

    async def step(self) -> int:
        """Make what batches are due; returns how many withdrawals were decided on.

        Raises NodeUnavailable, NodeMisbehaved when a node must be asked and can't be: what waits goes on waiting.
        """
        return sum([await self._on(network, gatherer) for network, gatherer in self._gatherers.items()])

    async def kept(self, found: Sequence[Withdrawal]) -> frozenset[str]:
        """Ids of those of `found` that aren't to be paid alone now: they wait for company, or are in it already."""
        approved = [one for one in found if one.state is WithdrawalState.APPROVED and one.cancelling is None]
        asked = [one for one in approved if self._may_share(one)]
        if not asked:
            return frozenset()
        freezes = await self._ledger.freezes()
        waiting: dict[str, dict[str, Waiting] | None] = {}
        async with tx(self._engine) as connection:
            for network in {one.network for one in asked}:
                stands = await self._stands(connection, network)
                if stands is None:
                    waiting[network] = None
                elif stands:
                    waiting[network] = await batch_store.load_waiting(connection, self._ledger.book, network)
            places = {(one.network, one.asset) for one in asked}
            doubted = {place for place in places if await self._doubted(connection, *place)}
            alone = await batch_store.load_alone(connection, self._ledger.book, [one.id for one in asked])
        now = self._clock.now()
        return frozenset(
            one.id
            for one in asked
            if one.id not in alone
            and one.network in waiting
            and (one.network, one.asset) not in doubted
            and not stopping(freezes, *entries.paying(one))
            and self._waits(one, waiting[one.network], now)
        )

    def _waits(self, withdrawal: Withdrawal, waiting: Mapping[str, Waiting] | None, now: datetime) -> bool:
        """`waiting`: by asset; None as long as nobody has looked whether the contract stands."""
        terms = self._gatherers[withdrawal.network].terms
        if waiting is None:
            count = terms.legs_min
        else:
            count = waiting[withdrawal.asset].count if withdrawal.asset in waiting else 0
        return rules.waits(terms, waiting=count, age=now - withdrawal.created_at)

    def _may_share(self, withdrawal: Withdrawal) -> bool:
        if withdrawal.network not in self._gatherers or (withdrawal.network, withdrawal.asset) in self._short:
            return False
        return rules.may_share(self._registry.by_asset(withdrawal.network, withdrawal.asset), withdrawal)

    async def _stands(self, connection: AsyncConnection, network: str) -> bool | None:
        """Whether batches can be made there now; None if that isn't known yet."""
        at = await status_if_followed(connection, self._registry.network(network))
        if at is None or at.halted:
            return False
        epoch, stands = self._found.get(network, (None, False))
        return stands if epoch == at.epoch else None

    async def _doubted(self, connection: AsyncConnection, network: str, asset: str) -> bool:
        contract = self._registry.by_asset(network, asset).contract
        return await token_store.doubt(connection, network, contract) is not None

    # Gathering

    async def _on(self, network: str, gatherer: Gatherer) -> int:
        async with tx(self._engine) as connection:
            at = await status_if_followed(connection, self._registry.network(network))
            final = None if at is None else await batch_store.load_final_hash(connection, at)
            waiting = await batch_store.load_waiting(connection, self._ledger.book, network)
        if at is None or at.halted or final is None:
            return 0
        if self._found.get(network) != (at.epoch, True):
            stands = await payout_contract.stands(gatherer.node, gatherer.contract.address, block=final)
            self._found[network] = (at.epoch, stands)
            if not stands:
                return 0
        decided = 0
        for deployment in self._registry.on(network):
            some = waiting.get(deployment.asset)
            if some is not None and some.since is not None:
                oldest = self._clock.now() - some.since
                if rules.due(gatherer.terms, waiting=some.count, oldest=oldest):
                    decided += await self._gather(gatherer, deployment, oldest, final)
        return decided

    async def _gather(self, gatherer: Gatherer, deployment: Deployment, oldest: timedelta, final: str) -> int:
        """One batch of those that wait longest; who can't share it is paid alone."""
        network, asset, most = deployment.network, deployment.asset, gatherer.terms.legs_max
        freezes = await self._ledger.freezes()
        async with tx(self._engine) as connection:
            if await self._must_wait(connection, deployment):
                return 0
            found = await batch_store.load_candidates(
                connection, self._ledger.book, network, asset, limit=LOOKED_AT * most
            )
            free = [one for one in found if not stopping(freezes, *entries.paying(one))][:most]
            ours = await batch_store.load_own_among(connection, {one.address for one in free})
        sender = await self._sender(gatherer, deployment, free) if free else None
        if sender is None:
            return 0
        unfit = await self._unfit(gatherer, deployment, free, sender=sender.address, ours=ours, final=final)
        legs = [one for one in free if one.id not in unfit]
        if len(legs) < gatherer.terms.legs_min:
            few = oldest >= gatherer.terms.wait
            unfit |= {one.id: FEW for one in legs} if few else {}
            legs = []
        async with tx(self._engine) as connection:
            await batch_store.pay_alone(connection, self._ledger.book, unfit, now=self._clock.now())
        self._checkpoint.reached("batch.gathered")
        return len(unfit) + (await self._make(gatherer, deployment, legs, sender) if legs else 0)

    async def _sender(
        self, gatherer: Gatherer, deployment: Deployment, legs: Sequence[Withdrawal]
    ) -> chain.OwnAddress | None:
        """Who can pay these together, allowances included; None while nobody can, or all who can have enough to do."""
        price, is_coin = rules.price_max(legs), deployment.contract is None
        gas = rules.gas_limit(legs, native=is_coin) + (0 if is_coin else 2 * ALLOWANCE_GAS)
        wanted = Wanted(
            contract=deployment.contract,
            to=gatherer.contract.address,
            amount=sum(leg.chain_amount for leg in legs),
            gas_limit=gas,
            fee_wei_max=gas * price,
        )
        place = deployment.network, deployment.asset
        match await self._senders.choose(deployment.network, [wanted]):
            case [chain.OwnAddress() as own]:
                self._short.discard(place)
                return own
            case [Lacking()]:
                self._short.add(place)
        return None

    async def _must_wait(self, connection: AsyncConnection, deployment: Deployment) -> bool:
        """Whether nothing of this asset may be gathered now: it's doubted, or a batch's allowance is in use."""
        network, asset = deployment.network, deployment.asset
        if deployment.contract is None:
            return False
        if await self._doubted(connection, network, asset):
            return True
        return await batch_store.is_unmined(connection, self._ledger.book, network, asset)

    async def _unfit(
        self,
        gatherer: Gatherer,
        deployment: Deployment,
        found: Sequence[Withdrawal],
        *,
        sender: str,
        ours: set[str],
        final: str,
    ) -> dict[str, str]:
        """Why each of these can't share a transaction, of those that can't."""
        via, contract = gatherer.contract.address, deployment.contract
        reasons: dict[str, str] = {}
        for one in found:
            if one.address == via or (contract is None and one.address in ours):
                reasons[one.id] = OURS
            elif not rules.may_share(deployment, one):
                reasons[one.id] = GAS
        if contract is None:
            whom = sorted({one.address for one in found})
            new = await payout_contract.unused(gatherer.node, whom, block=final)
            reasons |= {one.id: UNUSED for one in found if one.address in new and one.id not in reasons}
        rest = [one for one in found if one.id not in reasons]
        failing = await payout_contract.unfit(gatherer.node, legs_of(rest), contract=contract, sender=sender)
        return reasons | {rest[place].id: REFUSES for place in failing}

    # Making

    async def _make(
        self, gatherer: Gatherer, deployment: Deployment, wanted: Sequence[Withdrawal], sender: chain.OwnAddress
    ) -> int:
        """The batch of those that are still approved and that nobody else takes; how many there are."""
        via = gatherer.contract.address
        left_over = 0
        if deployment.contract is not None:
            left_over = await payout_contract.allowance(
                gatherer.node, deployment.contract, owner=sender.address, spender=via
            )
        contents = await contents_of(self._ledger, (one.hold for one in wanted))
        async with tx(self._engine) as connection:
            await batch_store.lock_gathering(connection, self._ledger.book, deployment.network, deployment.asset)
            if not await self._stands(connection, deployment.network):
                return 0
            if await self._must_wait(connection, deployment):
                return 0
            free = await batch_store.lock_approved(connection, self._ledger.book, [one.id for one in wanted])
            legs = [one for one in wanted if one.id in free]
            if len(legs) < gatherer.terms.legs_min:
                return 0
            batch, ids = self._batch(deployment, via, legs), [one.id for one in legs]
            await batch_store.insert_batch(connection, self._ledger.book, batch, ids)
            await withdrawal_store.change_withdrawals(
                connection, self._ledger.book, ids, expect=WithdrawalState.APPROVED, change=self._reserved()
            )
            payments = _payments(
                batch, legs, book=self._ledger.book, sender=sender, left_over=left_over, contents=contents
            )
            await transactions.reserve_all(connection, payments, clock=self._clock, entropy=self._entropy)
            self._checkpoint.reached("batch.reserving")
        self._checkpoint.reached("batch.reserved")
        return len(legs)

    def _batch(self, deployment: Deployment, via: str, legs: Sequence[Withdrawal]) -> Batch:
        now = self._clock.now()
        return Batch(
            id=new_id("bat", self._clock, self._entropy),
            network=deployment.network,
            asset=deployment.asset,
            contract=deployment.contract,
            via=via,
            state=BatchState.OPEN,
            outcome=None,
            amount=sum(leg.chain_amount for leg in legs),
            cost_wei=None,
            created_at=now,
            updated_at=now,
        )

    def _reserved(self) -> dict[str, object]:
        state = WithdrawalState.NONCE_RESERVED
        fresh = {"waiting_for": None, "reason": None, "updated_at": self._clock.now()}
        return {"state": state.value, "cancellable": False, **fresh}


def allowance_subjects(batch: str) -> tuple[str, str]:
    """The subjects of a batch's allowances: the one that takes back what an earlier one left, and its own."""
    tail = batch.partition("_")[2]
    return f"{TAKES_BACK}_{tail}", f"{ALLOWS}_{tail}"


def legs_of(
    withdrawals: Sequence[Withdrawal], contents: Mapping[str, bytes | None] | None = None
) -> tuple[chain.Leg, ...]:
    """The legs that pay these withdrawals, in order, with whose they are. `contents`: by hold, what was requested."""
    asked = contents or {}
    return tuple(
        chain.Leg(one.id, one.address, one.chain_amount, entries.claims(one, content=asked.get(one.hold)))
        for one in withdrawals
    )


def _payments(
    batch: Batch,
    legs: Sequence[Withdrawal],
    *,
    book: str,
    sender: chain.OwnAddress,
    left_over: int,
    contents: Mapping[str, bytes | None],
) -> list[Payment]:
    """What carries a batch out, in the order of nonces. What is left of an older allowance is taken back first."""
    price = rules.price_max(legs)
    gas = rules.gas_limit(legs, native=batch.contract is None)
    paying = Payment(
        network=batch.network,
        kind=Kind.BATCH,
        book=book,
        subject=batch.id,
        sender=sender,
        contract=batch.contract,
        to=batch.via,
        amount=batch.amount,
        gas_limit=gas,
        fee_wei_max=gas * price,
        order=chain.Batch(legs_of(legs, contents)),
    )
    if batch.contract is None:
        return [paying]
    takes_back, allows = allowance_subjects(batch.id)
    wanted = [(takes_back, 0)] if left_over else []
    before = [
        Payment(
            network=batch.network,
            kind=Kind.ALLOWANCE,
            book=book,
            subject=subject,
            sender=sender,
            contract=batch.contract,
            to=batch.via,
            amount=amount,
            gas_limit=ALLOWANCE_GAS,
            fee_wei_max=ALLOWANCE_GAS * price,
            order=Allow(batch.id),
        )
        for subject, amount in [*wanted, (allows, batch.amount)]
    ]
    return [*before, paying]
