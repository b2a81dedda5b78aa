"""A book of many accounts with some of everything beside it: addresses on a chain, a bank, a payment provider.

It's made once. Each hand gets it anew: the database is cloned, the chain goes back to a snapshot.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import select

from chain.incarnation import incarnation
from chain.signing import Role
from custody.derivation import Role as KeyRole
from db.engine import tx
from db.server import Running
from ledger.accounts import house_account, user_account
from ledger.commands import Group, OpenAccount, Post, Posting
from tests.api.conftest import Caller
from tests.fiat.statements import Entry, camt053
from tests.support.chain import RunningChain
from tests.support.postgres import Database, fresh_database
from tests.support.signer import RunningSigner
from tests.support.waiting import eventually
from tests.support.whole_house import BESIDE, WholeHouse, whole_house

POINTS = "PTS"
"""What the straws hold: given by the house, so that nothing outside tells of it."""

DOLLAR, ETHER = 10**6, 10**18
PEOPLE = 12
"""Users with a deposit address, USDC and ether."""

DAY = date(2026, 1, 5)
OPENING_CENTS = 1_000_00
"""What the bank's first statement tells: the house's own money."""

AT_ONCE = 500
"""Groups that are submitted together."""

FINAL_DEPTH = 4

ASSETS = [
    {"code": "EUR", "kind": "fiat", "scale": 2},
    {"code": POINTS, "kind": "points", "scale": 0},
    {"code": "USDC", "kind": "stablecoin", "scale": 6},
    {"code": "ETH", "kind": "crypto", "scale": 18},
]
SETTINGS: dict[str, Any] = {
    "assets": ASSETS,
    "environment": "test",
    "rails": {"sandbox": {"webhook_secret": "a-needle-s-sandbox"}},
    "network": {"spendable_depth": 2, "final_depth": FINAL_DEPTH},
}


@dataclass(frozen=True, slots=True)
class Person:
    """A user who has a deposit address."""

    caller: Caller
    address: str

    @property
    def id(self) -> str:
        assert self.caller.user is not None
        return self.caller.user


@dataclass(slots=True, kw_only=True)
class Haystack:
    """The house as a hand meets it, and what a hand may take hold of."""

    house: WholeHouse
    database: Database
    signer: RunningSigner
    people: list[Person]
    straws: int
    chance: random.Random
    statements: int = 1
    """Statements that the bank has sent."""
    told_cents: int = OPENING_CENTS
    """What the bank last told."""

    @property
    def chain(self) -> RunningChain:
        return self.house.chain

    @property
    def beside(self) -> RunningChain:
        """The second network's chain."""
        assert self.house.beside is not None
        return self.house.beside

    @property
    def statement(self) -> str:
        """The bank's name of its latest statement."""
        return f"STMT-{self.statements}"

    @property
    def hot(self) -> str:
        return "0x" + self.signer.address(KeyRole.HOT).hex()

    def straw(self) -> str:
        """The account of some user with points."""
        return user_account(straw_owner(self.chance.randrange(self.straws)), POINTS)

    def person(self) -> Person:
        return self.chance.choice(self.people)

    async def settle(self) -> None:
        """The worker's steps have nothing more to do, and a node that didn't answer in time was asked again."""

        async def is_settled() -> bool:
            await self.house.work()
            return not any(name.partition(":")[0] in ("follow", "tokens", "coins") for name in self.house.trouble)

        await eventually("the house is at rest", is_settled)

    async def tamper(self, *statements: str, altered: int | None = 1) -> None:
        """Alter rows as whoever owns the server can: no trigger or right stops it. Each must alter `altered` rows."""
        connection = await asyncpg.connect(self.database.admin_url)
        try:
            await connection.execute("SET session_replication_role = replica")
            for statement in statements:
                done = int((await connection.execute(statement)).rpartition(" ")[2])
                assert done, f"no row by {statement}"
                assert altered in (None, done), f"{done} rows by {statement}"
        finally:
            await connection.close()

    async def ask(self, query: str, *values: object) -> Any:
        """The single value that a query gives, of the database as it is."""
        connection = await asyncpg.connect(self.database.admin_url)
        try:
            return await connection.fetchval(query, *values)
        finally:
            await connection.close()

    async def post(self, name: str, debit: str, credit: str, asset: str, amount: int = 1, **more: Any) -> None:
        """An entry that somebody with the service's own rights books."""
        [(outcome,)] = await self.house.services.ledger.submit(
            Group((Post(id=name, postings=(Posting(debit, credit, asset, amount),), **more),))
        )
        assert outcome.accepted, outcome.refusal

    async def bank_sends(self, *entries: Entry, opening: int | None = None, skip_days: int = 0, name: str = "") -> None:
        """The bank's next statement lies in its folder, and is taken in."""
        self.statements += 1
        self.put_statement(*entries, opening=opening, skip_days=skip_days, name=name)
        wanted = await self.ask("SELECT count(*) FROM fiat_bank_statements") + 1

        async def is_taken() -> bool:
            await self.house.work(only="bank-files")
            return bool(
                await self.ask("SELECT count(*) FROM fiat_bank_statements WHERE imported_at IS NOT NULL") == wanted
            )

        await eventually("the statement is taken in", is_taken)

    def put_statement(self, *entries: Entry, opening: int | None = None, skip_days: int = 0, name: str = "") -> None:
        settings = self.house.parts.settings
        folder = settings.home / "bank" / "in"
        folder.mkdir(parents=True, exist_ok=True)
        opening = self.told_cents if opening is None else opening
        number = self.statements + skip_days
        name = name or f"STMT-{number}"
        day = DAY + timedelta(days=number)
        content = camt053(
            *(replace(entry, day=day) for entry in entries), name=name, sequence=number, day=day, opening=opening
        )
        self.told_cents = opening + sum(entry.signed for entry in entries)
        (folder / f"{name}.xml").write_bytes(content)


