"""SQL of what's remembered of a checked journal: digests of stretches of lines, and what was found altered in them.

A digest tells that a stretch isn't what it was; which row it is, is read from that stretch alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, null, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.tables import assets
from treasury.tables import book_digests

SEQS_TOGETHER = 16_384
"""Commands whose lines are under one digest: as many as are checked leaf by leaf where it isn't what it was."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines under one digest that aren't what was checked before. `altered`: the rows named when it was seen so."""

    bucket: int
    rows: int
    digest: int
    altered: list[dict[str, Any]] | None

    @property
    def after(self) -> int:
        """The seq before its first."""
        return max(0, self.bucket * SEQS_TOGETHER - 1)

    @property
    def through(self) -> int:
        """Its last seq."""
        return (self.bucket + 1) * SEQS_TOGETHER - 1


async def count_rewritten(connection: AsyncConnection, number: int) -> int:
    """A figure that changes when lines are updated or deleted, by whomever: as a trigger and PostgreSQL itself count.

    The trigger can be dropped, and PostgreSQL's word comes seconds late: they hasten a look, and replace none.
    """
    query = text(
        "SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM treasury_rewrites)"
        " + (SELECT coalesce(sum(n_tup_upd + n_tup_del), 0) FROM pg_stat_user_tables"
        " WHERE relid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger_lines'::regclass)"
        " AND starts_with(relname, 'ledger_lines_' || CAST(:book AS integer) || '_'))"
    )
    return int(await connection.scalar(query, {"book": number}) or 0)


_LINES = (
    f"SELECT seq / {SEQS_TOGETHER} AS bucket, count(*) AS rows, bit_xor(treasury_line_digest(seq, line, kind, debit,"
    " credit, amount, debit_balance, credit_balance, hold, hold_posting)) AS digest FROM ledger_lines"
    " WHERE book = :book AND {range} GROUP BY 1"
)


async def add_lines(connection: AsyncConnection, number: int, *, after: int, through: int) -> None:
    """Add the lines of these commands to the digests."""
    statement = text(
        f"""
        INSERT INTO treasury_book_digests AS d (book, part, bucket, rows, digest)
        SELECT CAST(:book AS integer), 'lines', bucket, rows, digest
          FROM ({_LINES.format(range="seq > :after AND seq <= :through")}) AS s
            ON CONFLICT (book, part, bucket) DO UPDATE
           SET rows = d.rows + excluded.rows, digest = d.digest # excluded.digest
        """
    )
    await connection.execute(statement, {"book": number, "after": after, "through": through})


async def last_bucket(connection: AsyncConnection, number: int, *, first: int, rows_max: int) -> int:
    """The last of the line digests from `first` on that together have `rows_max` lines, but at least one."""
    query = text(
        "SELECT max(bucket) FROM (SELECT bucket, sum(rows) OVER (ORDER BY bucket) - rows AS before"
        " FROM treasury_book_digests WHERE book = :book AND part = 'lines' AND bucket >= :first) AS s"
        " WHERE before = 0 OR before + (SELECT max(rows) FROM treasury_book_digests"
        " WHERE book = :book AND part = 'lines') <= :rows_max"
    )
    found = await connection.scalar(query, {"book": number, "first": first, "rows_max": rows_max})
    return first if found is None else int(found)


async def find_altered(
    connection: AsyncConnection, number: int, *, first: int, last: int, through: int
) -> list[Stretch]:
    """Stretches from digest `first` to `last` whose lines, up to seq `through`, aren't what was checked before."""
    statement = text(
        f"""
        SELECT bucket, coalesce(found.rows, 0) AS rows, coalesce(found.digest, 0) AS digest,
               CASE WHEN (kept.found_rows, kept.found_digest) = (coalesce(found.rows, 0), coalesce(found.digest, 0))
                    THEN kept.altered END AS altered
          FROM ({_LINES.format(range="seq >= :least AND seq <= :most")}) AS found
          FULL JOIN (SELECT * FROM treasury_book_digests
                      WHERE book = :book AND part = 'lines' AND bucket BETWEEN :first AND :last) AS kept
         USING (bucket)
         WHERE (found.rows, found.digest) IS DISTINCT FROM (kept.rows, kept.digest) ORDER BY bucket
        """
    )
    bounds = {"first": first, "last": last, "least": first * SEQS_TOGETHER}
    most = min(through, (last + 1) * SEQS_TOGETHER - 1)
    rows = await connection.execute(statement, {"book": number, "most": most, **bounds})
    return [Stretch(row.bucket, row.rows, row.digest, row.altered) for row in rows]


