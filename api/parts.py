"""What a route asks for: the services, and the assets that amounts are shown in."""

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from ledger.money import Asset
from wiring.services import Services


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Parts = Annotated[Services, Depends(_services)]
"""The services of the book that this application serves."""


async def assets_of(parts: Services, *codes: str) -> dict[str, Asset]:
    """Every asset, or those of these codes. Raises UnknownAsset."""
    if not codes:
        return await parts.ledger.assets()
    return {code: await parts.ledger.asset(code) for code in codes}
