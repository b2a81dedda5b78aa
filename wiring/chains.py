"""How far every configured network has been followed, for whoever asks without a connection in hand."""

from sqlalchemy.ext.asyncio import AsyncEngine

from chain.errors import NotYetFollowed
from chain.networks import Network, Registry
from chain.status import NetworkStatus, network_status
from db.engine import tx


class Chains:
    """All networks of an installation."""

    def __init__(self, engine: AsyncEngine, registry: Registry) -> None:
        self.registry = registry
        self._engine = engine

    async def status(self) -> list[tuple[Network, NetworkStatus | None]]:
        """Each network with where it stands; None before its follower's first step."""
        found: list[tuple[Network, NetworkStatus | None]] = []
        async with tx(self._engine) as connection:
            for network in self.registry.networks.values():
                try:
                    found.append((network, await network_status(connection, network)))
                except NotYetFollowed:
                    found.append((network, None))
        return found
