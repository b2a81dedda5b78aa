"""The questions that reports ask of the book, as SQL: sums by group of accounts, fees by place, what is aged.

All by effective time and as known with a command: lines that took effect when they were booked are those of a stretch
of seqs; those that were dated back stand in `ledger_backdated`, and are taken out of the stretch and added by their
date. Sums are made in the database, so that memory doesn't grow with the book.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import TextClause

from db.types import Instant
from ledger.canonical import instant_text
from ledger.reading import seq_at
from treasury.reports.chart import RECEIVABLE, USERS
from treasury.reports.records import AGES, AgedReceivable, Balances, FeeTurnover, OpenBreak, OwnLine, Turnover

LONG_SECONDS = 600
"""How long one sum may take: it may walk through a year of a large book."""

TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of effective time as known with `known_seq`, and the seqs that were booked in it.

    On-time lines are those of seqs in (low, high].
    """

    book: int
    since: datetime
    until: datetime
    known_seq: int
    low: int
    high: int

    @property
    def values(self) -> dict[str, Any]:
        return {
            "book": self.book,
            "since": self.since,
            "until": self.until,
            "known": self.known_seq,
            "low": self.low,
            "high": self.high,
        }


async def allow_long(connection: AsyncConnection) -> None:
    """Let this tx's statements take as long as sums may."""
    await connection.execute(text(f"SET LOCAL statement_timeout = '{LONG_SECONDS}s'"))


async def load_closing_seq(connection: AsyncConnection, book: int, until: datetime) -> int | None:
    """The command that closed all effective time before `until`; None while some of it is open."""
    query = text(
        "SELECT seq FROM ledger_commands WHERE book = :book AND kind = 'close_period' AND refusal IS NULL"
        " AND CAST(detail::jsonb #>> '{terms,until}' AS timestamptz) >= CAST(CAST(:until AS text) AS timestamptz)"
        " ORDER BY seq LIMIT 1"
    )
    found: int | None = await connection.scalar(query, {"book": book, "until": instant_text(until)})
    return found


async def load_span(connection: AsyncConnection, book: int, *, since: datetime, until: datetime, known: int) -> Span:
    """The stretch [since, until) as known with the command `known`."""
    low, high = await seq_at(connection, book, since - TICK), await seq_at(connection, book, until - TICK)
    return Span(book, since, until, known, min(low, known), min(high, known))


_GROUP = (
    f"CASE WHEN a.owner <> 'house' THEN '{USERS}' WHEN a.purpose LIKE 'receivable:%' THEN '{RECEIVABLE}'"
    " ELSE a.purpose END"
)

_BALANCES = """
WITH moved AS (
    SELECT account, sum(step) AS step FROM (
        SELECT debit AS account, -amount AS step FROM ledger_lines
         WHERE book = :book AND kind = 'posted' AND {stretch}
        UNION ALL
        SELECT credit, amount FROM ledger_lines WHERE book = :book AND kind = 'posted' AND {stretch}
    ) steps GROUP BY account
), dated AS (
    SELECT account, sum(step) AS step FROM ledger_backdated
     WHERE book = :book AND seq > :high AND seq <= :known AND effective_at < :until GROUP BY account
)
SELECT "group", asset, coalesce(sum(balance) FILTER (WHERE balance > 0), 0)::text AS above,
       coalesce(sum(balance) FILTER (WHERE balance < 0), 0)::text AS below
  FROM (SELECT {group} AS "group", a.asset, {base} + coalesce(dated.step, 0) AS balance
          FROM ledger_accounts a LEFT JOIN moved USING (account) LEFT JOIN dated USING (account)
         WHERE a.book = :book) balances
 WHERE balance <> 0 GROUP BY "group", asset ORDER BY "group", asset
"""

FROM_THE_BEGINNING = _BALANCES.format(stretch="seq <= :high", base="coalesce(moved.step, 0)", group=_GROUP)
FROM_NOW_BACK = _BALANCES.format(
    stretch="seq > :high", base="a.credits_posted - a.debits_posted - coalesce(moved.step, 0)", group=_GROUP
)


