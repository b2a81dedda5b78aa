"""What a payment would cost now, asked of a node before anything is promised or reserved."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from base.clock import Clock
from chain.errors import InsufficientFunds, NodeRefused, PaymentRefused, Reverted
from chain.evm.node import Node
from chain.evm.signed import transfer_call
from chain.fees import GAS_MARGIN_PERCENT, FeeEstimate, Market, estimate
from chain.networks import Deployment
from chain.orders import called
from chain.signing import Anchor, Carry

TOKEN_GAS = 100_000
"""Gas limit for a token transfer that can't be tried now (the sender lacks funds): about twice what tokens take."""

NATIVE_GAS = 60_000
"""The same for the native coin: enough for an ordinary receiving contract; an ordinary address takes 21,000."""

ANCHOR_GAS = 24_000
"""What writing 32 bytes takes where it can't be tried now: 22,280 at most, at an address without code (EIP-7623)."""


MARKET_FRESH = timedelta(seconds=1)
"""How long a market that was read serves other estimates: they promise far more than it can move meanwhile."""


class NetworkFees:
    """Estimates on every network, by one node each."""

    def __init__(self, nodes: Mapping[str, Node], *, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._markets: dict[str, tuple[datetime, Market]] = {}
        self._reading = {network: asyncio.Lock() for network in nodes}

    async def estimate(
        self, deployment: Deployment, *, sender: str, to: str, amount: int, tried: bool = True
    ) -> FeeEstimate | None:
        """The cost of paying `amount` chain units to `to`; None while gas is above the network's cap.

        Without `tried` the node isn't asked whether the payment would work: for who knows that it wouldn't as yet.
        Raises PaymentRefused (the sender has the amount, and the recipient or the token would refuse it: sending it
        all the same would cost the house its gas), NodeRefused, NodeUnavailable, NodeMisbehaved.
        """
        node = self._nodes[deployment.network]
        gas_limit = NATIVE_GAS if deployment.contract is None else TOKEN_GAS
        if tried:
            gas_limit = await self._gas_limit(node, deployment, sender=sender, to=to, amount=amount)
        return estimate(
            await self._market(node),
            gas_limit=gas_limit,
            tip_floor=node.network.tip_floor,
            network_cap=node.network.max_fee_per_gas_cap,
        )

    async def carry(
        self, deployment: Deployment, order: Carry, *, sender: str, to: str, amount: int
    ) -> FeeEstimate | None:
        """The cost of carrying this authorisation to its token; None while gas is above the network's cap.

        Raises PaymentRefused (the token wouldn't take it: it's used, over, or the token refuses the payment),
        NodeRefused, NodeUnavailable, NodeMisbehaved.
        """
        node = self._nodes[deployment.network]
        contract, value, call = called(
            order, chain_id=node.network.chain_id, contract=deployment.contract, to=to, amount=amount
        )
        try:
            gas = await node.estimate_gas(sender=sender, to="0x" + contract.hex(), value=value, call=call)
        except Reverted as problem:
            raise PaymentRefused(f"the token wouldn't take the authorisation: {problem.message}") from problem
        return estimate(
            await self._market(node),
            gas_limit=-(-gas * GAS_MARGIN_PERCENT // 100),
            tip_floor=node.network.tip_floor,
            network_cap=node.network.max_fee_per_gas_cap,
        )

    async def anchor(self, network: str, order: Anchor, *, sender: str, to: str) -> FeeEstimate | None:
        """The cost of writing a root to `to`; None while gas is above the network's cap.

        Raises PaymentRefused (a contract stands there that refuses it), NodeRefused, NodeUnavailable, NodeMisbehaved.
        """
        node = self._nodes[network]
        try:
            gas = await node.estimate_gas(sender=sender, to=to, value=0, call=order.root)
        except Reverted as problem:
            raise PaymentRefused(f"a contract at {to} refuses what is to be written to it", param="to") from problem
        except InsufficientFunds:
            gas = ANCHOR_GAS
        return estimate(
            await self._market(node),
            gas_limit=-(-gas * GAS_MARGIN_PERCENT // 100),
            tip_floor=node.network.tip_floor,
            network_cap=node.network.max_fee_per_gas_cap,
        )

    async def _market(self, node: Node) -> Market:
        """What gas costs, as read within the last second; whoever asks meanwhile waits for the one who reads."""
        name = node.network.name
        async with self._reading[name]:
            kept = self._markets.get(name)
            now = self._clock.now()
            if kept is None or not timedelta() <= now - kept[0] < MARKET_FRESH:
                kept = self._markets[name] = now, await node.market()
        return kept[1]

    async def _gas_limit(self, node: Node, deployment: Deployment, *, sender: str, to: str, amount: int) -> int:
        contract = deployment.contract
        try:
            if contract is None:
                gas = await node.estimate_gas(sender=sender, to=to, value=amount, call=b"")
            else:
                gas = await node.estimate_gas(sender=sender, to=contract, value=0, call=transfer_call(to, amount))
        except Reverted as problem:
            if await node.balance(contract, sender) >= amount:
                raise PaymentRefused(
                    f"{to} can't be paid: its contract, or the token, refuses", param="address"
                ) from problem
            return NATIVE_GAS if contract is None else TOKEN_GAS
        except InsufficientFunds:
            return NATIVE_GAS if contract is None else TOKEN_GAS
        except NodeRefused:
            if contract is None:
                return NATIVE_GAS
            raise
        return -(-gas * GAS_MARGIN_PERCENT // 100)
