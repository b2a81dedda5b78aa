"""One book and one simulated provider for random histories: users' acts, mishaps, and workers' steps in any order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from base.entropy import SeededEntropy
from base.errors import OnebookError
from db.server import Running
from fiat.personal import NoVault
from fiat.rails.desk import Desk, Rails
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import Rail, RawWebhook
from fiat.rails.records import Refund
from fiat.top_ups import TopUp
from ledger.accounts import user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.outcomes import require_accepted
from ledger.requests import RequestKey, request_key
from ledger.service import PostgresLedger
from railsim.switches import Fault
from tariff.desk import Desk as TariffDesk
from tariff.tariff_file import parse_tariff
from tests.rails import paypal_house, square_rail, stripe_rail
from tests.rails.conftest import Sim
from tests.rails.inbox import Got
from tests.support.postgres import fresh_database
from wallet.receivables import Receivables
from wiring.rails import RailServices, services_of

USERS = ("usr_ada", "usr_ben")
USD = Asset("USD", AssetKind.FIAT, 2)
IMPATIENT, PATIENT = 4.0, 20.0
"""Seconds until a call that hangs is given up: while some do, and while only a busy machine makes one wait."""

TARIFF = parse_tariff(
    """
default_tier = "standard"
reference = "USD"
[tiers.standard]
limits.top_up = { operation = "45.00", day = "150.00", month = "400.00" }
[[fees]]
operation = "top_up"
asset = "USD"
flat = "0.07"
percent = "1.3"
""",
    assets={"USD": USD},
)

PAGE = 200
TIMEOUTS = (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER)


def rail_of(sim: Sim, name: str, seconds: float) -> Rail:
    """The rail at the simulator."""
    if name == "stripe":
        return stripe_rail.rail_of(sim, seconds=seconds)
    if name == "square":
        return square_rail.rail_of(sim, seconds=seconds)
    return paypal_house.rail(sim, assets={"USD": USD}, call_seconds=seconds)


@dataclass
class AnyHouse:
    """One book, one provider, and what it has sent that isn't taken in yet."""

    sim: Sim
    name: str
    ledger: PostgresLedger
    engine: AsyncEngine
    entropy: SeededEntropy
    rail: Rail = field(init=False)
    rails: RailServices = field(init=False)
    taken: int = 0
    waiting: list[Got] = field(default_factory=list)
    numbers: int = 0
    hung: bool = False
    """Whether a call has hung already: once is enough, since it takes real time."""
    moved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(USERS, 0))
    """What users got from each other, less what they gave."""

    def start(self, patience: float) -> None:
        """Processes that know only what is written."""
        self.rail = rail_of(self.sim, self.name, patience)
        desk = Desk(
            engine=self.engine,
            ledger=self.ledger,
            rails=Rails([self.rail]),
            vault=NoVault("no line of a bank is read here"),
            clock=self.sim.house.world.timeline,
            entropy=self.entropy,
            tariff=TariffDesk(TARIFF, ledger=self.ledger, clock=self.sim.house.world.timeline),
        )
        self.rails = services_of(desk, Inbox(desk))

    async def stop(self) -> None:
        await self.rails.inbox.aclose()
        await self.rail.aclose()

    def key(self, owner: str) -> RequestKey:
        """A new request's key."""
        self.numbers += 1
        return request_key(owner=owner, route="POST /test", key=str(self.numbers), body={"n": self.numbers})

    def mishap(self, **told: Any) -> None:
        """Set one of the simulator's switches. A second call that hangs is cut instead."""
        if told["kind"] in TIMEOUTS:
            if self.hung:
                told["kind"] = told["kind"].replace("timeout", "closed")
            self.hung = True
        self.sim.tell("/switches", provider=self.name, **told)

    def ask(self, where: str, **told: Any) -> Any:
        """Something that the world does at the provider; None if it can't be done there now."""
        answer = self.sim.control.post(where, json={"provider": self.name} | told)
        assert answer.status_code in (200, 400, 404), answer.text
        return answer.json() if answer.status_code == 200 else None

    async def spend(self, sender: str, recipient: str, amount: int) -> None:
        """Money that leaves its user for another one. Raises what the book refuses."""
        accounts = user_account(sender, "USD"), user_account(recipient, "USD")
        await self.ledger.ensure_open(*accounts)
        self.numbers += 1
        post = Post(id=f"test:spend:{self.numbers}", postings=(Posting(*accounts, "USD", amount),))
        (outcomes,) = await self.ledger.submit(alone(post))
        require_accepted(outcomes)
        self.moved[sender] -= amount
        self.moved[recipient] += amount

    async def deliver(self, random: Random, *, lost: float = 0.0, twice: float = 0.0) -> None:
        """What has arrived, in any order: some of it never, some twice, some of it once more later."""
        arrived = self.sim.webhooks(self.name)
        fresh, self.taken = [*self.waiting, *arrived[self.taken :]], len(arrived)
        told = [got for got in fresh if random.random() >= lost]
        self.waiting = [got for got in told if random.random() < twice]
        told += [got for got in told if random.random() < twice]
        random.shuffle(told)
        for got in told:
            try:
                await self.rails.inbox.receive(self.name, RawWebhook(body=got.body, headers=got.headers))
            except OnebookError:
                continue  # badly signed, too old, or the provider is away: as if it hadn't come

    def steps(self) -> Sequence[Any]:
        """All that a worker does for this rail."""
        return (
            self.rails.effects.step,
            self.rails.top_ups.steps.step,
            self.rails.refunds.step,
            self.rails.effects.look_through,
            self.rails.settlements.step,
            Receivables(self.ledger).step,
        )

    async def work(self, order: Sequence[int], *, together: bool = False) -> None:
        """Those steps, one after the other, or all at the same time and each in two workers."""
        steps = [self.steps()[number] for number in order]
        if together:
            await asyncio.gather(*(step() for step in [*steps, *steps]))
            return
        for step in steps:
            await step()

    async def top_ups(self) -> list[TopUp]:
        return [one for user in USERS for one in await self.rails.top_ups.list_for(user, limit=PAGE)]

    async def refunds(self) -> list[Refund]:
        return [
            refund
            for top_up in await self.top_ups()
            for refund in await self.rails.refunds.list_for(top_up.owner, top_up.id, limit=PAGE)
        ]

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance


@asynccontextmanager
async def any_house(sim: Sim, name: str, postgres: Running) -> AsyncIterator[AnyHouse]:
    """A new book over a new simulator."""
    async with fresh_database(postgres) as database:
        engine = database.engine()
        ledger = PostgresLedger(engine, clock=sim.house.world.timeline)
        await ledger.create_book()
        await ledger.register_asset(USD)
        house = AnyHouse(sim, name, ledger, engine, SeededEntropy(1))
        house.start(IMPATIENT)
        try:
            yield house
        finally:
            await house.stop()
            await ledger.aclose()
