"""Whether the journal's lines are still what they were when they were checked: stretch by stretch, by digests.

A stretch that isn't is read leaf by leaf, as the audit does it, and the commands that no longer are what was booked are
named. While a book is short all of it is looked at each time; a longer one by turns, and wholly as soon as a rewritten
line was counted, by a trigger or by PostgreSQL itself. That is no proof: the audit is (`ledger.audit`).
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import driver_of
from ledger.audit.fingerprints import SECRET_BYTES
from ledger.audit.ranges import RangeJob
from ledger.audit.report import Disagreement
from ledger.audit.worker import check_range
from ledger.copying import SESSION
from treasury import journal_check_store as store
from treasury.journal_check_store import SEQS_TOGETHER, Stretch
from treasury.records import BreakReason, Finding

LINES_AT_ONCE = 500_000
"""So many lines are looked at in one check; a book that has more is looked through in turns."""

LOOKED_THROUGH_MAX = 16
"""So many altered stretches are read leaf by leaf in one check; the others are told without their rows until then."""


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """What a look at the lines found, which stretch comes next, and whether sums over lines may have changed by it."""

    findings: list[Finding]
    next_bucket: int
    sums_stale: bool


async def look(
    connection: AsyncConnection, book: str, number: int, *, through: int, next_bucket: int, whole: bool
) -> JournalSeen:
    """Compare the lines up to seq `through` with their digests: all of them, or those whose turn it is."""
    end = through // SEQS_TOGETHER
    first, last = 0, end
    if not whole:
        first = next_bucket if next_bucket <= end else 0
        last = await store.last_bucket(connection, number, first=first, rows_max=LINES_AT_ONCE)
    stretches = await store.find_altered(connection, number, first=first, last=last, through=through)
    fresh = [stretch for stretch in stretches if stretch.altered is None]
    for stretch in fresh[:LOOKED_THROUGH_MAX]:
        altered = await _look_through(connection, book, number, stretch, through=min(stretch.through, through))
        await store.note_altered(connection, number, stretch, altered)
    settled = await store.settle_altered(
        connection, number, first=first, last=last, still=[stretch.bucket for stretch in stretches]
    )
    named = await store.load_altered(connection, number)
    findings = [_finding(row) for row in named]
    asset = await store.any_asset(connection)
    findings += [_finding(_row(_stretch(one, through), asset=asset)) for one in fresh[LOOKED_THROUGH_MAX:]]
    return JournalSeen(findings, last + 1 if last < end else 0, sums_stale=bool(fresh or settled))


async def _look_through(
    connection: AsyncConnection, book: str, number: int, stretch: Stretch, *, through: int
) -> list[dict[str, Any]]:
    """The commands of a stretch that aren't what was booked, by their leaves and balances."""
    names = await store.load_names(connection, number, after=stretch.after, through=through)
    raw = await driver_of(connection)
    await raw.execute(SESSION)
    job = RangeJob(book=book, number=number, after=stretch.after, through=through, cuts=(), secret=bytes(SECRET_BYTES))
    result = await check_range(raw, job, names)
    by_seq: dict[int, list[Disagreement]] = {}
    for one in result.findings.sorted():
        by_seq.setdefault(_seq_of(one), []).append(one)
    lines = {line.seq: line for line in reversed(await store.load_lines(connection, number, by_seq))}
    asset = await store.any_asset(connection)
    if not by_seq:
        return [_row(_stretch(stretch, through), asset=asset)]
    named = []
    for seq, wrong in by_seq.items():
        line = lines.get(seq)
        figures = next((one for one in wrong if _whole(one.expected) and _whole(one.found)), None)
        what = f"command {seq}" if figures is None else f"{figures.where} {figures.what}"
        row = _row(what, asset=asset) if line is None else _row(what, line.account, line.asset, found=line.amount)
        if figures is not None:
            row |= {"expected": figures.expected, "found": figures.found}
        named.append(row)
    return named


def _row(what: str, account: str = "", asset: str = "", *, found: int = 0) -> dict[str, Any]:
    return {"what": what, "account": account, "asset": asset, "expected": "0", "found": str(found)}


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(
        BreakReason.JOURNAL_DIFFERS,
        row["account"],
        row["asset"],
        int(row["expected"]),
        int(row["found"]),
        detail=row["what"],
    )


def _stretch(stretch: Stretch, through: int) -> str:
    return f"commands {stretch.after + 1} to {min(stretch.through, through)}"


def _seq_of(one: Disagreement) -> int:
    """The command of `command 17` or `line 17.0`."""
    digits = one.where.partition(" ")[2].partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def _whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
