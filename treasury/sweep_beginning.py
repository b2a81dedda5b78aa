"""Beginning a sweep: measured, tried at a node, then reserved, authorised, or given gas first, whatever it takes.

What is begun is on record before the signer is asked, and what is reserved commits with the sweep's state. Each
beginning is another subject to the signer. Following it to its end is `treasury.sweeping`'s.
"""

from dataclasses import dataclass, replace
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from chain import foreign_store, token_store, transactions
from chain.authorisations import Authorisation, Authorisations
from chain.checkpoints import Checkpoint
from chain.fees import FeeEstimate
from chain.networks import Deployment, Network, Registry
from chain.signing import Carry, OwnAddress
from chain.status import NetworkStatus
from chain.transaction_states import Kind, State
from chain.transactions import Payment
from db.engine import tx
from ledger.asking import stopping
from ledger.engine import Ledger
from treasury import sweep_entries as entries
from treasury import sweep_store
from treasury.holdings import Holdings, SweepNode
from treasury.sweep_policy import Holding, SweepTerms, native_amount, sweepable, top_up
from treasury.sweep_records import Move, Sweep
from treasury.sweep_rows import SweepRows
from treasury.sweep_states import Method, MoveKind, MoveState, SweepState

VALID_SECONDS = 3_000
"""How long an authorisation is good: less than the hour that the signer allows, since clocks differ."""

_S = SweepState