async def load_balances(connection: AsyncConnection, span: Span, *, head: int) -> list[Balances]:
    """What every group came to at the end of the span; groups of nothing are left out.

    Adds up lines from the beginning, or takes later ones off the counters of now, whichever are fewer; each is one
    statement, so that counters and lines are of one snapshot. `head`: the book's last seq.
    """
    query = FROM_THE_BEGINNING if span.high * 2 < head else FROM_NOW_BACK
    return await balances_by(connection, query, span)


async def balances_by(connection: AsyncConnection, query: str, span: Span) -> list[Balances]:
    """The same by one of the two ways."""
    rows = await connection.execute(_instants(query), span.values)
    return [Balances(row.group, row.asset, int(row.above), int(row.below)) for row in rows]


_TURNOVERS = f"""
WITH steps AS (
    SELECT account, sum(debits) AS debits, sum(credits) AS credits FROM (
        SELECT debit AS account, amount AS debits, 0 AS credits FROM ledger_lines
         WHERE book = :book AND kind = 'posted' AND seq > :low AND seq <= :high
        UNION ALL
        SELECT credit, 0, amount FROM ledger_lines
         WHERE book = :book AND kind = 'posted' AND seq > :low AND seq <= :high
        UNION ALL
        SELECT account, -greatest(-step, 0), -greatest(step, 0) FROM ledger_backdated
         WHERE book = :book AND seq > :low AND seq <= :high
        UNION ALL
        SELECT account, greatest(-step, 0), greatest(step, 0) FROM ledger_backdated
         WHERE book = :book AND seq > :low AND seq <= :known AND effective_at >= :since AND effective_at < :until
    ) sides GROUP BY account
)
SELECT {_GROUP} AS "group", a.asset, sum(s.debits)::text AS debits, sum(s.credits)::text AS credits
  FROM steps s JOIN ledger_accounts a ON a.book = :book AND a.account = s.account
 GROUP BY 1, 2 HAVING sum(s.debits) <> 0 OR sum(s.credits) <> 0 ORDER BY 1, 2
"""


async def load_turnovers(connection: AsyncConnection, span: Span) -> list[Turnover]:
    """What took effect within the span, of every group that moved."""
    rows = await connection.execute(_instants(_TURNOVERS), span.values)
    return [Turnover(row.group, row.asset, int(row.debits), int(row.credits)) for row in rows]


def _side(mine: str, other: str) -> str:
    """Lines that stand on the accounts of `fees` with one of their sides, by when they took effect."""
    line = f"l.seq, l.amount, l.{mine} AS mine, l.{other} AS other, {mine == 'debit'} AS is_debit"
    return f"""
    SELECT {line} FROM fees f JOIN ledger_lines l ON l.book = :book AND l.{mine} = f.account
     WHERE l.kind = 'posted' AND l.seq > :low AND l.seq <= :high AND NOT EXISTS (
           SELECT FROM ledger_backdated b
            WHERE b.book = :book AND b.account = f.account AND b.seq = l.seq AND b.line = l.line)
    UNION ALL
    SELECT {line} FROM fees f JOIN ledger_backdated b ON b.book = :book AND b.account = f.account
      JOIN ledger_lines l ON l.book = :book AND l.seq = b.seq AND l.line = b.line AND l.{mine} = f.account
     WHERE b.seq > :low AND b.seq <= :known AND b.effective_at >= :since AND b.effective_at < :until
    """


