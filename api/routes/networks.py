"""The networks, and how far each has been followed."""

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant
from api.door import resource
from api.parts import Parts
from chain.networks import Network
from chain.status import NetworkStatus

router = resource("networks")


class NetworkView(TypedDict):
    name: str
    chain_id: int
    native_asset: str
    state: str
    height: int | None
    behind: int | None
    spendable_height: int | None
    final_height: int | None
    halted: str | None
    updated_at: str | None


class NetworkList(TypedDict):
    items: list[NetworkView]
    has_more: bool


def network_view(network: Network, status: NetworkStatus | None) -> NetworkView:
    """`state`: unknown before the first block was read, halted when crediting and paying stopped, else following."""
    state = "following" if status is not None and status.halted is None else "halted" if status else "unknown"
    return {
        "name": network.name,
        "chain_id": network.chain_id,
        "native_asset": network.native_asset,
        "state": state,
        "height": status.height if status else None,
        "behind": status.behind if status else None,
        "spendable_height": status.spendable_height if status else None,
        "final_height": status.final_height if status else None,
        "halted": status.halted if status else None,
        "updated_at": instant(status.updated_at) if status else None,
    }


@router.get("/networks", response_model=NetworkList, summary="List the networks and how far each was followed")
async def list_networks(parts: Parts) -> Response:
    items = [network_view(network, status) for network, status in await parts.chains.status()]
    return answer({"items": items, "has_more": False})
