"""SQL of what's remembered of a checked book: how far, and what each account's lines come to.

Set-based throughout: a million accounts cross no wire. What differs is read row by row, and only then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.tables import books
from treasury.comparison import COUNTERS, Counters
from treasury.tables import book_checks, book_counters, book_digests

ACCOUNTS_TOGETHER = 1_024
"""Accounts, by number, under one digest."""


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a book was checked: the last seq, what PostgreSQL said of rewritten rows then, where to look on."""

    seq: int
    server: int
    rewritten: int
    next_bucket: int


async def begin(connection: AsyncConnection) -> None:
    """Let one check of a book at a time go on, and let this tx see one instant: the first after that."""
    await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    await connection.exec_driver_sql("LOCK TABLE treasury_book_checks IN SHARE ROW EXCLUSIVE MODE")  # no snapshot yet


async def load_seq(connection: AsyncConnection, number: int) -> int:
    """The seq of the book's last command."""
    return int((await connection.execute(select(books.c.seq).where(books.c.number == number))).scalar_one())


async def load_checked(connection: AsyncConnection, number: int) -> Checked | None:
    """How far the book was checked; None if it never was."""
    row = (await connection.execute(select(book_checks).where(book_checks.c.book == number))).one_or_none()
    return None if row is None else Checked(row.seq, row.server, row.rewritten, row.next_bucket)


async def save_checked(connection: AsyncConnection, number: int, checked: Checked, *, now: datetime) -> None:
    values = {
        "seq": checked.seq,
        "server": checked.server,
        "rewritten": checked.rewritten,
        "next_bucket": checked.next_bucket,
        "checked_at": now,
    }
    statement = insert(book_checks).values(book=number, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["book"], set_=values))


async def server_version(connection: AsyncConnection) -> int:
    """PostgreSQL's major version, which digests depend on."""
    return int(await connection.scalar(text("SELECT current_setting('server_version_num')::integer / 10000")) or 0)


async def forget(connection: AsyncConnection, number: int) -> None:
    """All that is remembered of the book."""
    for table in (book_checks, book_counters, book_digests):
        await connection.execute(delete(table).where(table.c.book == number))


# Sums

_SIDES = """
    SELECT debit AS account, CASE kind WHEN 'posted' THEN amount::numeric ELSE 0 END AS debits_posted,
           0::numeric AS credits_posted, {pending} AS debits_pending, 0::numeric AS credits_pending
      FROM ledger_lines WHERE book = :book AND {range}
     UNION ALL
    SELECT credit, 0, CASE kind WHEN 'posted' THEN amount::numeric ELSE 0 END, 0, {pending}
      FROM ledger_lines WHERE book = :book AND {range}
"""
_PENDING = (
    "CASE WHEN kind = 'held' THEN amount::numeric WHEN kind = 'released' OR hold IS NOT NULL THEN -amount::numeric"
    " ELSE 0 END"
)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in COUNTERS)
_NAMES = ", ".join(COUNTERS)


def _digest(table: str) -> str:
    return f"treasury_counters_digest({table}.account, {', '.join(f'{table}.{name}' for name in COUNTERS)})"