_FEES = f"""
WITH fees AS (
    SELECT account, purpose FROM ledger_accounts
     WHERE book = :book AND owner = 'house' AND purpose = ANY(:purposes)
), found AS ({_side("debit", "credit")} UNION ALL {_side("credit", "debit")}),
placed AS (
    SELECT split_part(coalesce(m.subject, ''), '_', 1) AS operation, a.purpose, a.asset, f.amount, f.is_debit,
           CASE WHEN split_part(o.purpose, ':', 1) IN ('custody', 'bank', 'provider') AND o.owner = 'house'
                THEN split_part(o.purpose, ':', 1)
                WHEN e.network IS NOT NULL THEN 'custody'
                WHEN e.bank_account IS NOT NULL THEN 'bank'
                WHEN m.detail::jsonb #>> '{{evidence,rail}}' IS NOT NULL THEN 'provider' ELSE '' END AS kind,
           CASE WHEN split_part(o.purpose, ':', 1) IN ('custody', 'bank', 'provider') AND o.owner = 'house'
                THEN split_part(o.purpose, ':', 2)
                ELSE coalesce(e.network, e.bank_account, m.detail::jsonb #>> '{{evidence,rail}}', '') END AS place
      FROM found f
      JOIN ledger_accounts a ON a.book = :book AND a.account = f.mine
      JOIN ledger_accounts o ON o.book = :book AND o.account = f.other
      JOIN ledger_commands m ON m.book = :book AND m.seq = f.seq
      LEFT JOIN ledger_evidence e ON e.book = :book AND e.seq = f.seq
)
SELECT operation, kind, place, purpose, asset, coalesce(sum(amount) FILTER (WHERE is_debit), 0)::text AS debits,
       coalesce(sum(amount) FILTER (WHERE NOT is_debit), 0)::text AS credits
  FROM placed GROUP BY operation, kind, place, purpose, asset ORDER BY operation, kind, place, purpose, asset
"""


async def load_fees(connection: AsyncConnection, span: Span, purposes: Sequence[str]) -> list[FeeTurnover]:
    """What took effect on these accounts of the house, by operation and place.

    The place is that of the other side (custody, bank, provider), else of the entry's evidence.
    """
    rows = await connection.execute(_instants(_FEES), span.values | {"purposes": list(purposes)})
    return [
        FeeTurnover(
            row.operation, row.kind, row.place, row.purpose, row.asset, debits=int(row.debits), credits=int(row.credits)
        )
        for row in rows
    ]


def _bucket(number: int) -> str:
    """What a bucket has of a part that is still open, in the columns of `parts`."""
    newest = f"days > {AGES[number - 1]}" if number else "true"
    oldest = f"days <= {AGES[number]}" if number < len(AGES) else "true"
    return f"coalesce(sum(open) FILTER (WHERE {newest} AND {oldest}), 0)::text AS age_{number}"


_RECEIVABLES = f"""
WITH mine AS (
    SELECT account, substr(purpose, length('receivable:') + 1) AS debtor, asset FROM ledger_accounts
     WHERE book = :book AND owner = 'house' AND purpose LIKE 'receivable:%'
), steps AS (
    SELECT n.account, l.seq, l.line, l.amount AS debit, 0 AS credit
      FROM mine n JOIN ledger_lines l ON l.book = :book AND l.debit = n.account AND l.kind = 'posted'
    UNION ALL
    SELECT n.account, l.seq, l.line, 0, l.amount
      FROM mine n JOIN ledger_lines l ON l.book = :book AND l.credit = n.account AND l.kind = 'posted'
), effective AS (
    SELECT s.*, coalesce(m.effective_at, m.booked_at) AS at
      FROM steps s JOIN ledger_commands m ON m.book = :book AND m.seq = s.seq
     WHERE s.seq <= :known AND coalesce(m.effective_at, m.booked_at) < :until
), run AS (
    SELECT account, at, debit, sum(debit) OVER w - debit AS newer,
           sum(debit - credit) OVER (PARTITION BY account) AS owed
      FROM effective WINDOW w AS (PARTITION BY account ORDER BY at DESC, seq DESC, line DESC)
), parts AS (
    SELECT account, at, owed, least(debit, greatest(owed - newer, 0)) AS open,
           extract(epoch FROM CAST(:at AS timestamptz) - at) / 86400 AS days
      FROM run WHERE debit > 0 AND owed > newer
)
SELECT n.debtor, n.asset, max(owed)::text AS owed, min(at) AS oldest_at,
       {", ".join(_bucket(number) for number in range(len(AGES) + 1))}
  FROM parts p JOIN mine n USING (account)
 GROUP BY n.debtor, n.asset ORDER BY n.debtor, n.asset
"""
"""What is repaid is the oldest debt first; so what is owed is what was lent last, walked through backwards."""


async def stream_receivables(connection: AsyncConnection, span: Span, *, at: datetime) -> AsyncIterator[AgedReceivable]:
    """What each user owed at the end of the span, by how old it was `at` an instant."""
    query = _instants(_RECEIVABLES).bindparams(bindparam("at", type_=Instant))
    async for row in await connection.stream(query, span.values | {"at": at}):
        by_age = tuple(int(row._mapping[f"age_{number}"]) for number in range(len(AGES) + 1))
        yield AgedReceivable(row.debtor, row.asset, int(row.owed), row.oldest_at, by_age)


