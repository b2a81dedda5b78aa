"""The tables that the journal determines, compared with it: accounts, ids, limits, freezes, reversals, dates."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.audit import rows
from ledger.audit.fingerprints import add_id_rows, add_rows
from ledger.audit.report import JOURNAL, STATES, Findings, Place
from ledger.audit.whole import Whole
from ledger.copying import copied, rows_of
from ledger.money import Asset
from ledger.reading import load_assets

PAGE = 20_000
"""Accounts compared at a time."""

_NAMED_MAX = 100
"""Rows that are named of a table that disagrees."""

_ID_KEY, _ID_SEQ, _ID_WIDTH = 6, 26, 34
"""Where the two fields of an id stand in a row of COPY's binary format, and its length."""

_ID_FRAME = {0: 0, 1: 2, 2: 0, 3: 0, 4: 0, 5: 16, 22: 0, 23: 0, 24: 0, 25: 8}
"""The other bytes of such a row: how many fields there are, and the length before each."""

_COPY_HEAD, _COPY_END = 19, b"\xff\xff"
"""Bytes before the first row of COPY's binary format, and those after the last."""

_BATCH = 2**20
"""Bytes of ids that are taken at once."""

_MISSHAPEN = -1
"""No collection's sum: for ids that don't have their one form."""


async def compare_states(raw: "asyncpg.Connection[Any]", whole: Whole, number: int, *, ids: int, secret: bytes) -> int:
    """Compare every table of the book with what the journal says; how many accounts there are.

    `ids` is the fingerprint of all ids that are remembered.
    """
    await compare_head(raw, whole, number)
    whole.compare_sums()
    whole.holds.finish(whole.findings)
    accounts = await _compare_accounts(raw, whole, number)
    whole.compare_freezes([tuple(row) for row in await raw.fetch(rows.FREEZES, number)])
    whole.compare_counters([(row[0], int(row[1])) for row in await raw.fetch(rows.COUNTERS, number)])
    if ids != whole.ids:
        await name_ids(raw, whole.findings, number)
    await compare_backdated(raw, whole, number, after=0, secret=secret)
    await compare_reversals(raw, whole, number)
    return accounts


async def compare_head(raw: "asyncpg.Connection[Any]", whole: Whole, number: int) -> None:
    [row] = rows_of(await copied(raw, rows.BOOK, number))
    whole.compare_book(row)


async def _compare_accounts(raw: "asyncpg.Connection[Any]", whole: Whole, number: int) -> int:
    compared, last = 0, -(2**31)
    while text := await copied(raw, rows.ACCOUNTS, number, last, PAGE):
        compared += whole.compare_accounts(text)
        last = int(rows_of(text)[-1].split(b"\t")[0])
    whole.finish_accounts()
    return compared


# Ids


