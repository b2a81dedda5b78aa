"""What a crowd of processes says to one book. Every group follows from the seed and its name, so that whoever reads the
name in the journal knows what was asked: tests replay a book that was written by many, killed or not.

Accounts, holds, rows and limits are few, so that everybody is in everybody's way.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, Table, Text, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import tx
from db.tables import metadata
from ledger.commands import (
    BankEvidence,
    Charge,
    Command,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
    alone,
)
from ledger.money import Asset, AssetKind
from ledger.riders import Advance, Insert
from ledger.service import PostgresLedger

EUR = Asset("EUR", AssetKind.FIAT, 2)
USERS = tuple(f"usr_{name}/wallet/EUR" for name in "abcde")
BANK, FEES, RECEIVABLE = (f"house/{purpose}/EUR" for purpose in ("bank:main", "fees", "receivable:usr_a"))
EVERYONE = (*USERS, BANK, FEES, RECEIVABLE)
ROWS = 12
PROCESSES = 8

OPENING = Group(tuple(OpenAccount(id=f"open:{account}", account=account) for account in EVERYONE))
FUNDING = alone(
    Post(
        id="funding",
        postings=tuple(Posting(debit=BANK, credit=user, asset="EUR", amount=150) for user in USERS),
        evidence=BankEvidence("main", "S1", 1),
    )
)

THINGS = "crowd_things"
"""The table that riders write."""

if THINGS not in metadata.tables:
    _columns = Column("book", Text, primary_key=True), Column("id", Text, primary_key=True), Column("state", Text)
    things = Table(THINGS, metadata, *_columns, info={"of": "tests"})


@dataclass(frozen=True, slots=True)
class Crowd:
    """A crowd by its seed; `epoch` is when it began: holds that expire do so half an hour later, more or less."""

    seed: int
    epoch: datetime

    def group(self, name: str) -> Group:
        """What is meant by a name: `p3.17` is the 17th of process 3, `s5/0` and `s5/1` the fifth that all may say."""
        chance = random.Random(f"{self.seed}/{name}")
        if name.startswith("s"):
            return alone(Post(id=name.partition("/")[0], postings=_postings(chance), subject=f"sub_{name[1:]}"))
        process, number = (int(part) for part in name[1:].split("."))
        if number % 5 == 0:
            return alone(self._hold(chance, name))
        return self._other(chance, name, process, number)

    def names(self, process: int, start: int) -> Iterator[str]:
        """What process says, from its number `start` on, endlessly: its own, now and then again, and what all say."""
        chance = random.Random(f"{self.seed}/names/{process}/{start}")
        number = start
        while True:
            draw = chance.random()
            if draw < 0.10:
                yield f"s{number + chance.randint(-3, 3)}/{chance.choice('0001')}"
            elif draw < 0.15 and number > 1:
                yield f"p{process}.{max(1, number - chance.randint(1, 30))}"
            else:
                yield f"p{process}.{number}"
                number += 1

    def _hold(self, chance: random.Random, name: str) -> Hold:
        expires_at = (
            self.epoch + timedelta(minutes=30, seconds=chance.uniform(-5, 60)) if chance.random() < 0.4 else None
        )
        charges = (Charge(f"limit:{chance.randint(1, 4)}", 1, 60),) if chance.random() < 0.3 else ()
        return Hold(id=name, postings=_postings(chance), expires_at=expires_at, charges=charges, subject=f"hld_{name}")

    def _other(self, chance: random.Random, name: str, process: int, number: int) -> Group:
        whose = process if chance.random() < 0.6 else chance.randrange(PROCESSES)
        near = number + chance.randint(-12, 2)
        hold = f"p{whose}.{max(5, near - near % 5)}"
        draw = chance.random()
        if draw < 0.40:
            return alone(Post(id=name, postings=_postings(chance), metadata={"memo": name} if draw < 0.05 else {}))
        if draw < 0.44:
            return alone(Post(id=name, postings=_postings(chance), covered=True, charges=(Charge("limit:1", 2, 400),)))
        if draw < 0.47:
            split = Posting(debit=USERS[0], credit=BANK, asset="EUR", amount=40, debit_rest=RECEIVABLE)
            return alone(Post(id=name, postings=(split,), evidence=BankEvidence("main", f"S{name}", 2)))
        if draw < 0.50:
            split = Posting(debit=BANK, credit=RECEIVABLE, asset="EUR", amount=40, credit_rest=USERS[0])
            return alone(Post(id=name, postings=(split,), evidence=BankEvidence("main", f"S{name}", 3)))
        if draw < 0.68:
            return alone(_ending(chance, name, hold))
        if draw < 0.76:
            first = Hold(id=name, postings=_postings(chance))
            return Group((first, Settle(id=f"{name}b", hold=name, amounts=((0, 1),), close=chance.random() < 0.5)))
        if draw < 0.80:
            return Group((Post(id=name, postings=_postings(chance)), Post(id=f"{name}b", postings=_postings(chance))))
        if draw < 0.90:
            return alone(Post(id=name, postings=_postings(chance)), _rider(chance))
        if draw < 0.93:
            return alone(Reverse(id=name, entry=f"p{process}.{max(1, number - chance.randint(1, 9))}"))
        if draw < 0.95:
            return alone(SetCreditLine(id=name, account=USERS[1], cap=chance.randint(0, 30)))
        if draw < 0.97:
            kind = chance.choice((Freeze, Unfreeze, Unfreeze))
            return alone(kind(id=name, scope=FreezeScope.OWNER, target="usr_e"))
        account = f"usr_new{number % 40}/wallet/EUR"
        gift = Posting(debit=BANK, credit=account, asset="EUR", amount=1)
        return Group((OpenAccount(id=name, account=account), Post(id=f"{name}b", postings=(gift,))))


def _postings(chance: random.Random) -> tuple[Posting, ...]:
    postings = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        draw = chance.random()
        if draw < 0.75:
            debit, credit = chance.sample(USERS, 2)
        elif draw < 0.90:
            debit, credit = BANK, chance.choice(USERS)
        else:
            debit, credit = chance.choice(USERS), FEES
        postings.append(Posting(debit=debit, credit=credit, asset="EUR", amount=chance.randint(1, 25)))
    return tuple(postings)


def _ending(chance: random.Random, name: str, hold: str) -> Command:
    draw = chance.random()
    if draw < 0.6:
        part = ((0, chance.randint(1, 6)),) if chance.random() < 0.5 else None
        return Settle(id=name, hold=hold, amounts=part, close=chance.random() < 0.3)
    return Void(id=name, hold=hold) if draw < 0.8 else Expire(id=name, hold=hold)


def _rider(chance: random.Random) -> Insert | Advance:
    key = {"book": "main", "id": f"r{chance.randrange(ROWS)}"}
    if chance.random() < 0.4:
        return Insert(THINGS, key, {"state": "new"})
    old, new = chance.choice((("new", "used"), ("used", "new")))
    return Advance(THINGS, key, {"state": old}, {"state": new})


async def found_book(owner: AsyncEngine, app: AsyncEngine) -> None:
    """Make the book that the crowd meets at, and the table that its riders write."""
    async with tx(owner) as connection:
        columns = "book text, id text, state text, PRIMARY KEY (book, id)"
        await connection.execute(text(f"CREATE TABLE {THINGS} ({columns})"))
        await connection.execute(text(f"GRANT SELECT, INSERT, UPDATE ON {THINGS} TO onebook_app"))
    ledger = PostgresLedger(app, clock=_Epoch())
    await ledger.create_book()
    await ledger.register_asset(EUR)
    await ledger.submit(OPENING, FUNDING)
    await ledger.aclose()


class _Epoch:
    """Before anybody's clock."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)
