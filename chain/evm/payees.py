"""What stands at an address that is to be paid: code or none, and whether that takes the network's own coin.

Asked of a node before anything is promised. It's as of now: a contract may change its mind until the payment is mined.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from chain.errors import NodeMisbehaved, NodeRefused, RateLimited, Reverted
from chain.evm.node import Node
from chain.evm.rpc import Json
from chain.networks import Deployment

DELEGATED = "0xef0100"
"""How the code of a person's account begins that has lent itself a contract's (EIP-7702): still a person's."""

_LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Payee:
    """`is_contract`: code stands there, and it's nobody's account. `refuses`: its code turns this very payment down."""

    is_contract: bool
    refuses: bool


class Payees:
    """Looks at addresses on every network, by one node each."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes

    async def look(self, deployment: Deployment, *, sender: str, to: str, amount: int) -> Payee:
        """What `to` is on the deployment's network, and whether it takes `amount` (chain units) of the native coin.

        A token asks nobody's leave but its own, so of one nothing is tried here. Raises NodeRefused, NodeUnavailable,
        NodeMisbehaved.
        """
        node = self._nodes[deployment.network]
        code = await node.rpc.call("eth_getCode", to, _LATEST)
        if not isinstance(code, str) or not code.startswith("0x"):
            raise NodeMisbehaved("code that isn't hexadecimal")
        is_bare = code == "0x"
        refuses = not is_bare and deployment.contract is None and await _turns_down(node, sender, to, amount)
        return Payee(is_contract=not is_bare and not code.lower().startswith(DELEGATED), refuses=refuses)


async def _turns_down(node: Node, sender: str, to: str, amount: int) -> bool:
    """Whether the payment reverts, tried as if the sender had the amount; False where the node can't tell."""
    payment = {"from": sender, "to": to, "value": hex(amount)}
    rich = {sender: {"balance": hex(amount * 2)}}  # state override, where a node knows it: the third parameter
    asked: tuple[list[Json], ...] = ([payment, _LATEST, rich], [payment, _LATEST])
    for question in asked:
        try:
            await node.rpc.call("eth_call", *question)
        except Reverted:
            return True
        except RateLimited:
            raise
        except NodeRefused:
            continue
        return False
    return False
