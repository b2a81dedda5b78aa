"""The networks, and how far each has been followed."""

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant, maybe_instant
from api.door import resource
from api.parts import Parts
from chain.disagreements import OpenDisagreement
from chain.networks import Network
from chain.status import NetworkStatus

router = resource("networks")


class ToldView(TypedDict):
    node: str
    block_hash: str


class DisagreementView(TypedDict):
    height: int
    since: str
    told: list[ToldView]


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
    halted_at: str | None
    trusting_one_node: bool
    disagreement: DisagreementView | None
    updated_at: str | None


class NetworkList(TypedDict):
    items: list[NetworkView]
    has_more: bool


def disagreement_view(lasting: OpenDisagreement) -> DisagreementView:
    told: list[ToldView] = [{"node": name, "block_hash": block_hash} for name, block_hash in lasting.found.told]
    return {"height": lasting.found.height, "since": instant(lasting.first_seen_at), "told": told}


def network_view(network: Network, status: NetworkStatus | None) -> NetworkView:
    """`state`: unknown before the first block was read, halted when crediting and paying stopped, else following.

    `disagreement`: its nodes tell different blocks, the lowest at `height`.
    """
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
        "halted_at": maybe_instant(status.halted_at) if status else None,
        "trusting_one_node": len(network.rpc_urls) == 1,
        "disagreement": disagreement_view(status.disagreement) if status and status.disagreement else None,
        "updated_at": instant(status.updated_at) if status else None,
    }


@router.get("/networks", response_model=NetworkList, summary="List the networks and how far each was followed")
async def list_networks(parts: Parts) -> Response:
    items = [network_view(network, status) for network, status in await parts.chains.status()]
    return answer({"items": items, "has_more": False})
