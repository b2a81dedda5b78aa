"""A database put back from a real dump, with the real signer: what was issued in between is nobody else's."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from chain.errors import NoAddressReady
from db.server import Running
from tests.api.conftest import settings_for
from tests.support.backups import put_back, take_dump
from tests.support.postgres import Database
from tests.support.signer import RunningSigner, generous_policy, start_signer
from wallet.deposit_addresses import DepositAddresses
from wiring.assemble import build_services
from wiring.parts import open_parts
from wiring.preparing import prepare_book
from wiring.settings import Settings
from wiring.steps import Step, open_steps
from wiring.wallet import build_signer

pytestmark = pytest.mark.slow

USERS = 20


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path / "signer", generous_policy(31337))
    yield running
    running.stop()


@pytest.fixture
def settings(tmp_path: Path, signer: RunningSigner, database: Database) -> Settings:
    return settings_for(
        tmp_path,
        xpubs=dict(signer.xpubs),
        signer_socket=signer.socket,
        database_url=SecretStr(database.app_url),
        database_owner_url=SecretStr(database.owner_url),
    )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[DepositAddresses, Step]]:
    """What issues addresses, and the worker's step that gets them ready."""
    async with open_parts(settings, name="test") as parts, open_steps(parts, build_signer(settings)) as steps:
        yield build_services(parts).deposit_addresses, steps["address-pool"]


async def fill(step: Step) -> None:
    while await step():
        pass


async def issue(addresses: DepositAddresses, name: str, count: int = USERS) -> list[str]:
    return [(await addresses.issue(f"usr_{name}{number}", "local")).address for number in range(count)]


@pytest.mark.parametrize("moment", ["installed", "issued without a worker", "pool full", "some issued"])
async def test_f77_no_address_issued_before_a_restore_goes_to_another_user(
    postgres: Running, database: Database, settings: Settings, tmp_path: Path, moment: str
):
    await prepare_book(settings, report=lambda _: None)
    early: list[str] = []
    async with opened(settings) as (addresses, step):
        if moment in ("pool full", "some issued"):
            await fill(step)
        if moment in ("issued without a worker", "some issued"):
            early = await issue(addresses, "early", 3)
        dump = take_dump(postgres, database.name, tmp_path / "dump")
        if moment != "issued without a worker":
            await fill(step)
        given = await issue(addresses, "given")
        assert len({*given, *early}) == len(given) + len(early)

    await put_back(postgres, database.name, dump)
    await prepare_book(settings, report=lambda _: None)
    async with opened(settings) as (addresses, step):
        with pytest.raises(NoAddressReady, match="no index that the signer reserved for this database is left"):
            await issue(addresses, "later", 1)
        await fill(step)
        later = await issue(addresses, "later", 2 * USERS)
        assert set(later).isdisjoint({*given, *early})
        assert await issue(addresses, "early", len(early)) == early  # what the backup knows of is still theirs
        given_anew = await issue(addresses, "given")
        assert set(given_anew).isdisjoint({*given, *early, *later})
