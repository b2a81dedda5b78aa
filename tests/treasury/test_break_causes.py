"""What may be behind a break: each cause is recognised by what speaks for it, and not by what is only like it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from treasury.break_causes import GAS, ByHand, Facts, Gap, Movement, OnItsWay, StatementLine, causes_of
from treasury.records import BreakReason, CauseCode, Finding, InFlight, Likelihood

HOT, COIN = "house/custody:local:hot/USDC", "house/custody:local:gas/ETH"
BANK, RAIL = "house/bank:main/EUR", "house/provider:stripe/EUR"
TX, OTHER = "0x" + "ab" * 32, "0x" + "cd" * 32

C, R = CauseCode, BreakReason


def exact(code: CauseCode, name: str = TX):
    return code, Likelihood.EXACT, (name,)


def likely(code: CauseCode, *evidence: str):
    return code, Likelihood.LIKELY, evidence


def possible(code: CauseCode, *evidence: str):
    return code, Likelihood.POSSIBLE, evidence


def chain(difference: int, account: str = HOT) -> Finding:
    asset = account.rpartition("/")[2]
    return Finding(BreakReason.CHAIN_DIFFERS, account, asset, 1_000, 1_000 + difference, "local")


def bank(difference: int) -> Finding:
    return Finding(BreakReason.BANK_DIFFERS, BANK, "EUR", 1_000, 1_000 + difference, detail="S1")


def rail(difference: int) -> Finding:
    return Finding(BreakReason.RAIL_DIFFERS, RAIL, "EUR", 1_000, 1_000 + difference, "rail:stripe", "stripe")


def other(reason: BreakReason, detail: str = "") -> Finding:
    return Finding(reason, HOT, "USDC", 7, 0, "local", detail)


def moved(amount: int, booked: int = 0, *, account: str = HOT, told: int | None = None, **more) -> Facts:
    movement = Movement(account, told or amount, amount, booked, TX, more.pop("place", "log:0"), **more)
    return Facts(movements=[movement])


def line(amount: int, booked: int, **more) -> Facts:
    return Facts(lines=[StatementLine("lin_1", BANK, amount, booked, **more)])


def under_way(account: str) -> Facts:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Facts(in_flight=[InFlight("local", account, "USDC", 5, 9, TX, "log:0", now)])


def by_hand(amount: int, account: str = HOT) -> Facts:
    return Facts(by_hand=[ByHand("adj_1", account, amount)])


settling = Facts(on_their_way=[OnItsWay("set_1", "stripe", "EUR", 70)])
coins = Facts(coins={"local": "ETH"})
gap = Facts(gaps=[Gap("local", 5, 7)])
timing = possible(C.TIMING, "S1")
maybe_late = possible(C.TIMING)

CASES = [
    # what, finding, facts, causes
    ("gas of ours", chain(-21, COIN), moved(-21, account=COIN, place=GAS), [exact(C.UNBOOKED_GAS)]),
    ("another amount of gas", chain(-20, COIN), moved(-21, account=COIN, place=GAS), []),
    ("gas that is booked", chain(-21, COIN), moved(-21, -21, account=COIN, place=GAS), []),
    ("gas of another account", chain(-21), moved(-21, account=COIN, place=GAS), []),
    (
        "gas of a stranger",
        chain(-21, COIN),
        moved(-21, account=COIN, place=GAS, ours=False),
        [exact(C.FOREIGN_TRANSACTION)],
    ),
    ("a stranger's transfer", chain(-50), moved(-50, ours=False), [exact(C.FOREIGN_TRANSACTION)]),
    ("our transfer, not booked", chain(-50), moved(-50), [exact(C.LATE_SETTLEMENT)]),
    ("an arrival, not booked", chain(50), moved(50), [exact(C.LATE_SETTLEMENT)]),
    ("it goes the other way", chain(-50), moved(50), []),
    ("an arrival that is booked", chain(50), moved(50, 50), []),
    ("booked twice", chain(-50), moved(50, 100), [exact(C.DUPLICATE)]),
    ("booked three times", chain(-100), moved(50, 150), [exact(C.DUPLICATE)]),
    ("paid once, booked twice", chain(50), moved(-50, -100), [exact(C.DUPLICATE)]),
    ("booked the wrong way", chain(100), moved(50, -50), [exact(C.MANUAL_CHANGE)]),
    ("booked, and gone", chain(-50), moved(50, 50, orphaned=True), [exact(C.ORPHAN_CREDITED)]),
    ("gone, and taken back", chain(-50), moved(50, 0, orphaned=True), []),
    ("less arrived than told", chain(-3), moved(97, 100, told=100), [exact(C.FEE_ON_TRANSFER)]),
    ("what arrived is booked", chain(-3), moved(97, 97, told=100), []),
    ("an entry by hand", chain(-50), by_hand(50), [likely(C.MANUAL_CHANGE, "adj_1")]),
    ("by hand, the other way", chain(50), by_hand(50), []),
    ("by hand, elsewhere", chain(-50), by_hand(50, COIN), []),
    ("blocks are missing", chain(1), gap, [likely(C.SKIPPED_BLOCK, "local block 5 to 7")]),
    ("of another network", chain(1), Facts(gaps=[Gap("base", 5, 7)]), []),
    ("more coins than told", chain(5, COIN), coins, [possible(C.MISSED_INNER_TRANSFER)]),
    ("fewer coins than told", chain(-5, COIN), coins, []),
    ("more of a token", chain(5), coins, []),
    (
        "an arrival explains it",
        chain(5, COIN),
        replace(moved(5, account=COIN), coins=coins.coins),
        [exact(C.LATE_SETTLEMENT)],
    ),
    ("it's being taken in", chain(1), under_way(HOT), [possible(C.TIMING, TX)]),
    ("elsewhere it is", chain(1), under_way(COIN), []),
    ("a line that isn't booked", bank(70), line(70, 0), [exact(C.WRONG_STATEMENT_LINE, "lin_1"), timing]),
    ("another line", bank(71), line(70, 0), [timing]),
    ("a line booked twice", bank(-70), line(70, 140), [exact(C.DUPLICATE, "lin_1"), timing]),
    ("booked on the wrong side", bank(140), line(70, -70), [exact(C.WRONG_STATEMENT_LINE, "lin_1"), timing]),
    (
        "told in two statements",
        bank(-70),
        line(70, 70, twins=("lin_2",)),
        [likely(C.DUPLICATE, "lin_1", "lin_2"), timing],
    ),
    ("nobody's line", bank(-70), line(70, 70, suspended=True), [likely(C.WRONG_STATEMENT_LINE, "lin_1"), timing]),
    ("somebody's line", bank(-70), line(70, 70), [timing]),
    ("a settlement came early", bank(70), settling, [likely(C.LATE_SETTLEMENT, "set_1"), timing]),
    ("it can't have taken it", bank(-70), settling, [timing]),
    ("at the bank by hand", bank(-70), by_hand(70, BANK), [likely(C.MANUAL_CHANGE, "adj_1"), timing]),
    ("a settlement has left", rail(-70), settling, [likely(C.LATE_SETTLEMENT, "set_1"), maybe_late]),
    ("of another amount", rail(-71), settling, [maybe_late]),
    (
        "a counter",
        other(R.COUNTER_DRIFT, "debits_posted"),
        Facts(),
        [likely(C.MANUAL_CHANGE), possible(C.STORAGE_FAULT)],
    ),
    ("an asset's sum", other(R.UNBALANCED), Facts(), [likely(C.MANUAL_CHANGE), possible(C.STORAGE_FAULT)]),
    ("holds", other(R.HOLD_DRIFT), Facts(), [likely(C.MANUAL_CHANGE), possible(C.STORAGE_FAULT)]),
    ("a line", other(R.JOURNAL_DIFFERS), Facts(), [likely(C.MANUAL_CHANGE), possible(C.STORAGE_FAULT)]),
    ("a position", other(R.POSITION_DIFFERS, "cost"), Facts(), [likely(C.MANUAL_CHANGE), possible(C.STORAGE_FAULT)]),
    ("a gap", other(R.STATEMENT_GAP, "S1 S3"), Facts(), [likely(C.TIMING)]),
    ("an overlap", other(R.STATEMENT_OVERLAP, "S1"), Facts(), [possible(C.DUPLICATE), timing]),
    ("no statement", other(R.NO_STATEMENT), Facts(), [likely(C.TIMING)]),
    ("a surplus", other(R.SURPLUS, "0x1 block 4"), Facts(), [likely(C.MISSED_INNER_TRANSFER, "0x1 block 4")]),
    ("an outflow", other(R.FOREIGN_OUTFLOW, f"0x1 {TX} log:0"), Facts(), [exact(C.FOREIGN_TRANSACTION)]),
    ("unbooked for long", other(R.UNBOOKED, f"{TX} log:0"), Facts(), [exact(C.LATE_SETTLEMENT)]),
    ("unbooked gas for long", other(R.UNBOOKED, f"{TX} gas"), Facts(), [exact(C.UNBOOKED_GAS)]),
]


@pytest.mark.parametrize(("finding", "facts", "causes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_cause_is_told_by_what_speaks_for_it_and_by_nothing_like_it(finding, facts, causes):
    assert [(cause.code, cause.likelihood, cause.evidence) for cause in causes_of(finding, facts)] == causes


def test_every_cause_has_its_case():
    told = {code for *_, causes in CASES for code, _, _ in causes}
    assert told == set(CauseCode)


def test_every_kind_of_break_has_its_case():
    assert {finding.reason for _, finding, _, _ in CASES} == set(BreakReason)


def test_what_is_exact_comes_first_and_one_code_names_all_its_evidence():
    twice = [moved(50).movements[0], replace(moved(50).movements[0], tx_hash=OTHER)]
    facts = replace(gap, movements=twice, by_hand=by_hand(-50).by_hand, in_flight=under_way(HOT).in_flight)
    found = causes_of(chain(50), facts)
    assert [(cause.code, cause.evidence) for cause in found] == [
        (CauseCode.LATE_SETTLEMENT, (TX, OTHER)),
        (CauseCode.MANUAL_CHANGE, ("adj_1",)),
        (CauseCode.SKIPPED_BLOCK, ("local block 5 to 7",)),
        (CauseCode.TIMING, (TX,)),
    ]
