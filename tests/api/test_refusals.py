"""Every refusal of the book as a client sees it: status, code, and the numbers that explain it. In order of precedence.

Each command also breaks rules that are looked at later, where it can, so that a row stands at its place for a reason.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.problems import response_for
from base.clock import ManualClock
from ledger.accounts import house_account, user_account
from ledger.asking import decide
from ledger.commands import (
    Bound,
    Charge,
    CloseAccount,
    ClosePeriod,
    Expire,
    Freeze,
    FreezeScope,
    Group,
    Hold,
    OpenAccount,
    Post,
    Posting,
    Reverse,
    SetCreditLine,
    Settle,
    Void,
    alone,
)
from ledger.errors import RefusedByBook
from ledger.memory import MemoryLedger
from ledger.money import Asset, AssetKind
from ledger.outcomes import Outcome, Refused
from ledger.riders import Advance, Insert

ASSETS = {code: Asset(code, AssetKind.FIAT, 2) for code in ("EUR", "USD")}
ALICE, BOB, CAROL, DAVE = (user_account(f"usr_{name}", "EUR") for name in ("alice", "bob", "carol", "dave"))
NOBODY, DOLLARS = user_account("usr_nobody", "EUR"), user_account("usr_alice", "USD")
BANK = house_account("bank:main", "EUR")
ROW = {"book": "main", "id": "row"}


def eur(debit: str, credit: str, cents: int) -> Posting:
    return Posting(debit, credit, "EUR", cents)


def post(*postings: Posting, **more: Any) -> Group:
    return alone(Post(id="c", subject="trf_c", postings=postings, **more))


def hold(*postings: Posting, expires_at: Any = None) -> Group:
    return alone(Hold(id="c", postings=postings, expires_at=expires_at))


def settle(name: str, *amounts: tuple[int, int]) -> Group:
    return alone(Settle(id="c", hold=name, amounts=amounts or None))


ONE = eur(ALICE, BOB, 1_00)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON, YESTERDAY = NOW + timedelta(days=1), NOW - timedelta(days=1)
TWO = Group((Post(id="c", postings=(ONE,)), Post(id="d", postings=(eur(BOB, ALICE, 500_00),))))

REFUSALS: list[tuple[Refused, Group, int, str, dict[str, Any]]] = [
    # refusal, command, status, code of the problem, facts
    (Refused.ID_CONFLICT,
        alone(Post(id="known", postings=())), 422, "idempotency_key_reused", {"first": "trf_known"}),
    (Refused.DUPLICATE_ROW,
        Group((Post(id="c", postings=()),), (Insert("rows", ROW, {}),)), 409, "duplicate_row", {"table": "rows"}),
    (Refused.STALE_STATE,
        Group((Post(id="c", postings=()),), (Advance("rows", ROW, {"n": 2}, {}),)),
        409, "stale_state", {"table": "rows"}),
    (Refused.EFFECTIVE_IN_FUTURE,
        post(effective_at=SOON), 422, "effective_in_future", {"booked_at": NOW.isoformat()}),
    (Refused.PERIOD_CLOSED,
        alone(ClosePeriod(id="c", until=YESTERDAY)), 409, "period_closed", {"closed_until": YESTERDAY.isoformat()}),
    (Refused.NO_POSTINGS, post(), 422, "no_postings", {}),
    (Refused.INVALID_AMOUNT, post(eur(ALICE, ALICE, 0)), 422, "invalid_amount", {"amount": "0"}),
    (Refused.UNKNOWN_ENTRY, alone(Reverse(id="c", entry="none")), 404, "unknown_entry", {"entry": "none"}),
    (Refused.NOT_REVERSIBLE,
        alone(Reverse(id="c", entry="held", amounts=((9, 1),))),
        409, "not_reversible", {"entry": "held", "kind": "hold"}),
    (Refused.SAME_ACCOUNT, post(eur(NOBODY, NOBODY, 1)), 422, "same_account", {"account": NOBODY}),
    (Refused.UNKNOWN_ACCOUNT, post(eur(DOLLARS, NOBODY, 1)), 404, "unknown_account", {"account": NOBODY}),
    (Refused.ASSET_MISMATCH,
        post(eur(DAVE, DOLLARS, 1)),
        422, "asset_mismatch", {"account": DOLLARS, "account_asset": "USD", "posting_asset": "EUR"}),
    (Refused.ACCOUNT_CLOSED, post(eur(CAROL, DAVE, 1)), 409, "account_closed", {"account": DAVE}),
    (Refused.FROZEN,
        hold(eur(CAROL, ALICE, 1), expires_at=NOW), 409, "frozen", {"scope": "account", "target": CAROL}),
    (Refused.RECEIVABLE_OPEN,
        post(eur(ALICE, BOB, 500_00), owing_nothing=(NOBODY, BOB)),
        409, "receivable_open", {"asset": "EUR", "owed": "5.00"}),
    (Refused.EXPIRES_IN_PAST,
        hold(eur(ALICE, BOB, 500_00), expires_at=NOW), 422, "expires_in_past", {"booked_at": NOW.isoformat()}),
    (Refused.UNKNOWN_HOLD, settle("none", (9, 1)), 404, "unknown_hold", {"hold": "none"}),
    (Refused.HOLD_CLOSED, settle("ended", (9, 1)), 409, "hold_closed", {"hold": "ended", "state": "voided"}),
    (Refused.HOLD_EXPIRED, settle("due", (9, 1)), 409, "hold_expired", {"hold": "due"}),
    (Refused.NOT_YET, alone(Expire(id="c", hold="held")), 409, "not_yet", {"hold": "held"}),
    (Refused.UNKNOWN_POSTING,
        settle("held", (0, 99_00), (9, 1)), 422, "unknown_posting", {"hold": "held", "posting": 9}),
    (Refused.EXCEEDS_REMAINDER,
        settle("held", (0, 20_01)),
        422, "exceeds_remainder", {"hold": "held", "posting": 0, "required": 2001, "remaining": 2000}),
    (Refused.ACCOUNT_IN_USE,
        alone(CloseAccount(id="c", account=ALICE)),
        409, "account_in_use", {"account": ALICE, "balance": "100.00", "held": "30.00", "asset": "EUR"}),
    (Refused.NOT_LIMITED,
        alone(SetCreditLine(id="c", account=BANK, cap=1)), 422, "not_limited", {"account": BANK}),
    (Refused.CREDIT_LINE_IN_USE,
        alone(SetCreditLine(id="c", account=BOB, cap=4_99)),
        409, "credit_line_in_use", {"account": BOB, "in_use": "5.00", "cap": "4.99", "asset": "EUR"}),
    (Refused.LIMIT_EXCEEDED,
        post(eur(ALICE, BOB, 500_00), charges=(Charge("day", 3, 10),)),
        422, "limit_exceeded", {"counter": "day", "required": 3, "used": 8, "cap": 10, "available": 2}),
    (Refused.ALLOWANCE_SPENT,
        post(eur(ALICE, BOB, 500_00), charges=(Charge("day", 3, 10, may_ask_again=True),)),
        409, "allowance_spent", {"counter": "day", "required": 3, "used": 8, "cap": 10, "available": 2}),
    (Refused.AMOUNT_OVERFLOW, post(eur(ALICE, BOB, 2**256 - 1)), 422, "amount_overflow", {"account": ALICE}),
    (Refused.INSUFFICIENT_FUNDS,
        post(eur(ALICE, BOB, 70_01)),
        422, "insufficient_funds", {"account": ALICE, "required": "70.01", "available": "70.00", "asset": "EUR"}),
    (Refused.OUT_OF_BOUNDS,
        alone(Post(id="c", postings=(eur(ALICE, BOB, 3_00),), bounds=(Bound(BOB, most=-3_00),))),
        409, "out_of_bounds",
        {"account": BOB, "required": "3.00", "available": "2.00", "most": "-3.00", "asset": "EUR"}),
    (Refused.GROUP_REFUSED, TWO, 422, "group_refused", {"because": "d"}),
]  # fmt: skip


@pytest.fixture
async def ledger() -> MemoryLedger:
    """Alice has 100.00, of which 30.00 are held; bob has drawn 5.00 of a line; carol is frozen, dave's account gone."""
    clock = ManualClock(NOW - timedelta(hours=1))
    ledger = MemoryLedger(clock, known_assets=dict(ASSETS))
    for account in (ALICE, BOB, CAROL, DAVE, DOLLARS, BANK):
        await decide(ledger, alone(OpenAccount(id=f"open {account}", account=account)))
    for command in (
        Post(id="fund", postings=(eur(BANK, ALICE, 100_00), eur(BANK, CAROL, 1_00))),
        SetCreditLine(id="line", account=BOB, cap=10_00),
        Post(id="draw", postings=(eur(BOB, BANK, 5_00),), charges=(Charge("day", 8, 10),)),
        Freeze(id="freeze", scope=FreezeScope.ACCOUNT, target=CAROL),
        CloseAccount(id="close", account=DAVE),
        ClosePeriod(id="period", until=YESTERDAY),
        Hold(id="held", postings=(eur(ALICE, BOB, 20_00),), expires_at=SOON),
        Hold(id="due", postings=(eur(ALICE, BOB, 10_00),), expires_at=NOW),
        Hold(id="ended", postings=(eur(ALICE, BOB, 1_00),)),
        Void(id="void", hold="ended"),
    ):
        await decide(ledger, alone(command))
    known = Post(id="known", subject="trf_known", postings=(eur(BANK, BOB, 1),))
    await decide(ledger, alone(known, Insert("rows", ROW, {"n": 1})))
    await decide(ledger, alone(Post(id="back", postings=(eur(BOB, BANK, 1),))))
    clock.advance(timedelta(hours=1))
    return ledger


