"""A bank rail on a real database, with an empty book in euros."""

import pytest

from fiat.bank.records import BankAccount
from fiat.bank.service import BankRail
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.fiat.rail_world import make_world
from tests.fiat.statements import IBAN
from tests.support.bank import OUR_IBAN

EUR = Asset("EUR", AssetKind.FIAT, 2)


@pytest.fixture
async def ledger(database, clock):
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    await ledger.register_asset(EUR)
    return ledger


@pytest.fixture
def rail(database, ledger, clock, entropy):
    accounts = [
        BankAccount(name="house-bank", iban=IBAN, asset="EUR"),
        BankAccount(name="mock", iban=OUR_IBAN, asset="EUR"),
    ]
    return BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=accounts)


@pytest.fixture
async def world(database, ledger, clock, entropy):
    world = make_world(database.engine(), ledger, clock, entropy)
    yield world
    await world.rails.inbox.aclose()