async def note_altered(
    connection: AsyncConnection, number: int, stretch: Stretch, altered: Sequence[Mapping[str, Any]]
) -> None:
    """Remember which rows were named in a stretch as it is now, so that it's looked through once."""
    values = {"found_rows": stretch.rows, "found_digest": stretch.digest, "altered": list(altered)}
    row = insert(book_digests).values(book=number, part="lines", bucket=stretch.bucket, rows=0, digest=0, **values)
    await connection.execute(row.on_conflict_do_update(index_elements=["book", "part", "bucket"], set_=values))


async def settle_altered(
    connection: AsyncConnection, number: int, *, first: int, last: int, still: Iterable[int]
) -> int:
    """Forget what was altered in stretches that are again what they were; how many those are."""
    digests = book_digests.c
    again = (
        update(book_digests)
        .where(
            digests.book == number,
            digests.part == "lines",
            digests.bucket.between(first, last),
            digests.found_rows.is_not(None),
            digests.bucket.not_in(list(still)),
        )
        .values(found_rows=None, found_digest=None, altered=null())
    )
    return (await connection.execute(again)).rowcount


async def load_altered(connection: AsyncConnection, number: int) -> list[dict[str, Any]]:
    """The rows named in stretches that weren't looked at now, or were seen so before."""
    digests = book_digests.c
    query = select(digests.altered).where(digests.book == number, digests.found_rows.is_not(None))
    return [row for rows in await connection.scalars(query.order_by(digests.bucket)) for row in rows]


@dataclass(frozen=True, slots=True)
class JournalLine:
    """A line as it stands: which, its debit account, and the amount."""

    seq: int
    line: int
    account: str
    asset: str
    amount: int


async def load_names(connection: AsyncConnection, number: int, *, after: int, through: int) -> dict[bytes, bytes]:
    """Names of the accounts in a stretch's lines, by their numbers, both as COPY writes them."""
    query = text(
        """
        SELECT a.account, a.name FROM ledger_accounts a WHERE a.book = :book AND a.account IN (
            SELECT debit FROM ledger_lines WHERE book = :book AND seq > :after AND seq <= :through
             UNION SELECT credit FROM ledger_lines WHERE book = :book AND seq > :after AND seq <= :through)
        """
    )
    rows = await connection.execute(query, {"book": number, "after": after, "through": through})
    return {str(row.account).encode(): row.name.encode() for row in rows}


async def load_lines(connection: AsyncConnection, number: int, seqs: Iterable[int]) -> list[JournalLine]:
    """The lines of these commands as they stand, in their order."""
    query = text(
        """
        SELECT l.seq, l.line, a.name, a.asset, l.amount::numeric AS amount FROM ledger_lines l
          JOIN ledger_accounts a ON a.book = l.book AND a.account = l.debit
         WHERE l.book = :book AND l.seq = ANY(CAST(:seqs AS bigint[])) ORDER BY l.seq, l.line
        """
    )
    rows = await connection.execute(query, {"book": number, "seqs": list(seqs)})
    return [JournalLine(row.seq, row.line, row.name, row.asset, int(row.amount)) for row in rows]


async def any_asset(connection: AsyncConnection) -> str:
    """An asset that there is, in which nothing can be shown of a row that's gone."""
    return str(await connection.scalar(select(func.min(assets.c.asset))))
