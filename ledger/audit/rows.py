"""The rows that an audit reads: what is copied for a stretch of the journal, and for the tables that it accounts for.

Every query is ordered by a primary key, so that what isn't there is seen as well as what is.
"""

from dataclasses import dataclass
from typing import Any

import asyncpg

from ledger.copying import copied

IN_ORDER = (
    "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL max_parallel_workers_per_gather = 0"
)
"""What makes PostgreSQL read a stretch along its key, in one process; to be executed in the tx that copies."""

# Of a stretch of the journal; the numbers stand in the text, so that a query is sent at once.

COMMANDS = """
    SELECT seq, id, kind, subject, encode(content, 'hex'), refusal, detail, booked_at, effective_at,
           encode(metadata_hash, 'hex'), encode(leaf, 'hex')
      FROM ledger_commands WHERE book = {book} AND seq > {after} AND seq <= {through} ORDER BY seq
"""
LINES = """
    SELECT seq, line, kind, debit, credit, amount, debit_balance, credit_balance, hold, hold_posting
      FROM ledger_lines WHERE book = {book} AND seq > {after} AND seq <= {through} ORDER BY seq, line
"""
HOLDS = """
    SELECT hold, posting, expires_at, debit, credit, amount, charges, state, remaining
      FROM ledger_holds WHERE book = {book} AND hold > {after} AND hold <= {through} ORDER BY hold, posting
"""
METADATA = """
    SELECT seq, encode(salt, 'hex'), metadata
      FROM ledger_metadata WHERE book = {book} AND seq > {after} AND seq <= {through} ORDER BY seq
"""
EVIDENCE = """
    SELECT seq, network, block_number, block_hash, bank_account, statement, statement_line
      FROM ledger_evidence WHERE book = {book} AND seq > {after} AND seq <= {through} ORDER BY seq
"""

NAMES = "SELECT account, name FROM ledger_accounts WHERE book = $1"
ACCOUNTS = (
    "SELECT account, name, owner, purpose, asset, limited, frozen, closed, credit_line, debits_posted, credits_posted,"
    " debits_pending, credits_pending FROM ledger_accounts WHERE book = $1 AND account > $2 ORDER BY account LIMIT $3"
)
ACCOUNT_COLUMNS = (
    *("account", "name", "owner", "purpose", "asset", "limited", "frozen", "closed", "credit_line"),
    *("debits_posted", "credits_posted", "debits_pending", "credits_pending"),
)
BOOK = "SELECT seq, booked_at, closed_until, accounts FROM ledger_books WHERE number = $1"
IDS = "SELECT key, seq FROM ledger_ids WHERE book = $1"
BACKDATED = (
    "SELECT b.seq, b.line, a.name, b.effective_at, b.step FROM ledger_backdated b"
    " LEFT JOIN ledger_accounts a ON a.book = b.book AND a.account = b.account WHERE b.book = $1 AND b.seq > $2"
)
FREEZES = "SELECT scope, target, frozen FROM ledger_freezes WHERE book = $1"
COUNTERS = "SELECT counter, used FROM ledger_counters WHERE book = $1"
REVERSALS = "SELECT seq, line, amount::text FROM ledger_reversals WHERE book = $1 AND entry = $2"
ENTRY = (
    "SELECT l.line, d.name, c.name, l.amount::text FROM ledger_lines l"
    " JOIN ledger_accounts d ON d.book = l.book AND d.account = l.debit"
    " JOIN ledger_accounts c ON c.book = l.book AND c.account = l.credit WHERE l.book = $1 AND l.seq = $2"
)
HOLDS_OF = (
    "SELECT hold, posting, debit, credit, amount, state, remaining FROM ledger_holds"
    " WHERE book = $1 AND hold = ANY($2::bigint[]) ORDER BY hold, posting"
)
OPEN_HOLDS = "SELECT debit, credit, remaining FROM ledger_holds WHERE book = $1 AND state = 'open'"
LAST_LINES = """
    SELECT a.account, a.name, a.frozen, a.closed, a.credit_line, a.debits_posted, a.credits_posted, a.debits_pending,
           a.credits_pending, d.seq, d.line, d.debit_balance, c.seq, c.line, c.credit_balance
      FROM ledger_accounts a
      LEFT JOIN LATERAL (SELECT seq, line, debit_balance FROM ledger_lines
                          WHERE book = $1 AND debit = a.account AND seq <= $2
                          ORDER BY seq DESC, line DESC LIMIT 1) d ON true
      LEFT JOIN LATERAL (SELECT seq, line, credit_balance FROM ledger_lines
                          WHERE book = $1 AND credit = a.account AND seq <= $2
                          ORDER BY seq DESC, line DESC LIMIT 1) c ON true
     WHERE a.book = $1 AND a.account > $3 ORDER BY a.account LIMIT $4
"""

# What names rows, once a fingerprint has told that a table disagrees

WRONG_IDS = """
    SELECT c.seq, i.seq
      FROM (SELECT seq, substring(sha256(convert_to(id, 'UTF8')) FOR 16) AS key
              FROM ledger_commands WHERE book = $1) c
      FULL JOIN (SELECT seq, key FROM ledger_ids WHERE book = $1) i USING (key)
     WHERE c.seq IS DISTINCT FROM i.seq ORDER BY coalesce(c.seq, i.seq) LIMIT $2
"""
WRONG_BACKDATED = """
    WITH moved AS (
        SELECT l.seq, l.line, l.debit, l.credit, c.effective_at, l.amount
          FROM ledger_commands c JOIN ledger_lines l ON l.book = c.book AND l.seq = c.seq
         WHERE c.book = $1 AND c.seq > $2 AND c.effective_at IS NOT NULL AND l.kind = 'posted'
    ), steps AS (
        SELECT seq, line, debit AS account, effective_at, -amount AS step FROM moved
        UNION ALL SELECT seq, line, credit, effective_at, amount FROM moved
    )
    SELECT seq, line, account
      FROM steps s
      FULL JOIN (SELECT seq, line, account, effective_at, step, true AS stored
                   FROM ledger_backdated WHERE book = $1 AND seq > $2) b
     USING (seq, line, account, effective_at, step)
     WHERE s IS NULL OR b.stored IS NULL ORDER BY seq, line LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of the journal and of the rows that hang on it, each as COPY's text in the order of its key."""

    commands: bytes
    lines: bytes
    holds: bytes
    metadata: bytes
    evidence: bytes


async def read_chunk(connection: "asyncpg.Connection[Any]", number: int, *, after: int, through: int) -> Chunk:
    """What book `number` has from seq `after` (exclusive) to `through`."""
    queries = (COMMANDS, LINES, HOLDS, METADATA, EVIDENCE)
    texts = [query.format(book=number, after=after, through=through) for query in queries]
    return Chunk(*[await copied(connection, text) for text in texts])
