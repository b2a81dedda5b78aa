"""Sealing: a worker's step signs what was booked since the last seal and writes the seal into a file outside.

The database is told of a seal by `ledger_seal` alone, which refuses anything but the next contiguous stretch; the key
and the signing stay in this process. Which commands there are is told by their gapless seq, never by transaction ids,
so sealing goes on after a dump and a restore. Not here: recomputing what the rows say (`ledger.audit`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from base.clock import Clock
from base.files import write_atomically
from db.engine import driver_of, tx
from ledger.copying import copied, rows_of
from ledger.errors import BookCorrupt
from ledger.merkle import Frontier
from ledger.seals import (
    PUBLIC_NAME,
    Seal,
    SealKey,
    SignedSeal,
    public_pem,
    read_seal,
    seal_numbers,
    seal_path,
    write_seal,
)
from ledger.tables import books, seals

COMMANDS_MAX = 100_000
"""Commands under one seal at most; bounds a step, and the leaves that one inclusion proof needs."""

INTERVAL = timedelta(minutes=10)
"""How long booked commands wait at most for their seal. What isn't sealed yet is held by the book's head alone."""

CHUNK = 20_000
"""Leaves read at a time."""

LEAVES = "SELECT seq, encode(leaf, 'hex') FROM ledger_commands WHERE book = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq"


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a book stands: its number, its last seq, and its last seal."""

    number: int
    seq: int
    last: SignedSeal | None


class SealBook:
    """Seals one book. `folder` is where the files go; `interval` is how long commands may wait to be sealed."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        book: str,
        key: SealKey,
        folder: Path,
        clock: Clock,
        interval: timedelta = INTERVAL,
        commands_max: int = COMMANDS_MAX,
    ) -> None:
        self._engine = engine
        self._book = book
        self._key = key
        self._folder = folder
        self._clock = clock
        self._interval = interval
        self._commands_max = commands_max
        self._is_exported = False

    async def step(self) -> int:
        """Seal the next stretch if it's due; how many seals were made, 0 or 1.

        Raises BookCorrupt for a gap in the book's seqs, for a book that lacks what was sealed, and for a seal that this
        key didn't sign.
        """
        async with tx(self._engine) as connection:
            standing = await self._standing(connection)
        if not self._is_exported:
            await self._export_missing(standing)
            self._is_exported = True
        waiting = standing.seq - (standing.last.seal.last_seq if standing.last else 0)
        if waiting < 0:
            raise BookCorrupt(f"book {self._book} ends before its last seal does", seq=standing.seq)
        if not waiting or (waiting < self._commands_max and not self._is_due(standing.last)):
            return 0
        return await self._seal_next(standing)

    def _is_due(self, last: SignedSeal | None) -> bool:
        return last is None or self._clock.now() >= last.seal.sealed_at + self._interval

    async def _seal_next(self, standing: _Standing) -> int:
        earlier = standing.last.seal if standing.last else None
        first = earlier.last_seq + 1 if earlier else 1
        last = min(standing.seq, first + self._commands_max - 1)
        async with tx(self._engine) as connection:
            root = await compute_root(connection, standing.number, first_seq=first, last_seq=last)
        now = self._clock.now()
        seal = Seal(
            book=self._book,
            number=earlier.number + 1 if earlier else 1,
            first_seq=first,
            last_seq=last,
            root=root,
            previous=earlier.digest() if earlier else None,
            sealed_at=max(now, earlier.sealed_at) if earlier else now,
        )
        signed = self._key.sign(seal)
        async with tx(self._engine) as connection:
            raw = await driver_of(connection)
            if not await _store(raw, standing.number, signed):
                return 0  # another worker was faster
        write_seal(self._folder, signed)
        return 1

    async def _export_missing(self, standing: _Standing) -> None:
        """Compare the files with the rows, once; write those that are missing, after a crash between row and file.

        A row is exported only if our own key signed it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / PUBLIC_NAME, public_pem(self._key.public), mode=0o644)
        outside = seal_numbers(self._folder, self._book)
        last = standing.last.seal.number if standing.last else 0
        if outside and outside[-1] > last:
            raise BookCorrupt(
                f"book {self._book} lacks seal {outside[-1]}, which lies in {self._folder}: it isn't the book that was"
                " sealed, or an older state of it",
                seal=outside[-1],
            )
        missing = sorted(set(range(1, last + 1)) - set(outside))
        async with tx(self._engine) as connection:
            if outside:
                [newest] = await load_seals(connection, self._book, outside[-1:])
                if newest != read_seal(seal_path(self._folder, self._book, outside[-1])):
                    raise BookCorrupt(f"seal {outside[-1]} isn't the one in {self._folder}", seal=outside[-1])
            for signed in await load_seals(connection, self._book, missing):
                signed.check((self._key.public,))
                write_seal(self._folder, signed)

    async def _standing(self, connection: AsyncConnection) -> _Standing:
        row = (await connection.execute(select(books.c.number, books.c.seq).where(books.c.book == self._book))).first()
        if row is None:
            raise BookCorrupt(f"there is no book {self._book!r}: create it with `onebook init`")
        last = await last_seal(connection, self._book)
        return _Standing(row.number, row.seq, last)