def straw_owner(number: int) -> str:
    return f"usr_straw{number:07}"


@dataclass(slots=True)
class Barn:
    """Where haystacks come from."""

    server: Running
    chain: RunningChain
    beside: RunningChain
    signer: RunningSigner
    home: Path
    straws: int
    template: str = ""
    first: Haystack | None = None
    snapshots: tuple[str, ...] = ()
    numbers: int = 0

    @asynccontextmanager
    async def haystack(self, seed: int, *, last: bool = False) -> AsyncIterator[Haystack]:
        """As it was made, for one hand. `last`: none comes after it, so it may do to the chain what can't be undone."""
        assert self.first is not None
        first = self.first
        self.numbers += 1
        home = self.home / f"hand{self.numbers}"
        home.mkdir()
        async with fresh_database(self.server, self.template) as database:
            await _is_the_original(database)
            async with whole_house(
                self.chain,
                database,
                home,
                signer=self.signer,
                again=first.house,
                beside=self.beside,
                **settings_of(home),
            ) as house:
                house.steps = {name: step for name, step in house.steps.items() if name != "reconcile"}
                people = [
                    Person(Caller(house.api, one.caller.secret, one.caller.user), one.address) for one in first.people
                ]
                yield Haystack(
                    house=house,
                    database=database,
                    signer=self.signer,
                    people=people,
                    straws=self.straws,
                    chance=random.Random(seed),
                    statements=first.statements,
                    told_cents=first.told_cents,
                )
        if not last:
            for chain, snapshot in zip((self.chain, self.beside), self.snapshots, strict=True):
                chain.revert(snapshot)
            self.remember()

    def remember(self) -> None:
        """Both chains as they are now, to go back to."""
        self.snapshots = (self.chain.snapshot(), self.beside.snapshot())


async def _is_the_original(database: Database) -> None:
    """A copy is told from the original, and halts; as nothing was signed since, it may take its place."""
    here = await incarnation_of(database)
    connection = await asyncpg.connect(database.admin_url)
    try:
        for table in ("chain_restores", "chain_address_counters"):
            await connection.execute(f"UPDATE {table} SET incarnation = $1", here)
    finally:
        await connection.close()


async def incarnation_of(database: Database) -> str:
    async with tx(database.engine()) as connection:
        return str((await connection.execute(select(incarnation()))).scalar_one())


def settings_of(home: Path) -> dict[str, Any]:
    return SETTINGS | {"bank": {"folder": home / "bank"}}


