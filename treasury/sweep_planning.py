"""Which deposit addresses are to be swept: page after page of them, looked at again with each new final block.

What is planned here begins in `treasury.sweeping`. An address has one open sweep at most; tokens go before the coin
that pays their gas.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.ids import new_id
from chain import token_store
from chain.estimates import NATIVE_GAS, TOKEN_GAS
from chain.fees import Market
from chain.networks import Deployment, Network, Registry
from chain.signing import OwnAddress
from chain.status import NetworkStatus
from db.engine import tx
from treasury import sweep_store
from treasury.holdings import Holdings, SweepNode
from treasury.sweep_policy import Holding, SweepRule, SweepTerms, is_due, native_amount, sweepable
from treasury.sweep_states import OPEN
from treasury.sweeps import plan

PAGE = 200
"""Deposit addresses that one step looks at."""

ROUND_SECONDS = 60
"""After so long all are looked at again, even if no block has become final: what lies there grows older."""


class Worth(Protocol):
    """Knows what gas is worth in an asset; None where no fresh rate tells."""

    async def gas_in(self, deployment: Deployment, wei: int) -> int | None:
        """So many wei in the deployment's chain units, rounded up."""
        ...


class SweepPlanner:
    """Plans one network's sweeps."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        network: Network,
        registry: Registry,
        node: SweepNode,
        holdings: Holdings,
        worth: Worth,
        rules: Mapping[str, SweepRule],
        terms: SweepTerms,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """`rules`: by asset; where there is none, or one without a threshold, nothing is swept by itself."""
        self._engine = engine
        self._book = book
        self._network = network
        self._registry = registry
        self._node = node
        self._holdings = holdings
        self._worth = worth
        self._rules = {asset: rule for asset, rule in rules.items() if rule.threshold is not None}
        self._terms = terms
        self._clock = clock
        self._entropy = entropy
        self._after = ""
        self._round: tuple[int, datetime] | None = None

    async def step(self, at: NetworkStatus) -> int:
        """Plan what is due on the next page of addresses; returns how many were planned."""
        now = self._clock.now()
        if not self._rules or not self._is_round(at, now):
            return 0
        deployments = await self._deployments()
        async with tx(self._engine) as connection:
            page = await sweep_store.load_deposit_addresses(
                connection, self._book, self._network, after=self._after, limit=PAGE
            )
            names = [own.address for own in page]
            recorded = await sweep_store.load_recorded(
                connection, self._network.name, addresses=names, through=at.final_height
            )
            there = await sweep_store.unfinished_at(connection, self._book, self._network.name, names)
        busy = {one.address.address for one in there if one.state in OPEN}
        refused = {(one.address.address, one.contract) for one in there}
        wanted = [
            (own, deployment)
            for own in page
            for deployment in deployments
            if own.address not in busy
            and (own.address, deployment.contract) not in refused
            and (own.address, deployment.contract) in recorded
        ]
        planned = await self._plan(at, wanted, recorded, now) if wanted else 0
        if planned < self._terms.per_step:
            self._after = page[-1].address if len(page) == PAGE else ""
            self._round = self._round if self._after else (at.final_height, now)
        return planned

    async def _plan(
        self,
        at: NetworkStatus,
        wanted: list[tuple[OwnAddress, Deployment]],
        recorded: Mapping[sweep_store.Place, sweep_store.Recorded],
        now: datetime,
    ) -> int:
        market = await self._node.market()
        if market.base_fee + max(market.tip, self._network.tip_floor) > self._terms.gas_price_max:
            return 0
        likely = []
        for own, deployment in wanted:
            known = recorded[own.address, deployment.contract]
            all_of_it = Holding(
                recorded=known.amount, at_final=known.amount, now=known.amount, kept_back=0, oldest_at=known.oldest_at
            )
            if await self._due(deployment, all_of_it, market, now):
                likely.append((own, deployment))
        planned, taken = 0, set[str]()
        for start in range(0, len(likely), self._terms.per_step):
            part = likely[start : start + self._terms.per_step]
            places = [(own.address, deployment.contract) for own, deployment in part]
            holdings = await self._holdings.measure(self._network, at, places)
            for (own, deployment), place in zip(part, places, strict=True):
                holding = holdings.get(place)
                if planned == self._terms.per_step or own.address in taken or holding is None:
                    continue
                if await self._due(deployment, holding, market, now):
                    taken.add(own.address)
                    sweep = plan(own, deployment, id=new_id("swp", self._clock, self._entropy), clock=self._clock)
                    async with tx(self._engine) as connection:
                        planned += await sweep_store.insert_sweep(connection, self._book, sweep)
            if planned == self._terms.per_step:
                break
        return planned

    async def _due(self, deployment: Deployment, holding: Holding, market: Market, now: datetime) -> bool:
        gas = NATIVE_GAS if deployment.contract is None else TOKEN_GAS + NATIVE_GAS
        wei = gas * (market.base_fee + max(market.tip, self._network.tip_floor))
        amount = sweepable(holding) if deployment.contract else native_amount(holding, fee_wei=2 * wei)
        cost = await self._worth.gas_in(deployment, wei)
        return is_due(amount, self._rules[deployment.asset], oldest_at=holding.oldest_at, gas_cost=cost, now=now)

    def _is_round(self, at: NetworkStatus, now: datetime) -> bool:
        if self._after or self._round is None:
            return True
        height, since = self._round
        return at.final_height > height or now - since >= timedelta(seconds=ROUND_SECONDS)

    async def _deployments(self) -> list[Deployment]:
        """Those with a rule that nothing stops; the native coin last."""
        found = [one for one in self._registry.on(self._network.name) if one.asset in self._rules]
        async with tx(self._engine) as connection:
            doubts = [await token_store.doubt(connection, self._network.name, one.contract) for one in found]
        trusted = [one for one, doubt in zip(found, doubts, strict=True) if doubt is None]
        return sorted(trusted, key=lambda one: one.contract is None)
