"""The audit since the last seal: the journal behind it, on the balances that stand there, and every account's end.

It proves that what was booked since adds up on the stored balances, that every account agrees with its last line, and
what is pending with the open holds. That the sealed part still is what was sealed, and what the posted counters are
beyond their difference, is for the full audit.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import asyncpg

from ledger.audit import rows
from ledger.audit.holds import HeldLine, OpenHold
from ledger.audit.ranges import RangeResult
from ledger.audit.report import JOURNAL, STATES, Place
from ledger.audit.states import compare_backdated, compare_head, compare_reversals
from ledger.audit.whole import Whole
from ledger.copying import NULL, copied, rows_of

PAGE = 5_000
"""Accounts, or ids, looked up at a time."""


async def compare_since(
    raw: "asyncpg.Connection[Any]", whole: Whole, number: int, ranges: Sequence[RangeResult], *, secret: bytes
) -> int:
    """Add the ranges behind the last seal and compare with what is stored; how many accounts there are."""
    after = ranges[0].after
    await _load_holds(raw, whole, number, ranges)
    for result in ranges:
        whole.add(result)
    await compare_head(raw, whole, number)
    whole.holds.finish(whole.findings)
    accounts = await _compare_accounts(raw, whole, number, after=after)
    await _compare_ids(raw, whole, number)
    stored = {(row[0], row[1]): row[2] for row in await raw.fetch(rows.FREEZES, number)}
    for (scope, target), frozen in whole.flags.freezes.items():
        found = stored.get((scope, target))
        whole.findings.expect(Place(STATES), f"freeze of {scope} {target}", "value", expected=frozen, found=found)
    await compare_backdated(raw, whole, number, after=after, secret=secret)
    await compare_reversals(raw, whole, number, after=after)
    return accounts


async def _load_holds(raw: "asyncpg.Connection[Any]", whole: Whole, number: int, ranges: Sequence[RangeResult]) -> None:
    """Holds made under a seal and changed since, as they must have been then: what remains and what was taken since."""
    after = ranges[0].after
    taken: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for result in ranges:
        for _, _, lines in result.holds.foreign:
            for line in lines:
                if line.hold <= after:
                    taken[line.hold][line.posting] += line.amount
    for start in range(0, len(taken), PAGE):
        some = list(taken)[start : start + PAGE]
        for row in rows_of(await copied(raw, rows.HOLDS_OF, number, some)):
            hold, posting, debit, credit, amount, state, remaining = row.split(b"\t")
            seq, index = int(hold), int(posting)
            was = int(remaining) + taken[seq][index]
            record = whole.holds.open.setdefault(seq, OpenHold([], [], {}, []))
            record.postings.append(HeldLine(b"held", seq, index, debit, credit, int(amount)))
            record.remaining.append(was)
            record.rows[index] = (state, remaining)
            if was > int(amount):
                where = f"hold {seq} posting {index}"
                whole.findings.add(Place(JOURNAL, seq), where, "remaining", expected=f"<= {int(amount)}", found=was)
    whole.holds.knows_all = True


async def _compare_accounts(raw: "asyncpg.Connection[Any]", whole: Whole, number: int, *, after: int) -> int:
    """Every account against its last line before the seal's end, what moved since, and the open holds."""
    held: defaultdict[bytes, int] = defaultdict(int)
    incoming: defaultdict[bytes, int] = defaultdict(int)
    for row in rows_of(await copied(raw, rows.OPEN_HOLDS, number)):
        debit, credit, remaining = row.split(b"\t")
        held[debit] += int(remaining)
        incoming[credit] += int(remaining)
    compared, last = 0, -(2**31)
    while text := await copied(raw, rows.LAST_LINES, number, after, last, PAGE):
        for row in rows_of(text):
            fields = row.split(b"\t")
            _compare_account(whole, fields, held=held[fields[0]], incoming=incoming[fields[0]])
            compared, last = compared + 1, int(fields[0])
    for account in whole.totals:
        where = f"account #{account.decode()}"
        whole.findings.add(Place(STATES, int(account)), where, "row", expected="there", found="missing")
    return compared


def _compare_account(whole: Whole, row: Sequence[bytes], *, held: int, incoming: int) -> None:
    account, name, frozen, closed, credit_line, debits, credits_, *pending = row[:9]
    before = _last_balance(row[9:])
    findings, flags = whole.findings, whole.flags
    place, where = Place(STATES, int(account)), f"account {name.decode()}"
    total = whole.totals.pop(account, None)
    if total is not None:
        opening, at = whole.openings[account]
        said = f"line {at.seq}.{at.line} ({name.decode()})"
        findings.expect(at, said, "balance before", expected=before, found=opening)
    closing = before if total is None else total.balance
    findings.expect(place, where, "balance", expected=closing, found=int(credits_) - int(debits))
    findings.expect(place, where, "debits_pending", expected=b"%d" % held, found=pending[0])
    findings.expect(place, where, "credits_pending", expected=b"%d" % incoming, found=pending[1])
    if name in flags.frozen:
        findings.expect(place, where, "frozen", expected=flags.frozen[name], found=frozen == b"t")
    if name in flags.closed:
        findings.expect(place, where, "closed", expected=b"t", found=closed)
    if name in flags.credit_lines:
        findings.expect(place, where, "credit_line", expected=b"%d" % flags.credit_lines[name], found=credit_line)


def _last_balance(fields: Sequence[bytes]) -> int:
    """The balance after the later of the last lines that debit and credit an account; zero without any."""
    sides = [fields[0:3], fields[3:6]]
    found = [(int(seq), int(line), int(balance)) for seq, line, balance in sides if seq != NULL]
    return max(found)[2] if found else 0


async def _compare_ids(raw: "asyncpg.Connection[Any]", whole: Whole, number: int) -> None:
    keys = list(whole.keys)
    for start in range(0, len(keys), PAGE):
        some = keys[start : start + PAGE]
        stored = dict(await raw.fetch("SELECT key, seq FROM ledger_find_ids($1, $2)", number, some))
        for key in some:
            seq = whole.keys[key]
            where = f"id of command {seq}"
            found = stored.get(key, "no row")
            whole.findings.expect(Place(JOURNAL, seq), where, "seq", expected=seq, found=found)