async def compute_root(connection: AsyncConnection, number: int, *, first_seq: int, last_seq: int) -> bytes:
    """The root over the stored leaves of these commands. Raises BookCorrupt, which names it, when one is missing."""
    raw = await driver_of(connection)
    frontier = Frontier()
    for start in range(first_seq, last_seq + 1, CHUNK):
        end = min(start + CHUNK - 1, last_seq)
        rows = [row.split(b"\t") for row in rows_of(await copied(raw, LEAVES, number, start, end))]
        for expected, (seq, _) in enumerate(rows, start=start):
            if int(seq) != expected:
                raise _gap(expected)
        if len(rows) != end - start + 1:
            raise _gap(start + len(rows))
        frontier.extend(bytes.fromhex(leaf.decode()) for _, leaf in rows)
    return frontier.root()


def _gap(seq: int) -> BookCorrupt:
    return BookCorrupt(f"command {seq} is missing: the book's seqs have a gap", seq=seq)


async def last_seal(connection: AsyncConnection, book: str) -> SignedSeal | None:
    """The newest seal of a book."""
    row = (await connection.execute(_sealed(book).order_by(seals.c.number.desc()).limit(1))).first()
    return None if row is None else _seal_of(row)


async def seal_over(connection: AsyncConnection, book: str, seq: int) -> SignedSeal | None:
    """The seal that covers a command; None if there is none yet."""
    covering = _sealed(book).where(seals.c.last_seq >= seq).order_by(seals.c.last_seq).limit(1)
    row = (await connection.execute(covering)).first()
    return None if row is None else _seal_of(row)


async def load_seals(connection: AsyncConnection, book: str, numbers: Sequence[int]) -> list[SignedSeal]:
    """Those seals of a book that have these numbers, in order."""
    query = _sealed(book).where(seals.c.number.in_(numbers)).order_by(seals.c.number)
    return [_seal_of(row) for row in await connection.execute(query)] if numbers else []


async def load_all_seals(connection: AsyncConnection, book: str) -> list[SignedSeal]:
    """Every seal of a book, in order."""
    return [_seal_of(row) for row in await connection.execute(_sealed(book).order_by(seals.c.number))]


def _sealed(book: str) -> Select[Any]:
    return (
        select(books.c.book, seals).join_from(seals, books, seals.c.book == books.c.number).where(books.c.book == book)
    )


def _seal_of(row: Row[Any]) -> SignedSeal:
    seal = Seal(
        book=row[0],
        number=row.number,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        root=row.root,
        previous=row.previous,
        sealed_at=row.sealed_at,
    )
    return SignedSeal(seal, row.signature, row.key)


async def _store(raw: "asyncpg.Connection[Any]", number: int, signed: SignedSeal) -> bool:
    """Tell the database of a seal; False if it isn't the next one."""
    seal = signed.seal
    return bool(
        await raw.fetchval(
            "SELECT ledger_seal($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            number,
            seal.number,
            seal.first_seq,
            seal.last_seq,
            seal.root,
            seal.previous,
            seal.sealed_at,
            signed.signature,
            signed.key,
        )
    )
