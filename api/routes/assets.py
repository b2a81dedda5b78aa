"""The assets that the book holds, and on which networks each lives."""

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, money
from api.door import resource
from api.parts import Parts, assets_of

router = resource("assets")


class DeploymentView(TypedDict):
    network: str
    contract: str | None
    decimals: int
    deposit_minimum: str


class AssetView(TypedDict):
    code: str
    kind: str
    scale: int
    networks: list[DeploymentView]


class AssetList(TypedDict):
    items: list[AssetView]
    has_more: bool


@router.get("/assets", response_model=AssetList, summary="List the assets")
async def list_assets(parts: Parts) -> Response:
    assets = await assets_of(parts)
    networks: dict[str, list[DeploymentView]] = {code: [] for code in assets}
    for deployment in parts.chains.registry.deployments:
        if deployment.asset in assets:
            networks[deployment.asset].append(
                {
                    "network": deployment.network,
                    "contract": deployment.contract,
                    "decimals": deployment.decimals,
                    "deposit_minimum": money(deployment.deposit_minimum, deployment.asset, assets),
                }
            )
    items: list[AssetView] = [
        {"code": code, "kind": asset.kind.value, "scale": asset.scale, "networks": networks[code]}
        for code, asset in sorted(assets.items())
    ]
    return answer({"items": items, "has_more": False})
