"""A bank rail on a real database, with an empty book in euros."""

from datetime import timedelta

import pytest

from fiat.bank.ending import BankEnding
from fiat.bank.entries import bank_account
from fiat.bank.outgoing import BankFiles
from fiat.bank.records import BankAccount
from fiat.bank.service import BankRail
from fiat.payout_desk import PayoutDesk, PayoutTerms
from fiat.payout_memory import Remembering
from fiat.payout_steps import Gathering, PayoutSteps
from fiat.personal import KEY_NAME, load_vault, make_key_file
from fiat.top_ups import BANK
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.fiat.rail_world import make_world
from tests.fiat.statements import IBAN
from tests.support.bank import OUR_IBAN

MOCK = BankAccount(name="mock", iban=OUR_IBAN, asset="EUR", holder="Onebook")

EUR = Asset("EUR", AssetKind.FIAT, 2)


@pytest.fixture
async def ledger(database, clock):
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    await ledger.register_asset(EUR)
    return ledger


@pytest.fixture
def vault(tmp_path):
    make_key_file(tmp_path / KEY_NAME)
    return load_vault(tmp_path / KEY_NAME)


@pytest.fixture
def rail(database, ledger, clock, entropy, vault):
    accounts = [
        BankAccount(name="house-bank", iban=IBAN, asset="EUR"),
        MOCK,
    ]
    return BankRail(database.engine(), ledger, clock=clock, entropy=entropy, accounts=accounts, vault=vault)


@pytest.fixture
def memory(database, clock, entropy, folder):
    files = BankFiles(folder, {"mock": MOCK})
    return Remembering(database.engine(), BANK, files, book="main", clock=clock, entropy=entropy)


@pytest.fixture
def desk(database, ledger, clock, entropy, vault, folder, memory):
    terms = PayoutTerms(
        rail=BANK, asset="EUR", account="mock", paying=bank_account("mock", "EUR"), fee=25, maximum=10_000_00
    )
    endings = {BANK: BankEnding(BankFiles(folder, {"mock": MOCK}), memory)}
    return PayoutDesk(database.engine(), ledger, vault, terms=[terms], clock=clock, entropy=entropy, endings=endings)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bank"


@pytest.fixture
def steps(database, ledger, clock, entropy, vault, folder):
    return PayoutSteps(
        database.engine(),
        ledger,
        vault,
        BankFiles(folder, {"mock": MOCK}),
        gathering=Gathering(wait=timedelta()),
        clock=clock,
        entropy=entropy,
    )


@pytest.fixture
async def world(database, ledger, clock, entropy, vault):
    world = make_world(database.engine(), ledger, clock, entropy, vault)
    yield world
    await world.rails.inbox.aclose()
