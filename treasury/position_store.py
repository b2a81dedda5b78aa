"""SQL of positions: what a book's accounts come to by asset and purpose, now, at a seq, or through a block.

Nothing reads accounts into Python, nor the journal as a whole. Now: one pass over the counters. At a seq: the house's
accounts alone, one index probe a side; since each line has two sides, users have what those leave.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from db.types import Instant
from ledger.accounts import HOUSE
from treasury.position import RECEIVABLE, USERS

Sums = dict[tuple[str, str], int]
"""Balances (credits less debits) by asset and part: a purpose of the house, or `USERS`."""

_PART = f"""
    CASE WHEN a.owner <> '{HOUSE}' THEN '{USERS}' WHEN a.purpose LIKE 'receivable:%' THEN '{RECEIVABLE}'
         ELSE a.purpose END
"""

_NOW = f"""
    SELECT a.asset, {_PART} AS part, sum(a.credits_posted::numeric - a.debits_posted::numeric)::text AS balance
      FROM ledger_accounts a WHERE a.book = :book GROUP BY 1, 2
"""

_AT = f"""
    SELECT a.asset, {_PART} AS part, sum(coalesce(told.balance, 0))::text AS balance
      FROM ledger_accounts a LEFT JOIN LATERAL (
        SELECT balance FROM (
            (SELECT seq, line, debit_balance::numeric AS balance FROM ledger_lines l
              WHERE l.book = :book AND l.debit >= a.account AND (l.debit, l.seq) <= (a.account, :through)
              ORDER BY l.debit DESC, l.seq DESC FETCH FIRST 1 ROW WITH TIES)
            UNION ALL
            (SELECT seq, line, credit_balance::numeric FROM ledger_lines l
              WHERE l.book = :book AND l.credit >= a.account AND (l.credit, l.seq) <= (a.account, :through)
              ORDER BY l.credit DESC, l.seq DESC FETCH FIRST 1 ROW WITH TIES)
        ) last ORDER BY seq DESC, line DESC LIMIT 1
      ) told ON true
     WHERE a.book = :book AND a.owner = '{HOUSE}' GROUP BY 1, 2
"""
"""Pairs and ties for the reasons that docs/plans.md tells."""

_OF_BLOCKS = f"""
    WITH told AS (
        SELECT seq, 1 AS sign FROM ledger_evidence
         WHERE book = :book AND network = :network AND block_number <= :block AND seq > :through
        UNION ALL
        SELECT seq, -1 FROM ledger_evidence
         WHERE book = :book AND network = :network AND block_number > :block AND seq <= :through
    )
    SELECT a.asset, {_PART} AS part, sum(side.amount)::text AS balance
      FROM told
      CROSS JOIN LATERAL (SELECT debit, credit, amount FROM ledger_lines
                           WHERE book = :book AND seq = told.seq AND kind = 'posted' OFFSET 0) l
      CROSS JOIN LATERAL (VALUES (l.debit, -told.sign * l.amount::numeric), (l.credit, told.sign * l.amount::numeric))
                 side(account, amount)
      JOIN ledger_accounts a ON a.book = :book AND a.account = side.account
     GROUP BY 1, 2
"""
"""`OFFSET 0` keeps it a probe per entry: a join would read all lines where many entries are looked at."""


async def sums_now(connection: AsyncConnection, number: int) -> Sums:
    """What the counters of all accounts come to, users' as well: who doubts them compares."""
    return await _sums(connection, _NOW, book=number)


async def sums_at(connection: AsyncConnection, number: int, seq: int) -> Sums:
    """What the accounts came to after the command `seq`, as the journal tells it."""
    house = await _sums(connection, _AT, book=number, through=seq)
    users: Sums = {}
    for (asset, _), balance in house.items():
        users[asset, USERS] = users.get((asset, USERS), 0) - balance
    return house | users


