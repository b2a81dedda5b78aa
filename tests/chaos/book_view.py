"""What the checker asks PostgreSQL, in plain SQL."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg

from tests.chaos.records import Facts

Row: TypeAlias = Any

Connection: TypeAlias = "asyncpg.Connection[Any]"


@dataclass(slots=True)
class Book:
    """What the database says, read in one snapshot."""

    number: int
    accounts: list[Row]
    lines: dict[int, Row]
    """By account: the four counters that its lines add up to."""
    open_holds: list[Row]
    withdrawals: dict[str, Row]
    conversions: dict[str, Row]
    deposits: list[Row]
    commands: Counter[str]
    """How many commands have this id, of those that users asked for."""
    subjects: dict[str, tuple[str, str]]
    """By command: its subject, and its refusal if it was refused."""
    sweeps: list[Row]
    transactions: list[Row]
    attempts: set[str]
    addresses: list[Row]

    def balance(self, name: str) -> int:
        """Credits less debits of the account with this name; 0 where there is none."""
        found = [one for one in self.accounts if one["name"] == name]
        return int(found[0]["credits_posted"] - found[0]["debits_posted"]) if found else 0


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def read_book(facts: Facts, connection: Connection) -> Book:
    async with AsyncExitStack() as stack:
        if not connection.is_in_transaction():
            await stack.enter_async_context(connection.transaction(isolation="repeatable_read"))
        number = await connection.fetchval("SELECT number FROM ledger_books WHERE book = $1", facts.book)
        assert number is not None, f"there is no book {facts.book}"
        commands = await connection.fetch(_COMMANDS, number)
        return Book(
            number=number,
            accounts=await connection.fetch("SELECT * FROM ledger_accounts WHERE book = $1", number),
            lines={row["account"]: row for row in await connection.fetch(_SUMS, number)},
            open_holds=await connection.fetch(_OPEN_HOLDS, number),
            withdrawals=_by_id(await connection.fetch("SELECT * FROM wallet_withdrawals WHERE book = $1", facts.book)),
            conversions=_by_id(await connection.fetch("SELECT * FROM wallet_conversions WHERE book = $1", facts.book)),
            deposits=await connection.fetch("SELECT * FROM wallet_deposits WHERE book = $1", facts.book),
            commands=Counter(row["id"] for row in commands),
            subjects={row["id"]: (row["subject"] or "", row["refusal"] or "") for row in commands},
            sweeps=await connection.fetch("SELECT * FROM treasury_sweeps WHERE book = $1", facts.book),
            transactions=await connection.fetch("SELECT * FROM chain_transactions WHERE book = $1", facts.book),
            attempts={
                row["tx_hash"]
                for row in await connection.fetch("SELECT tx_hash FROM chain_attempts WHERE tx_hash IS NOT NULL")
            },
            addresses=await connection.fetch(
                "SELECT * FROM chain_addresses WHERE book = $1 OR book IS NULL", facts.book
            ),
        )


_COMMANDS = "SELECT id, subject, refusal FROM ledger_commands WHERE book = $1 AND id LIKE 'req:%'"

_OPEN_HOLDS = """
    SELECT h.debit, h.credit, h.remaining, d.name AS debit_name, c.subject
      FROM ledger_holds h JOIN ledger_accounts d ON d.book = h.book AND d.account = h.debit
      JOIN ledger_commands c ON c.book = h.book AND c.seq = h.hold
     WHERE h.book = $1 AND h.state = 'open'
"""


_SUMS = """
    WITH moved AS (SELECT debit, credit, kind, amount,
                          CASE WHEN kind = 'held' THEN amount WHEN hold IS NULL THEN 0 ELSE -amount END AS pending
                     FROM ledger_lines WHERE book = $1)
    SELECT account, sum(debits_posted) AS debits_posted, sum(credits_posted) AS credits_posted,
           sum(debits_pending) AS debits_pending, sum(credits_pending) AS credits_pending
      FROM (SELECT debit AS account, CASE kind WHEN 'posted' THEN amount ELSE 0 END AS debits_posted,
                   0 AS credits_posted, pending AS debits_pending, 0 AS credits_pending FROM moved
            UNION ALL
            SELECT credit, 0, CASE kind WHEN 'posted' THEN amount ELSE 0 END, 0, pending FROM moved) AS sides
     GROUP BY account
"""
"""A line that is posted out of a hold, or released, lowers what is pending."""


def _by_id(rows: Sequence[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows}