_ADD = text(
    f"""
    WITH sums AS (
        SELECT account, {_SUMS} FROM ({_SIDES.format(pending=_PENDING, range="seq > :after AND seq <= :through")}) AS s
         GROUP BY account
    ), before AS (
        SELECT k.* FROM treasury_book_counters k JOIN sums USING (account) WHERE k.book = :book
    ), after AS (
        INSERT INTO treasury_book_counters AS k (book, account, {_NAMES})
        SELECT CAST(:book AS integer), account, {_NAMES} FROM sums
            ON CONFLICT (book, account) DO UPDATE SET {", ".join(f"{n} = k.{n} + excluded.{n}" for n in COUNTERS)}
        RETURNING k.*
    )
    INSERT INTO treasury_book_digests AS d (book, part, bucket, rows, digest)
    SELECT CAST(:book AS integer), 'accounts', after.account / {ACCOUNTS_TOGETHER}, 0,
           bit_xor({_digest("after")} # coalesce({_digest("before")}, 0))
      FROM after LEFT JOIN before USING (account) GROUP BY 3
        ON CONFLICT (book, part, bucket) DO UPDATE SET digest = d.digest # excluded.digest
    """
)
_ADD_UP = text(
    f"""
    INSERT INTO treasury_book_counters AS k (book, account, {_NAMES})
    SELECT CAST(:book AS integer), account, {_SUMS}
      FROM ({_SIDES.format(pending=_PENDING, range="seq <= :through")}
            UNION ALL SELECT account, 0, 0, 0, 0 FROM treasury_book_counters WHERE book = :book) AS s
     GROUP BY account
        ON CONFLICT (book, account) DO UPDATE SET {", ".join(f"{n} = excluded.{n}" for n in COUNTERS)}
     WHERE ({", ".join(f"k.{n}" for n in COUNTERS)}) IS DISTINCT FROM ({", ".join(f"excluded.{n}" for n in COUNTERS)})
    """
)
_DIGEST_SUMS = text(
    f"""
    INSERT INTO treasury_book_digests AS d (book, part, bucket, rows, digest)
    SELECT CAST(:book AS integer), 'accounts', k.account / {ACCOUNTS_TOGETHER}, 0, bit_xor({_digest("k")})
      FROM treasury_book_counters k WHERE k.book = :book GROUP BY 3
        ON CONFLICT (book, part, bucket) DO UPDATE SET digest = excluded.digest WHERE d.digest <> excluded.digest
    """
)


async def add_sums(connection: AsyncConnection, number: int, *, after: int, through: int) -> None:
    """Add the lines of the commands after `after`, up to `through`, to what accounts' lines come to."""
    await connection.execute(_ADD, {"book": number, "after": after, "through": through})


async def add_up(connection: AsyncConnection, number: int, *, through: int) -> None:
    """What accounts' lines come to, anew from all lines."""
    await connection.execute(_ADD_UP, {"book": number, "through": through})
    await connection.execute(_DIGEST_SUMS, {"book": number})


async def find_drifting(connection: AsyncConnection, number: int, *, limit: int) -> list[int]:
    """Digests of accounts, at most `limit`, that stored counters and sums differ in. One pass over all counters."""
    scan = text(
        f"""
        SELECT bucket FROM (
            SELECT account / {ACCOUNTS_TOGETHER} AS bucket, bit_xor({_digest("a")}) AS digest
              FROM ledger_accounts a WHERE book = :book GROUP BY 1) AS stored
          FULL JOIN (SELECT bucket, digest FROM treasury_book_digests WHERE book = :book AND part = 'accounts') AS kept
         USING (bucket)
         WHERE coalesce(stored.digest, 0) <> coalesce(kept.digest, 0) ORDER BY bucket LIMIT :limit
        """
    )
    return list(await connection.scalars(scan, {"book": number, "limit": limit}))


_ASSET = "coalesce(a.asset, (SELECT min(asset) FROM ledger_assets))"
"""Of an account whose row is gone nobody knows the asset; its amounts are shown in one that there is."""


async def load_drift(connection: AsyncConnection, number: int, buckets: Sequence[int], *, limit: int) -> list[Counters]:
    """Accounts under these digests whose stored counters aren't what their lines come to, at most `limit`."""
    stored, kept = (", ".join(f"{table}.{name} AS {table}_{name}" for name in COUNTERS) for table in ("a", "k"))
    rows = text(
        f"""
        SELECT coalesce(a.name, 'account ' || k.account) AS name, {_ASSET} AS asset, {stored}, {kept}
          FROM (SELECT * FROM ledger_accounts
                 WHERE book = :book AND account / {ACCOUNTS_TOGETHER} = ANY(CAST(:buckets AS integer[]))) AS a
          FULL JOIN (SELECT * FROM treasury_book_counters
                      WHERE book = :book AND account / {ACCOUNTS_TOGETHER} = ANY(CAST(:buckets AS integer[]))) AS k
         USING (account)
         WHERE {" OR ".join(f"coalesce(a.{n}::numeric, 0) <> coalesce(k.{n}::numeric, 0)" for n in COUNTERS)}
         ORDER BY account LIMIT :limit
        """
    )
    found = await connection.execute(rows, {"book": number, "buckets": list(buckets), "limit": limit})
    return [Counters(row.name, row.asset, _four(row, "a_"), _four(row, "k_")) for row in found]