async def sums_through(connection: AsyncConnection, number: int, *, network: str, block: int, seq: int) -> Sums:
    """What they came to with the entries that a network's blocks up to `block` cause, and all others up to `seq`.

    Entries of blocks that left the chain cancel out with what took them back, which names the same block.
    """
    found = await sums_at(connection, number, seq)
    for key, change in (
        await _sums(connection, _OF_BLOCKS, book=number, network=network, block=block, through=seq)
    ).items():
        found[key] = found.get(key, 0) + change
    return found


async def _sums(connection: AsyncConnection, query: str, **values: Any) -> Sums:
    rows = await connection.execute(text(query), values)
    return {(row.asset, row.part): int(row.balance) for row in rows}


@dataclass(frozen=True, slots=True)
class BlockTime:
    """A live block that was taken in, and when: by its own clock, but never later than it was seen."""

    network: str
    number: int
    block_hash: str
    at: datetime


async def load_block(connection: AsyncConnection, network: str, number: int) -> BlockTime | None:
    """The live block at a height."""
    block = chain.blocks.c
    query = select(block.block_hash, block.mined_at, block.seen_at)
    live = query.where(block.network == network, block.number == number, ~block.orphaned)
    row = (await connection.execute(live)).one_or_none()
    return None if row is None else BlockTime(network, number, row.block_hash, min(row.mined_at, row.seen_at))


async def first_booked_at(connection: AsyncConnection, number: int) -> datetime | None:
    """When the book began; None while it's empty."""
    query = text("SELECT booked_at FROM ledger_commands WHERE book = :book AND seq = 1").columns(booked_at=Instant)
    found: datetime | None = await connection.scalar(query, {"book": number})
    return found


_PAYER = """
    JOIN ledger_accounts payer ON payer.book = :book AND payer.account = l.payer
         AND payer.owner = 'house' AND payer.purpose LIKE :custody
"""

_GAS = f"""
    SELECT sum(l.amount)::text AS amount, min(l.seq) AS first
      FROM ledger_accounts fees CROSS JOIN LATERAL (
        SELECT seq, credit AS payer, amount::numeric AS amount FROM ledger_lines
         WHERE book = :book AND kind = 'posted' AND seq > :since AND seq <= :through
           AND (debit, seq) > (fees.account, :since) AND (debit, seq) <= (fees.account, :through)
        UNION ALL
        SELECT seq, debit, -amount::numeric FROM ledger_lines
         WHERE book = :book AND kind = 'posted' AND seq > :since AND seq <= :through
           AND (credit, seq) > (fees.account, :since) AND (credit, seq) <= (fees.account, :through)
      ) l {_PAYER} WHERE fees.book = :book AND fees.name = :fees
"""
"""Debits of the account of fees that a network's custody paid, less what was taken back."""

_PAID_BEFORE = f"""
    SELECT EXISTS (
        SELECT 1 FROM ledger_accounts fees CROSS JOIN LATERAL (
            SELECT credit AS payer FROM ledger_lines
             WHERE book = :book AND kind = 'posted' AND (debit, seq) > (fees.account, 0)
               AND (debit, seq) <= (fees.account, :since)
        ) l {_PAYER} WHERE fees.book = :book AND fees.name = :fees)
"""


@dataclass(frozen=True, slots=True)
class Paid:
    """Gas of a network that was booked behind one seq through another; `first_at` None where none was before both."""

    amount: int
    first_at: datetime | None
    before: bool


async def load_gas_paid(
    connection: AsyncConnection, number: int, *, network: str, asset: str, since: int, through: int
) -> Paid:
    """What a network's transactions cost, as booked behind `since` through `through`."""
    values: dict[str, Any] = {
        "book": number,
        "fees": f"{HOUSE}/network-fees/{asset}",
        "custody": f"custody:{network}:%",
        "since": since,
    }
    row = (await connection.execute(text(_GAS), {**values, "through": through})).one()
    first_at = None
    if row.first is not None:
        first_at = await connection.scalar(
            text("SELECT booked_at FROM ledger_commands WHERE book = :book AND seq = :seq").columns(booked_at=Instant),
            {"book": number, "seq": row.first},
        )
    before = bool(await connection.scalar(text(_PAID_BEFORE), values))
    return Paid(int(row.amount or 0), first_at, before)
