"""A book with users, whose operations are asked for through desks like those of several processes."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from base.clock import ManualClock
from base.entropy import SeededEntropy
from base.errors import NotFound
from exchange.errors import RatesTooOld
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset
from ledger.outcomes import require_accepted
from ledger.requests import RequestKey, request_key
from ledger.service import PostgresLedger
from tariff.desk import Desk
from tariff.schedule import Tariff
from tariff.tiers import Tiers
from tests.support.postgres import Database
from tests.tariff.samples import ASSETS
from wallet.holds import Holds
from wallet.transfers import Fees, Transfers

ALICE, BOB = "usr_alice", "usr_bob"


class People:
    """Alice, bob and whoever else was named."""

    async def resolve(self, who: str) -> str:
        if not who.startswith("usr_"):
            raise NotFound(f"there is no user {who}", param="recipient")
        return who

    async def resolve_all(self, named):
        return {who: who for who in named}


@dataclass
class Rates:
    """A euro is worth 2 dollars or USDC, an ether 3,000.01 euros; or nobody knows."""

    known: bool = True

    async def of(self, asset: Asset, amount: int, reference: Asset) -> int:
        if not self.known:
            raise RatesTooOld("the rates are from yesterday")
        num, den = {"USD": (1, 2), "USDC": (1, 2), "ETH": (300_001, 100)}[asset.code]
        whole, part = amount * num * int(10**reference.scale), den * int(10**asset.scale)
        return -(-whole // part)


@dataclass
class Process:
    """What one process of the service has."""

    desk: Desk
    tiers: Tiers
    transfers: Transfers
    holds: Holds
    ledger: PostgresLedger


@dataclass
class World:
    """One book, and as many processes over it as are asked for."""

    database: Database
    clock: ManualClock
    entropy: SeededEntropy
    rates: Rates = field(default_factory=Rates)

    def process(self, tariff: Tariff) -> Process:
        engine = self.database.engine()
        ledger = PostgresLedger(engine, clock=self.clock)
        tiers = Tiers(engine, book=ledger.book, tariff=tariff, clock=self.clock)
        desk = Desk(tariff, ledger=ledger, tiers=tiers, worth=self.rates, clock=self.clock)
        common: dict[str, Any] = {"ledger": ledger, "directory": People(), "clock": self.clock, "entropy": self.entropy}
        transfers, holds = Transfers(**common, tariff=desk), Holds(**common, fees=Fees(), tariff=desk)
        return Process(desk, tiers, transfers, holds, ledger)

    async def fund(self, process: Process, owner: str, asset: str, amount: int) -> None:
        account, source = user_account(owner, asset), house_account("capital", asset)
        await process.ledger.ensure_open(account, source)
        name = self.entropy.draw(8).hex()
        (outcomes,) = await process.ledger.submit(
            alone(Post(id=f"test:fund:{name}", postings=(Posting(source, account, asset, amount),)))
        )
        require_accepted(outcomes)


def key(name: str, body: object = None, owner: str = ALICE) -> RequestKey:
    return request_key(owner=owner, route="/test", key=name, body=body)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 30, 23, 0, tzinfo=UTC))


@pytest.fixture
async def world(database: Database, clock: ManualClock, entropy: SeededEntropy) -> World:
    found = World(database, clock, entropy)
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    for asset in ASSETS.values():
        await ledger.register_asset(asset)
    return found
