"""Token reviews: why a token is stopped, and a treasurer's acceptance of what its contract is now.

Whoever accepts names the very state that was shown, by its fingerprint: what changed again in between isn't accepted
unseen. Accepting changes nothing in the book; deposits that waited are judged by the worker's next step.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import NotFound
from chain import token_store
from chain.networks import Deployment, Registry
from chain.token_store import KnownToken
from chain.tokens import misfit
from db.engine import tx
from treasury.errors import TokenChanged, TokenUnfit
from treasury.notes import note


@dataclass(frozen=True, slots=True)
class TokenStanding:
    """A configured token, and what is known of its contract."""

    deployment: Deployment
    known: KnownToken


class TokenReviews:
    """Shows how the configured tokens stand, and takes acceptances."""

    def __init__(self, engine: AsyncEngine, *, registry: Registry, clock: Clock) -> None:
        self._engine = engine
        self._registry = registry
        self._clock = clock

    async def all(self) -> list[TokenStanding]:
        """Every configured token, in the configuration's order."""
        found: list[TokenStanding] = []
        async with tx(self._engine) as connection:
            for network in self._registry.networks:
                tokens = self._registry.tokens(network)
                known = await token_store.load_tokens(connection, network, list(tokens))
                found += [TokenStanding(entry, known[contract]) for contract, entry in tokens.items()]
        return found

    async def get(self, network: str, contract: str) -> TokenStanding:
        """One of them; `contract` is hexadecimal in any case. Raises NotFound."""
        for standing in await self.all():
            if (standing.known.network, standing.known.contract) == (network, contract.lower()):
                return standing
        raise NotFound(f"no token {contract[:50]!r} is configured on {network[:40]!r}", param="contract")

    async def accept(
        self, *, treasurer: str, network: str, contract: str, state: str, reason: str
    ) -> tuple[TokenStanding, bool]:
        """The state with this fingerprint is what is expected from now on; and whether it was so before.

        Raises NotFound, ReasonMissing, TokenChanged (it's another state now), TokenUnfit (no token, or other decimals
        than configured: the configuration comes first).
        """
        said = note(treasurer, reason)
        standing = await self.get(network, contract)
        known, finding = standing.known, standing.known.finding
        if finding is None and known.accepted is not None and known.accepted.fingerprint == state:
            return standing, True
        if finding is None or finding.found.fingerprint != state:
            raise TokenChanged("the contract isn't in that state; look at it again", param="state")
        if (problem := misfit(finding.found, decimals=standing.deployment.decimals)) is not None:
            raise TokenUnfit(f"{problem}: put the configuration right first", param="state")
        now = self._clock.now()
        async with tx(self._engine) as connection:
            closed = await token_store.close_finding(connection, finding, now=now, by=treasurer, reason=said["reason"])
            if not closed:
                raise TokenChanged("the contract changed just now; look at it again", param="state")
            await token_store.accept(
                connection,
                network,
                known.contract,
                finding.found,
                height=finding.last_height,
                block_hash=finding.last_hash,
                by=treasurer,
                now=now,
            )
        return await self.get(network, contract), False