def test_every_refusal_has_its_row_in_order_of_precedence():
    assert [code for code, *_ in REFUSALS] == list(Refused)


@pytest.mark.parametrize(
    ("refusal", "group", "status", "code", "facts"), REFUSALS, ids=[str(code) for code, *_ in REFUSALS]
)
async def test_each_is_a_problem_with_its_numbers(ledger, refusal, group, status, code, facts):
    with pytest.raises(RefusedByBook) as refused:
        await _refuse(ledger, refusal, group)
    assert refused.value.code == refusal
    response = response_for(refused.value, request_id="req_1", assets=ASSETS)
    shown = json.loads(bytes(response.body))
    assert (response.status_code, shown.pop("status"), shown.pop("code")) == (status, status, code)
    assert (shown.pop("type"), shown.pop("request_id")) == (f"/problems/{code}", "req_1")
    assert all(shown.pop(name) for name in ("title", "detail", "remedy"))
    assert shown == facts


async def _refuse(ledger: MemoryLedger, refusal: Refused, group: Group) -> None:
    """Raise what the group's caller is told; of the commands that others stopped, what the book remembers."""
    if refusal is not Refused.GROUP_REFUSED:
        await decide(ledger, group)
        return
    with pytest.raises(RefusedByBook) as stopped:
        await decide(ledger, group)
    assert stopped.value.code == Refused.INSUFFICIENT_FUNDS  # by which the group is told
    outcome: Outcome = (await ledger.outcomes("c"))[0]
    assert outcome.refusal is not None
    error = RefusedByBook("stopped", code=outcome.refusal.code)
    error.facts = dict(outcome.refusal.facts)
    raise error