_BREAKS = """
SELECT b.id, b.reason, b.account, b.asset, s.expected::text AS expected, s.found::text AS found, b.first_seen_at
  FROM treasury_breaks b, LATERAL (
       SELECT expected, found FROM treasury_break_sightings s
        WHERE s.book = b.book AND s.break_id = b.id AND s.seen_at <= :at
        ORDER BY s.seen_at DESC, s.run DESC LIMIT 1) s
 WHERE b.book = :name AND b.first_seen_at <= :at AND (b.resolved_at IS NULL OR b.resolved_at > :at)
 ORDER BY b.first_seen_at, b.id
"""


async def stream_breaks(connection: AsyncConnection, name: str, *, at: datetime) -> AsyncIterator[OpenBreak]:
    """Breaks of the book with this name that were open at an instant, the oldest first."""
    query = text(_BREAKS).bindparams(bindparam("at", type_=Instant))
    async for row in await connection.stream(query, {"name": name, "at": at}):
        yield OpenBreak(
            row.id, row.reason, row.account, row.asset, int(row.expected), int(row.found), row.first_seen_at
        )


@dataclass(frozen=True, slots=True)
class OwnAccount:
    """A user's account: its number in rows, and its name."""

    number: int
    name: str
    asset: str


async def load_own_accounts(connection: AsyncConnection, book: int, owner: str) -> list[OwnAccount]:
    """A user's accounts, by asset."""
    query = text(
        "SELECT account, name, asset FROM ledger_accounts WHERE book = :book AND owner = :owner ORDER BY asset, name"
    )
    rows = await connection.execute(query, {"book": book, "owner": owner})
    return [OwnAccount(row.account, row.name, row.asset) for row in rows]


def _own_lines(side: str) -> str:
    return f"""
    SELECT l.* FROM ledger_lines l
     WHERE l.book = :book AND l.{side} = :account AND l.kind = 'posted' AND l.seq > :low AND l.seq <= :high
       AND NOT EXISTS (SELECT FROM ledger_backdated b
            WHERE b.book = :book AND b.account = :account AND b.seq = l.seq AND b.line = l.line)
    """


_OWN_LINES = f"""
SELECT l.seq, l.line, m.booked_at, coalesce(m.effective_at, m.booked_at) AS effective_at, m.subject, o.name AS other,
       (CASE WHEN l.credit = :account THEN l.amount ELSE -l.amount END)::text AS step, x.metadata ->> 'memo' AS memo
  FROM ({_own_lines("debit")} UNION ALL {_own_lines("credit")} UNION ALL
       SELECT l.* FROM ledger_backdated b JOIN ledger_lines l ON l.book = :book AND l.seq = b.seq AND l.line = b.line
        WHERE b.book = :book AND b.account = :account AND b.seq > :low AND b.seq <= :known
          AND b.effective_at >= :since AND b.effective_at < :until) l
  JOIN ledger_commands m ON m.book = :book AND m.seq = l.seq
  JOIN ledger_accounts o ON o.book = :book
       AND o.account = CASE WHEN l.credit = :account THEN l.debit ELSE l.credit END
  LEFT JOIN ledger_metadata x ON x.book = :book AND x.seq = l.seq
 ORDER BY effective_at, l.seq, l.line
"""


async def stream_own_lines(connection: AsyncConnection, span: Span, account: int) -> AsyncIterator[OwnLine]:
    """The posted lines of an account that took effect within the span, in that order."""
    async for row in await connection.stream(_instants(_OWN_LINES), span.values | {"account": account}):
        yield OwnLine(
            row.seq,
            row.line,
            row.booked_at,
            row.effective_at,
            row.subject,
            row.other,
            int(row.step),
            row.memo,
        )


def _instants(query: str) -> TextClause:
    """A query whose `since` and `until` are instants, where it has them."""
    found = [bindparam(name, type_=Instant) for name in ("since", "until") if f":{name}" in query]
    return text(query).bindparams(*found)