@asynccontextmanager
async def barn(
    server: Running,
    chain: RunningChain,
    beside: RunningChain,
    signer: RunningSigner,
    home: Path,
    *,
    straws: int,
    seed: int,
) -> AsyncIterator[Barn]:
    """Make the first haystack, and let others be copied from it."""
    made = Barn(server, chain, beside, signer, home, straws)
    async with fresh_database(server) as database:
        async with whole_house(chain, database, home, signer=signer, beside=beside, **settings_of(home)) as house:
            made.first = await _fill(house, database, signer, straws, random.Random(seed))
        await database.leave()
        made.template = database.name
        made.remember()
        yield made


async def _fill(
    house: WholeHouse, database: Database, signer: RunningSigner, straws: int, chance: random.Random
) -> Haystack:
    stack = Haystack(
        house=house,
        database=database,
        signer=signer,
        people=[],
        straws=straws,
        chance=chance,
        statements=0,
        told_cents=0,
    )
    await house.work()
    await _strew(house, straws)
    for chain in house.chains.values():
        for role, units in ((KeyRole.HOT, 10 * ETHER), (KeyRole.GAS, ETHER)):
            chain.faucet("0x" + signer.address(role).hex(), units)
        chain.faucet(stack.hot, 5_000 * DOLLAR, "USDC")
    identity = house.services.identity
    for number in range(PEOPLE):
        user = await identity.create_user(handle=f"person{number}")
        key = await identity.create_key(label="key", scopes=["user"], user=user.id)
        caller = Caller(house.api, key.secret, user.id)
        person = Person(caller, await house.address(caller))
        stack.people.append(person)
        for chain in house.chains.values():
            chain.faucet(person.address, 100 * DOLLAR + number, "USDC")
            chain.faucet(person.address, ETHER + number)
    await stack.bank_sends(Entry(OPENING_CENTS, "capital of the founders"))
    for person in stack.people[:3]:
        paid = await person.caller.post(
            "/v1/top-ups", {"rail": "sandbox", "asset": "EUR", "amount": "100.00", "method": "tok_visa"}
        )
        assert paid.json()["state"] == "final", paid.text
    await house.work(blocks=FINAL_DEPTH + 1)
    await _withdraw(stack)
    await house.require_agreement()
    return stack


async def _withdraw(stack: Haystack) -> None:
    """Some of each asset has left, on both networks, so that gas and payments stand in the book."""
    for number, (network, asset, amount) in enumerate(
        (("local", "USDC", "7.5"), ("local", "ETH", "0.01"), (BESIDE, "USDC", "1.25"))
    ):
        to = f"0x{0xABC0 + number:040x}"
        body = {"asset": asset, "network": network, "amount": amount, "address": to}
        asked = await stack.people[number].caller.post("/v1/withdrawals", body)
        assert asked.status_code in (201, 202), asked.text
    for _ in range(12):
        await stack.house.work(blocks=1)
    states = {
        one["state"] for person in stack.people[:3] for one in await stack.house.items(person.caller, "/v1/withdrawals")
    }
    assert states == {"final"}, states


async def _strew(house: WholeHouse, straws: int) -> None:
    """So many users with points, given by the house."""
    source = house_account("promotion", POINTS)
    for account in (source, house_account("capital", "USDC")):
        await house.services.ledger.submit(Group((OpenAccount(id=f"needle:{account}", account=account),)))
    for begin in range(0, straws, AT_ONCE):
        groups = []
        for number in range(begin, min(begin + AT_ONCE, straws)):
            account = user_account(straw_owner(number), POINTS)
            postings = (Posting(source, account, POINTS, 1 + number % 997),)
            opening = OpenAccount(id=f"needle:open:{number}", account=account)
            groups.append(Group((opening, Post(id=f"needle:give:{number}", postings=postings))))
        for outcomes in await house.services.ledger.submit(*groups):
            assert all(outcome.accepted for outcome in outcomes), outcomes


def custody(role: Role, asset: str, network: str = "local") -> str:
    """The house's account of what its addresses of a role hold on a network."""
    return house_account(f"custody:{network}:{role}", asset)
