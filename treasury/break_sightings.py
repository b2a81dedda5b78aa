"""SQL of what breaks were like when runs saw them: reports of the past tell what was known then."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.types import Balance, Instant
from treasury.records import Break

_KEEP = text(
    """
    INSERT INTO treasury_break_sightings (book, break_id, run, seen_at, expected, found)
    SELECT CAST(:book AS text), CAST(:id AS text), CAST(:run AS text), CAST(:at AS timestamptz),
           CAST(:expected AS balance), CAST(:found AS balance)
     WHERE NOT EXISTS (SELECT FROM (
           SELECT expected, found FROM treasury_break_sightings WHERE book = :book AND break_id = :id
            ORDER BY seen_at DESC, run DESC LIMIT 1) last
            WHERE last.expected = CAST(:expected AS balance) AND last.found = CAST(:found AS balance))
    """
).bindparams(bindparam("at", type_=Instant), bindparam("expected", type_=Balance), bindparam("found", type_=Balance))


async def keep_sightings(
    connection: AsyncConnection, book: str, seen: Sequence[Break], *, run: str, now: datetime
) -> None:
    """Keep what these are like now, where it isn't what was kept last."""
    rows = [
        {"book": book, "id": one.id, "run": run, "at": now, "expected": one.expected, "found": one.found}
        for one in seen
    ]
    if rows:
        await connection.execute(_KEEP, rows)
