"""Sender reviews: which of our addresses are halted and why, and a treasurer's word that lets one go on.

Whoever accepts names what was shown, by its fingerprint: what is found in between isn't accepted unseen. Accepting
changes nothing in the book: what left stands in suspense until it's accounted for. What was accepted isn't found again.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import NotFound
from chain import foreign_store
from chain.foreign import OpenFinding, state_of
from chain.networks import Registry
from db.engine import tx
from treasury.errors import SenderChanged
from treasury.notes import note


@dataclass(frozen=True, slots=True)
class HaltedSender:
    """An own address for which nothing is signed, and what was found, the oldest first. `role`: deposit, hot, gas."""

    network: str
    address: str
    role: str
    findings: tuple[OpenFinding, ...]

    @property
    def state(self) -> str:
        """The fingerprint of all of it."""
        return state_of(self.findings)


class SenderReviews:
    """Shows halted senders, and takes acceptances."""

    def __init__(self, engine: AsyncEngine, *, registry: Registry, clock: Clock) -> None:
        self._engine = engine
        self._registry = registry
        self._clock = clock

    async def all(self) -> list[HaltedSender]:
        """Every halted sender on the configured networks, by network and address."""
        found: list[HaltedSender] = []
        async with tx(self._engine) as connection:
            for network in self._registry.networks.values():
                open_ = await foreign_store.load_open(connection, network.name)
                addresses = sorted({one.finding.address for one in open_})
                roles = await foreign_store.load_roles(connection, network.family, addresses)
                for address in addresses:
                    here = tuple(one for one in open_ if one.finding.address == address)
                    found.append(HaltedSender(network.name, address, roles.get(address, ""), here))
        return found

    async def accept(self, *, treasurer: str, network: str, address: str, state: str, reason: str) -> HaltedSender:
        """Lift the halt, whose findings have this fingerprint; the sender as it was.

        Raises NotFound (it isn't halted), ReasonMissing, SenderChanged (something else was found meanwhile).
        """
        said = note(treasurer, reason)
        halted = await self._get(network, address)
        if halted.state != state:
            raise SenderChanged("something else was found at this address since; look again", param="state")
        async with tx(self._engine) as connection:
            seqs = [one.seq for one in halted.findings]
            closed = await foreign_store.close_findings(
                connection, seqs, by=treasurer, reason=said["reason"], now=self._clock.now()
            )
            if closed != len(seqs):
                raise SenderChanged("somebody accepted it just now; look again", param="state")
        return halted

    async def _get(self, network: str, address: str) -> HaltedSender:
        for halted in await self.all():
            if (halted.network, halted.address) == (network, address.lower()):
                return halted
        raise NotFound(f"no sender {address[:50]!r} is halted on {network[:40]!r}", param="address")
