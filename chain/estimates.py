"""What a payment would cost now, asked of a node before anything is promised or reserved."""

from collections.abc import Mapping

from chain.errors import InsufficientFunds, NodeRefused, PaymentRefused, Reverted
from chain.evm.node import Node
from chain.evm.signed import transfer_call
from chain.fees import FeeEstimate, estimate
from chain.networks import Deployment

GAS_MARGIN_PERCENT = 125
"""Gas limit, of the node's estimate: what a transfer takes depends a little on the state it meets."""

TOKEN_GAS = 100_000
"""Gas limit for a token transfer that can't be tried now (the sender lacks funds): about twice what tokens take."""

NATIVE_GAS = 60_000
"""The same for the native coin: enough for an ordinary receiving contract; an ordinary address takes 21,000."""


class NetworkFees:
    """Estimates on every network, by one node each."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    async def estimate(self, deployment: Deployment, *, sender: str, to: str, amount: int) -> FeeEstimate | None:
        """The cost of paying `amount` chain units to `to`; None while gas is above the network's cap.

        Raises PaymentRefused (the sender has the amount, and the recipient or the token would refuse it: sending it
        all the same would cost the house its gas), NodeRefused, NodeUnavailable, NodeMisbehaved.
        """
        node = self._nodes[deployment.network]
        gas_limit = await self._gas_limit(node, deployment, sender=sender, to=to, amount=amount)
        return estimate(
            await node.market(),
            gas_limit=gas_limit,
            tip_floor=node.network.tip_floor,
            network_cap=node.network.max_fee_per_gas_cap,
        )

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
