"""What is owed to users, all of it at one command of the book, as Merkle sum trees that each user can look into.

The book is read in one snapshot and without a lock into a spool on disk; hashing comes after, when the snapshot is
given back. A tree is one asset's, so memory is bounded by the asset that most users have.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import driver_of, tx
from ledger.copying import SESSION
from ledger.errors import BookCorrupt
from ledger.tables import books
from treasury.errors import NoLeaf, TreasuryCorrupt
from treasury.solvency_store import Sums, copy_owed, load_beside, load_sums
from treasury.solvency_tree import SumTree, Terms, build_tree


@dataclass(frozen=True, slots=True)
class OwedAsset:
    """One asset's part of the spool: where it begins, and the book's own sums to hold the tree against."""

    sums: Sums
    begins: int


@dataclass(frozen=True, slots=True)
class Owed:
    """What a book owes to its users at command `seq`, booked at `booked_at` (the book's last one). By asset's code.

    `beside`: what it owes to others, in transit and unassigned. `books`: how many there are in the database.
    """

    book: str
    seq: int
    booked_at: datetime
    assets: dict[str, OwedAsset]
    beside: dict[str, tuple[int, int]]
    books: int


@asynccontextmanager
async def snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A tx that only reads, all of it as of one instant, however long it takes."""
    async with tx(engine) as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        raw = await driver_of(connection)
        await raw.execute(
            f"{SESSION}; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
        )
        yield connection


async def read_owed(
    connection: AsyncConnection, book: str, spool: IO[bytes], *, told: Callable[[int], object] = lambda _: None
) -> Owed:
    """Read all users' balances in a snapshot into `spool`. `told` hears how many bytes came since the last time.

    Raises BookCorrupt if there is no such book.
    """
    row = (await connection.execute(select(books).where(books.c.book == book))).first()
    if row is None:
        raise BookCorrupt(f"there is no book {book!r}: create it with `onebook init`")
    raw, found = await driver_of(connection), dict[str, OwedAsset]()
    for sums in await load_sums(connection, row.number):
        taker = _Taker(spool, told)
        found[sums.asset] = OwedAsset(sums, spool.tell())
        await copy_owed(raw, row.number, sums, taker.take)
        taker.check()
    beside = await load_beside(connection, row.number)
    count = (await connection.execute(select(func.count()).select_from(books))).scalar_one()
    return Owed(book, row.seq, row.booked_at, found, beside, count)


def tree_of(
    owed: Owed,
    asset: str,
    spool: IO[bytes],
    *,
    number: int,
    key: bytes,
    told: Callable[[int], object] = lambda _: None,
) -> SumTree:
    """The tree of one asset in epoch `number`; its secret `key` has 32 bytes. `told` as in `build_tree`.

    Raises NoLeaf where no user has an account of the asset, TreasuryCorrupt where the tree isn't the book's own sum.
    """
    if asset not in owed.assets:
        raise NoLeaf(f"no user has a {asset} account", param="asset")
    part = owed.assets[asset]
    spool.seek(part.begins)
    terms = Terms(f"{owed.book}/{number}", asset, owed.seq)
    tree = build_tree(terms, _rows(spool, part.sums.users), key=key, told=told)
    if (tree.leaves, tree.total) != (part.sums.users, part.sums.owed):
        raise TreasuryCorrupt(
            f"the list of what is owed in {asset} isn't the book's own sum",
            expected=f"{part.sums.owed} to {part.sums.users}",
            found=f"{tree.total} to {tree.leaves}",
        )
    return tree


def _rows(spool: IO[bytes], count: int) -> Iterator[tuple[bytes, int]]:
    for _ in range(count):
        owner, _, amount = spool.readline().partition(b"\t")
        yield owner, int(amount)


class _Taker:
    """Keeps what COPY hands over. The driver can't end a COPY whose taker fails: what went wrong is told by `check`."""

    def __init__(self, spool: IO[bytes], told: Callable[[int], object]) -> None:
        self._spool = spool
        self._told = told
        self._failure: Exception | None = None

    async def take(self, part: bytes) -> None:
        if self._failure is not None:
            return
        try:
            self._spool.write(part)
        except Exception as error:
            self._failure = error
        self._told(len(part))

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure
