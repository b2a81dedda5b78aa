"""What must be there before a service starts: the migrated database, the book, its assets, the house's addresses."""

from collections.abc import Callable

from base.errors import ConfigError, Unavailable
from chain import restores
from chain.addresses import begin_indexes, enrol
from chain.incarnation import incarnation
from chain.signing import OwnKey, Role
from db.engine import tx
from fiat.payout_store import note_database
from fiat.payouts import PAYPAL
from ledger.money import Asset
from wiring.banking import build_sealing, has_vault
from wiring.parts import Parts, build_identity, open_parts
from wiring.screening import listed_addresses
from wiring.settings import Settings


async def refuse_lost_tiers(parts: Parts) -> None:
    """Raise TariffInvalid if users are in tiers that the tariff hasn't. A database that's away is asked at each use."""
    try:
        await parts.tiers.require_known()
    except Unavailable:
        return


def house_keys(settings: Settings) -> list[OwnKey]:
    """The keys of the house's own addresses: those that pay withdrawals, and the one that pays gas."""
    return [*(OwnKey(Role.HOT, index) for index in range(settings.hot_senders)), OwnKey(Role.GAS, 0)]


async def prepare_book(settings: Settings, *, report: Callable[[str], None]) -> None:
    """Migrate the database; make the book, its assets, and the house's own addresses known. Again is harmless.

    Raises ConfigError.
    """
    listed_addresses(settings)  # without a readable list nothing starts
    from db.migrate import migrate  # here, since only who installs or starts the service needs alembic

    owner_url = settings.database_owner_url or settings.database_url
    if owner_url is None:
        raise ConfigError("there is no database to prepare: set database_url", code="no_database")
    await migrate(owner_url.get_secret_value(), report=report)
    async with open_parts(settings, name="onebook prepare") as parts:
        await parts.ledger.create_book()
        for asset in settings.assets:
            await parts.ledger.register_asset(Asset(asset.code, asset.kind, asset.scale))
        if has_vault(settings):
            await build_sealing(parts).seal_in_clear()
        if settings.rails.paypal is not None:
            async with tx(parts.engine) as connection:
                await note_database(connection, settings.book, PAYPAL, incarnation(), now=parts.clock.now())
        if settings.networks and settings.xpubs:
            async with tx(parts.engine) as connection:
                for key in house_keys(settings):
                    await enrol(connection, parts.addresses, key=key, clock=parts.clock)
                for role in (Role.HOT, Role.GAS):
                    await enrol(connection, parts.addresses, key=OwnKey(role, 0), clock=parts.clock)
                await restores.begin(connection, now=parts.clock.now())
                await begin_indexes(connection)


async def first_operator_key(settings: Settings) -> str:
    """A new operator key's secret, for whoever installs; shown once."""
    async with open_parts(settings, name="onebook init") as parts:
        return (await build_identity(parts).create_operator_key()).secret
