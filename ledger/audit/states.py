"""The tables that the journal determines, compared with it: accounts, ids, limits, freezes, reversals, dates."""

import struct
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.audit import rows
from ledger.audit.fingerprints import id_value, multiply, row_value
from ledger.audit.report import JOURNAL, STATES, Findings, Place
from ledger.audit.whole import Whole
from ledger.copying import copied, rows_of
from ledger.money import Asset
from ledger.reading import load_assets

PAGE = 20_000
"""Accounts compared at a time."""

_NAMED_MAX = 100
"""Rows that are named of a table that disagrees."""

_ID_ROW = struct.Struct(">6x16s4xq")
"""A row of COPY's binary format with two fields of 16 and 8 bytes, their count and lengths skipped."""

_COPY_HEAD = 19
"""Bytes before the first row of COPY's binary format."""


async def compare_states(raw: "asyncpg.Connection[Any]", whole: Whole, number: int, *, point: int) -> int:
    """Compare every table of the book with what the journal says; how many accounts there are."""
    await compare_head(raw, whole, number)
    whole.compare_sums()
    whole.holds.finish(whole.findings)
    accounts = await _compare_accounts(raw, whole, number)
    whole.compare_freezes([tuple(row) for row in await raw.fetch(rows.FREEZES, number)])
    whole.compare_counters([(row[0], int(row[1])) for row in await raw.fetch(rows.COUNTERS, number)])
    if await fingerprint_ids(raw, number, point=point) != whole.ids:
        await name_ids(raw, whole.findings, number)
    await compare_backdated(raw, whole, number, after=0, point=point)
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


async def fingerprint_ids(raw: "asyncpg.Connection[Any]", number: int, *, point: int) -> int:
    """The fingerprint of all ids that are remembered, with their seqs."""
    product, rest, skip = 1, b"", _COPY_HEAD

    async def take(part: bytes) -> None:
        nonlocal product, rest, skip
        rest += part
        if len(rest) < skip + _ID_ROW.size:
            return
        end = skip + (len(rest) - skip) // _ID_ROW.size * _ID_ROW.size
        values = (id_value(key, seq) for key, seq in _ID_ROW.iter_unpack(memoryview(rest)[skip:end]))
        product, rest, skip = multiply(product, values, point), rest[end:], 0

    await raw.copy_from_query(rows.IDS, number, output=take, format="binary")
    return product


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
    raw: "asyncpg.Connection[Any]", whole: Whole, number: int, *, after: int, point: int
) -> None:
    """Compare the rows that tell steps of balances by effective time with the lines that they repeat."""
    product, rest = 1, b""

    async def take(part: bytes) -> None:
        nonlocal product, rest
        *whole_rows, rest = (rest + part).split(b"\n")
        product = multiply(product, map(row_value, whole_rows), point)

    await raw.copy_from_query(rows.BACKDATED, number, after, output=take)
    if product == whole.backdated:
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