async def renew_digests(connection: AsyncConnection, number: int) -> None:
    """Digests of the sums anew: where they differed though no account did."""
    await connection.execute(_DIGEST_SUMS, {"book": number})


async def sum_assets(connection: AsyncConnection, number: int) -> dict[str, int]:
    """Assets whose stored balances don't sum to zero, and what they sum to."""
    query = text(
        "SELECT asset, sum(credits_posted::numeric - debits_posted::numeric) AS total FROM ledger_accounts"
        " WHERE book = :book GROUP BY asset HAVING sum(credits_posted::numeric - debits_posted::numeric) <> 0"
    )
    rows = await connection.execute(query, {"book": number})
    return {row.asset: int(row.total) for row in rows}


async def count_accounts(connection: AsyncConnection, number: int) -> int:
    """How many accounts the book has."""
    return int((await connection.execute(select(books.c.accounts).where(books.c.number == number))).scalar_one())


async def load_house(connection: AsyncConnection, number: int) -> list[Counters]:
    """The house's accounts at banks and payment providers, with what their lines come to as they were last added up."""
    stored = ", ".join(f"a.{name} AS a_{name}" for name in COUNTERS)
    kept = ", ".join(f"coalesce(k.{name}::numeric, 0) AS k_{name}" for name in COUNTERS)
    query = text(
        f"""
        SELECT a.name, a.asset, {stored}, {kept}
          FROM ledger_accounts a LEFT JOIN treasury_book_counters k ON k.book = a.book AND k.account = a.account
         WHERE a.book = :book AND a.owner = 'house'
           AND (starts_with(a.purpose, 'bank:') OR starts_with(a.purpose, 'provider:')) ORDER BY a.name
        """
    )
    rows = await connection.execute(query, {"book": number})
    return [Counters(row.name, row.asset, _four(row, "a_"), _four(row, "k_")) for row in rows]


@dataclass(frozen=True, slots=True)
class HeldDrift:
    """An account whose open holds come to something else than its lines hold on one side."""

    account: str
    asset: str
    side: str
    by_lines: int
    by_holds: int


async def find_held_drift(connection: AsyncConnection, number: int, *, limit: int) -> list[HeldDrift]:
    """Accounts whose open holds aren't what their lines hold."""
    query = text(
        """
        WITH open AS (
            SELECT account, side, sum(remaining::numeric) AS remaining
              FROM ledger_holds, LATERAL (VALUES (debit, 'debits_pending'), (credit, 'credits_pending'))
                   AS sides(account, side)
             WHERE book = :book AND state = 'open' GROUP BY account, side
        ), kept AS (
            SELECT account, side, pending
              FROM treasury_book_counters, LATERAL (VALUES ('debits_pending', debits_pending::numeric),
                   ('credits_pending', credits_pending::numeric)) AS sides(side, pending)
             WHERE book = :book AND (debits_pending <> 0 OR credits_pending <> 0) AND pending <> 0
        )
        SELECT a.name, a.asset, side, coalesce(kept.pending, 0) AS by_lines, coalesce(open.remaining, 0) AS by_holds
          FROM open FULL JOIN kept USING (account, side)
          JOIN ledger_accounts a ON a.book = :book AND a.account = coalesce(open.account, kept.account)
         WHERE coalesce(kept.pending, 0) <> coalesce(open.remaining, 0) ORDER BY a.account, side LIMIT :limit
        """
    )
    rows = await connection.execute(query, {"book": number, "limit": limit})
    return [HeldDrift(row.name, row.asset, row.side, int(row.by_lines), int(row.by_holds)) for row in rows]


def _four(row: Row[Any], prefix: str) -> tuple[int, int, int, int]:
    first, second, third, fourth = (int(getattr(row, prefix + name) or 0) for name in COUNTERS)
    return first, second, third, fourth