async def fingerprint_ids(raw: "asyncpg.Connection[Any]", number: int, *, secret: bytes) -> int:
    """The fingerprint of all ids that are remembered, with their seqs."""
    total, rows_, head, is_whole = 0, bytearray(), _COPY_HEAD, True

    def add() -> None:
        nonlocal total, is_whole
        some = bytes(rows_[: len(rows_) // _ID_WIDTH * _ID_WIDTH])
        del rows_[: len(some)]
        count = len(some) // _ID_WIDTH
        is_whole &= all(some[at::_ID_WIDTH].count(value) == count for at, value in _ID_FRAME.items())
        total += add_id_rows(some, secret, key_at=_ID_KEY, seq_at=_ID_SEQ, width=_ID_WIDTH)

    async def take(part: bytes) -> None:
        nonlocal head
        rows_.extend(part[head:])
        head = max(0, head - len(part))
        if len(rows_) >= _BATCH:
            add()

    await raw.copy_from_query(rows.IDS, number, output=take, format="binary")
    add()
    return total if is_whole and rows_ == _COPY_END else _MISSHAPEN


async def name_ids(raw: "asyncpg.Connection[Any]", findings: Findings, number: int) -> None:
    """Find the ids that aren't remembered as their commands say; the fingerprints have told that there are some."""
    found = await raw.fetch(rows.WRONG_IDS, number, _NAMED_MAX)
    for seq, stored in found:
        at = stored if seq is None else seq
        where = f"id of command {at}"
        findings.add(Place(JOURNAL, at), where, "seq", expected=seq or "no row", found=stored or "no row")
    if not found:
        findings.add(Place(STATES), "ids", "all of them", expected="those of the commands", found="others")


# Backdated steps and reversals


async def compare_backdated(
    raw: "asyncpg.Connection[Any]", whole: Whole, number: int, *, after: int, secret: bytes
) -> None:
    """Compare the rows that tell steps of balances by effective time with the lines that they repeat."""
    total, rest = 0, b""

    async def take(part: bytes) -> None:
        nonlocal total, rest
        *whole_rows, rest = (rest + part).split(b"\n")
        total += add_rows(whole_rows, secret)

    await raw.copy_from_query(rows.BACKDATED, number, after, output=take)
    if total == whole.backdated:
        return
    found = await raw.fetch(rows.WRONG_BACKDATED, number, after, _NAMED_MAX)
    for seq, line, account in found:
        where = f"backdated line {seq}.{line} ({account})"
        whole.findings.add(Place(JOURNAL, seq, line), where, "row", expected="that of the line", found="another")
    if not found:
        whole.findings.add(Place(STATES), "backdated", "all rows", expected="those of the lines", found="others")


async def compare_reversals(raw: "asyncpg.Connection[Any]", whole: Whole, number: int, *, after: int = 0) -> None:
    """Compare the links between reversals and the entries that they took back with the lines of both."""
    linked = 0
    for seq, entry, lines in whole.reversals:
        links = await raw.fetch(rows.REVERSALS, number, entry)
        linked += sum(row["seq"] == seq for row in links)
        booked = await raw.fetch(rows.ENTRY, number, entry)
        original = {line: (debit.encode(), credit.encode(), int(amount)) for line, debit, credit, amount in booked}
        _compare_reversal(whole.findings, seq, entry, lines, links, original)
    stored = await raw.fetchval("SELECT count(*) FROM ledger_reversals WHERE book = $1 AND seq > $2", number, after)
    whole.findings.expect(Place(STATES), "reversals", "rows", expected=linked, found=stored)


def _compare_reversal(
    findings: Findings,
    seq: int,
    entry: int,
    lines: list[tuple[bytes, bytes, int]],
    links: list[Any],
    original: dict[int, tuple[bytes, bytes, int]],
) -> None:
    """What a reversal moved must be what its links say of the entry's lines, and no line may be taken back twice."""
    place = Place(JOURNAL, seq)
    moved: defaultdict[tuple[bytes, bytes], int] = defaultdict(int)
    for debit, credit, amount in lines:
        moved[credit, debit] += amount
    taken: defaultdict[int, int] = defaultdict(int)
    for row in links:
        line, amount = row["line"], int(row["amount"])
        taken[line] += amount
        if row["seq"] == seq:
            debit, credit, _ = original.get(line, (b"", b"", 0))
            moved[debit, credit] -= amount
    for (debit, credit), difference in moved.items():
        if difference:
            where = f"reversal {seq} of command {entry}"
            what = f"from {debit.decode()} to {credit.decode()}"
            findings.add(place, where, what, expected="what its lines move", found=f"{-difference:+} beside it")
    for line, amount in taken.items():
        most = original.get(line, (b"", b"", 0))[2]
        if amount > most:
            findings.add(place, f"line {entry}.{line}", "taken back", expected=f"<= {most}", found=amount)


# Assets


async def compare_assets(connection: AsyncConnection, whole: Whole, assets: Mapping[str, Asset]) -> None:
    """Compare the stored assets with those that the installation was configured with."""
    stored = await load_assets(connection)
    for code, asset in assets.items():
        found = stored.get(code)
        if found is None:
            whole.findings.add(Place(STATES), f"asset {code}", "row", expected="there", found="missing")
        else:
            whole.findings.expect(Place(STATES), f"asset {code}", "kind", expected=asset.kind, found=found.kind)
            whole.findings.expect(Place(STATES), f"asset {code}", "scale", expected=asset.scale, found=found.scale)
