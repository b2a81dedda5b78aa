"""Deposit addresses: one per user, family of networks and generation of the key, watched from its commit on.

After the key was rotated a user who asks gets an address of the new generation; what arrives at the older ones is
credited as before.
"""

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import addresses
from chain.networks import Family, Registry
from chain.signing import AddressSource, OwnAddress
from db.engine import tx
from wallet import deposit_store
from wallet.resources import DepositAddress


class DepositAddresses:
    """Gives users their addresses."""

    def __init__(
        self, engine: AsyncEngine, *, book: str, registry: Registry, source: AddressSource, clock: Clock
    ) -> None:
        self._engine = engine
        self._book = book
        self._registry = registry
        self._source = source
        self._clock = clock

    async def issue(self, owner: str, network: str) -> DepositAddress:
        """The user's address on `network`, of the generation in force; the first call makes it.

        Raises NotOnNetwork for an unknown network, AddressesDisagree, KeyNotRecorded, NoAddressReady.
        """
        family = self._registry.network(network).family
        async with tx(self._engine) as connection:
            await deposit_store.lock_owner(connection, self._book, owner)
            known = await addresses.of_owner(connection, book=self._book, owner=owner, family=family)
            in_force = await addresses.in_force(connection, family)
            own = (
                known[-1]
                if known and known[-1].key.keys >= in_force
                else await addresses.issue(
                    connection, self._source, book=self._book, owner=owner, clock=self._clock, family=family
                )
            )
        return self._shown(own, owner, family)

    async def list_for(self, owner: str) -> list[DepositAddress]:
        """The user's addresses, oldest first. Raises AddressesDisagree when one isn't what our public keys give,
        KeyNotRecorded when theirs isn't recorded any more."""
        found = []
        async with tx(self._engine) as connection:
            for family in Family:
                known = await addresses.of_owner(connection, book=self._book, owner=owner, family=family)
                found += [self._shown(own, owner, family) for own in known]
        return found

    def _shown(self, own: OwnAddress, owner: str, family: Family) -> DepositAddress:
        address = addresses.confirmed(self._source, own).address
        networks = tuple(network.name for network in self._registry.networks.values() if network.family is family)
        return DepositAddress(address=address, owner=owner, networks=networks)