class Fees(Protocol):
    """Knows what payments would cost, and tries them; the chain's estimates do."""

    async def estimate(self, deployment: Deployment, *, sender: str, to: str, amount: int) -> FeeEstimate | None:
        """The cost of a payment; None while gas is above the cap. Raises PaymentRefused, Unavailable."""
        ...

    async def carry(
        self, deployment: Deployment, order: Carry, *, sender: str, to: str, amount: int
    ) -> FeeEstimate | None:
        """The cost of carrying an authorisation. Raises PaymentRefused, Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class House:
    """The two addresses of the house that every sweep needs."""

    hot: OwnAddress
    gas: OwnAddress


class SweepBeginning:
    """Begins sweeps on one network."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        network: Network,
        registry: Registry,
        node: SweepNode,
        fees: Fees,
        holdings: Holdings,
        authorisations: Authorisations,
        rows: SweepRows,
        terms: SweepTerms,
        clock: Clock,
        entropy: Entropy,
        checkpoint: Checkpoint,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._network = network
        self._registry = registry
        self._native = registry.by_asset(network.name, network.native_asset)
        self._node = node
        self._fees = fees
        self._holdings = holdings
        self._authorisations = authorisations
        self._rows = rows
        self._terms = terms
        self._clock = clock
        self._entropy = entropy
        self._checkpoint = checkpoint

    async def begin(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool:
        """Measure, try without signing, and reserve, authorise or bring gas: whatever it takes first."""
        deployment = self._registry.by_contract(sweep.network, sweep.contract)
        if deployment is None:
            return await self._rows.refused(sweep, "no [[deployments]] names its token any more")
        if (why := await self._stopped(sweep, deployment, house)) is not None:
            return await self._rows.wait(sweep, "approval", why)
        market = await self._node.market()
        if market.base_fee + max(market.tip, self._network.tip_floor) > self._terms.gas_price_max:
            return await self._rows.wait(
                sweep, "fee", f"gas costs more than the {self._terms.gas_price_max} wei allowed"
            )
        own, native = (sweep.address.address, sweep.contract), (sweep.address.address, None)
        held = await self._holdings.measure(self._network, at, list(dict.fromkeys((own, native))))
        if own not in held:
            return await self._rows.wait(sweep, "node", "no block is final yet")
        amount = sweepable(held[own])
        if not amount:
            return await self._rows.drop(sweep, "nothing is left that may leave")
        cost = await self._cost(deployment, sweep, house, amount if sweep.contract else 1)
        if cost is None:
            return await self._rows.wait(sweep, "fee", "gas is above the network's cap")
        is_authorised = deployment.domain is not None
        method = Method.AUTHORISATION if is_authorised else Method.TRANSFER
        begun = replace(sweep, number=sweep.number + 1, chain_amount=amount, method=method)
        if sweep.contract is None:
            return await self._begin_native(sweep, begun, held[own], cost, house)
        if is_authorised:
            until = int(self._clock.now().timestamp()) + VALID_SECONDS
            return await self._rows.set(
                sweep, _S.AUTHORISING, **await self._rows.terms(replace(begun, valid_before=until))
            )
        return await self._begin_token(sweep, begun, held[native], cost, house)

    async def _begin_native(self, sweep: Sweep, begun: Sweep, held: Holding, cost: FeeEstimate, house: House) -> bool:
        """Its own gas is left there; what isn't used of it stays as dust."""
        fee = cost.gas_limit * cost.bid.max_fee_per_gas
        amount = native_amount(held, fee_wei=fee)
        if not amount:
            return await self._rows.drop(sweep, "what is there doesn't pay its own gas")
        begun = replace(begun, chain_amount=amount, gas_limit=cost.gas_limit, fee_wei_max=fee)
        return await self._reserve_sweep(sweep, begun, house)

    async def _begin_token(self, sweep: Sweep, begun: Sweep, coins: Holding, cost: FeeEstimate, house: House) -> bool:
        """By the address's own transaction; what it lacks for gas is brought first, once."""
        begun = replace(begun, gas_limit=cost.gas_limit, fee_wei_max=cost.highest_wei)
        lacking = top_up(coins, fee_wei=cost.highest_wei)
        if not lacking:
            return await self._reserve_sweep(sweep, begun, house)
        gas = await self._fees.estimate(
            self._native, sender=house.gas.address, to=sweep.address.address, amount=lacking
        )
        if gas is None:
            return await self._rows.wait(sweep, "fee", "gas is above the network's cap")
        payment = self._payment(
            begun, Kind.GAS_TOPUP, begun.top_up, house.gas, sweep.address, None, lacking, gas.gas_limit, gas.highest_wei
        )
        async with tx(self._engine) as connection:
            if await sweep_store.topping_up(connection, self._ledger.book, sweep.network, sweep.address.address):
                return False  # one is on its way there already
            return await self._reserve(connection, sweep, begun, _S.TOPPING_UP, MoveKind.TOP_UP, payment)

    async def topped_up(self, sweep: Sweep, at: NetworkStatus, house: House) -> bool:
        """Once the gas is there and deep enough to be spent, the token is tried once more, and the sweep reserved."""
        async with tx(self._engine) as connection:
            own = await transactions.find(connection, book=self._ledger.book, subject=sweep.top_up)
            refusal = await sweep_store.load_refusal(connection, self._ledger.book, sweep.top_up)
        if own is None:
            return await self._rows.refused(sweep, f"its gas wasn't signed: {refusal}")
        match own.state:
            case State.FINAL:
                pass
            case State.MINED if own.mined and own.mined.block_number <= at.spendable_height and own.mined.succeeded:
                pass
            case State.REVERTED | State.CANCELLED | State.NEEDS_REVIEW:
                return await self._rows.refused(sweep, f"its gas top-up {own.id} is {own.state}")
            case _:
                return await self._rows.wait(sweep, own.waiting_for, own.refusal)
        deployment = self._registry.by_contract(sweep.network, sweep.contract)
        if deployment is None or sweep.chain_amount is None:
            return await self._rows.refused(sweep, "no [[deployments]] names its token any more")
        if (why := await self._stopped(sweep, deployment, house)) is not None:
            return await self._rows.wait(sweep, "approval", why)
        await self._cost(deployment, sweep, house, sweep.chain_amount)  # raises where the token refuses by now
        return await self._reserve_sweep(sweep, sweep, house)

    async def carry(self, sweep: Sweep, house: House) -> bool:
        """Have it authorised, and reserve the relay by which the gas address carries it."""
        deployment = self._registry.by_contract(sweep.network, sweep.contract)
        if deployment is None or deployment.domain is None or deployment.contract is None:
            return await self._rows.refused(sweep, "no domain is configured for its token any more")
        if (why := await self._stopped(sweep, deployment, house)) is not None:
            return await self._rows.wait(sweep, "approval", why)
        assert sweep.chain_amount is not None
        assert sweep.valid_before is not None
        given = await self._authorisations.obtain(
            Authorisation(
                network=sweep.network,
                chain_id=self._network.chain_id,
                book=self._ledger.book,
                subject=sweep.subject,
                owner=sweep.address,
                contract=deployment.contract,
                domain_name=deployment.domain.name,
                domain_version=deployment.domain.version,
                to=house.hot,
                amount=sweep.chain_amount,
                valid_before=sweep.valid_before,
            )
        )
        assert given.signature is not None
        order = Carry(given.subject, given.owner, given.valid_before, given.signature)
        cost = await self._fees.carry(
            deployment, order, sender=house.gas.address, to=house.hot.address, amount=given.amount
        )
        if cost is None:
            return await self._rows.wait(sweep, "fee", "gas is above the network's cap")
        begun = replace(sweep, gas_limit=cost.gas_limit, fee_wei_max=cost.highest_wei)
        payment = self._payment(
            begun,
            Kind.SWEEP,
            begun.relay,
            house.gas,
            house.hot,
            sweep.contract,
            given.amount,
            cost.gas_limit,
            cost.highest_wei,
        )
        payment = replace(payment, order=order)
        async with tx(self._engine) as connection:
            return await self._reserve(connection, sweep, begun, _S.RESERVED, MoveKind.RELAY, payment)

    async def _reserve_sweep(self, sweep: Sweep, begun: Sweep, house: House) -> bool:
        assert begun.chain_amount is not None
        assert begun.gas_limit is not None
        assert begun.fee_wei_max is not None
        payment = self._payment(
            begun,
            Kind.SWEEP,
            begun.subject,
            begun.address,
            house.hot,
            begun.contract,
            begun.chain_amount,
            begun.gas_limit,
            begun.fee_wei_max,
        )
        async with tx(self._engine) as connection:
            return await self._reserve(connection, sweep, begun, _S.RESERVED, MoveKind.SWEEP, payment)

    async def _reserve(
        self,
        connection: AsyncConnection,
        sweep: Sweep,
        begun: Sweep,
        to: SweepState,
        kind: MoveKind,
        payment: Payment,
    ) -> bool:
        """State, move and nonce commit together, so that who is killed here has done all or nothing."""
        change = await self._rows.terms(begun)
        if not await self._rows.change(connection, sweep, to, **change):
            return False
        move = Move(
            id=payment.subject,
            kind=kind,
            state=MoveState.UNDER_WAY,
            sweep=sweep.id,
            network=sweep.network,
            address=sweep.address.address,
            chain_amount=payment.amount,
            created_at=self._clock.now(),
        )
        await sweep_store.insert_move(connection, self._ledger.book, move)
        await transactions.reserve(connection, payment, clock=self._clock, entropy=self._entropy)
        self._checkpoint.reached("sweep.reserving")
        return True

    async def _cost(self, deployment: Deployment, sweep: Sweep, house: House, amount: int) -> FeeEstimate | None:
        """What a plain transfer would cost; tried at a node, it raises PaymentRefused where the token refuses."""
        return await self._fees.estimate(deployment, sender=sweep.address.address, to=house.hot.address, amount=amount)

    async def _stopped(self, sweep: Sweep, deployment: Deployment, house: House) -> str | None:
        """Why nothing of it may move now: a freeze, a token under review, or a halted address.

        Whoever made one of its addresses act without us would get what comes there.
        """
        roles = [entries.custody(sweep.network, role, sweep.asset) for role in ("deposit", "hot")]
        if stopping(await self._ledger.freezes(), *roles):
            return "frozen"
        async with tx(self._engine) as connection:
            doubt = await token_store.doubt(connection, sweep.network, deployment.contract)
            halted = await foreign_store.halted_senders(connection, sweep.network)
        touched = (sweep.address.address, house.hot.address, house.gas.address)
        if (under_review := next((one for one in touched if one in halted), None)) is not None:
            return f"{under_review} did something without us: {halted[under_review]}"
        return None if doubt is None else f"{sweep.asset} is under review: {doubt}"

    def _payment(
        self,
        sweep: Sweep,
        kind: Kind,
        subject: str,
        sender: OwnAddress,
        to: OwnAddress,
        contract: str | None,
        amount: int,
        gas_limit: int,
        fee_wei_max: int,
    ) -> Payment:
        return Payment(
            network=sweep.network,
            kind=kind,
            book=self._ledger.book,
            subject=subject,
            sender=sender,
            contract=contract,
            to=to,
            amount=amount,
            gas_limit=gas_limit,
            fee_wei_max=fee_wei_max,
        )
