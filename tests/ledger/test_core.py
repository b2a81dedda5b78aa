"""The core against the independent model, and each refusal in a table, in order of precedence."""

from datetime import timedelta

import pytest
from hypothesis import given, settings

from ledger.bounds import check_group
from ledger.canonical import kind_of
from ledger.commands import (
    BankEvidence,
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
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    Void,
    alone,
)
from ledger.core import apply
from ledger.memory import BEGINNING
from ledger.outcomes import Refusal
from ledger.outcomes import Refused as R  # noqa: N817
from ledger.riders import Advance, Insert
from ledger.state import State
from tests.ledger.histories import ACCOUNTS, OPENING, START, histories
from tests.ledger.model import PlainBook, told_by

A, B, A_ETH, FX, BANK, RECEIVABLE, HOT = ACCOUNTS


def usd(debit, credit, amount, **rests):
    return Posting(debit=debit, credit=credit, asset="USD", amount=amount, **rests)


def post(name, *postings, **more):
    return Post(id=name, postings=postings, **more)


def opened():
    """A book in which A has 10 USD, B nothing, and the exchange 5 USD of stock."""
    state = State(seq=0, booked_at=BEGINNING)
    funding = post("funding", usd(BANK, A, 10), usd(BANK, FX, 5))
    layer, _ = apply(state, START, [OPENING, alone(funding)])
    return layer


def decide(state, *groups, at=START):
    layer, outcomes = apply(state, at, groups)
    return layer, [outcome for group in outcomes for outcome in group]


SOON = START + timedelta(seconds=5)
BEFORE = SOON - timedelta(microseconds=1)
EARLIER = START - timedelta(days=1)
HELD = Hold(id="held", postings=(usd(A, B, 6), usd(A, FX, 2)), expires_at=SOON)

NOBODY, GONE, COLD, DRAWN = (f"usr_{name}/wallet/USD" for name in ("x", "gone", "cold", "drawn"))
THREE = (usd(A, B, 3),)


def eventful():
    """A book in which 8 of A's 10 USD are held, an account is gone, one frozen, one drawn on, a limit nearly used."""
    state, outcomes = decide(
        opened(),
        *(alone(OpenAccount(id=f"open {name}", account=name)) for name in (GONE, COLD, DRAWN)),
        alone(CloseAccount(id="close", account=GONE)),
        alone(Freeze(id="freeze", scope=FreezeScope.ACCOUNT, target=COLD)),
        alone(SetCreditLine(id="line", account=DRAWN, cap=5)),
        alone(post("draw", usd(DRAWN, BANK, 4), charges=(Charge("limit", 10, 12),))),
        alone(ClosePeriod(id="period", until=EARLIER)),
        alone(HELD),
        alone(Hold(id="closed", postings=(usd(A, B, 1),))),
        alone(Void(id="void", hold="closed")),
        alone(Settle(id="refused", hold="closed")),
    )
    assert [outcome.accepted for outcome in outcomes] == [True] * 11 + [False]
    return state


OWED = {"asset": "USD", "owed": 4}

REFUSALS = [
    # command                                                        at     code                     what explains it
    (post("c", *THREE, effective_at=SOON), START, R.EFFECTIVE_IN_FUTURE, {"booked_at": START.isoformat()}),
    (ClosePeriod(id="c", until=SOON), START, R.EFFECTIVE_IN_FUTURE, {"booked_at": START.isoformat()}),
    (ClosePeriod(id="c", until=EARLIER), START, R.PERIOD_CLOSED, {"closed_until": EARLIER.isoformat()}),
    (post("c"), START, R.NO_POSTINGS, {}),
    (Reverse(id="c", entry="none", amounts=()), START, R.NO_POSTINGS, {}),
    (post("c", usd(A, NOBODY, 0)), START, R.INVALID_AMOUNT, {"amount": "0"}),
    (post("c", usd(A, NOBODY, -3)), START, R.INVALID_AMOUNT, {"amount": "-3"}),
    (post("c", usd(A, NOBODY, 2**256)), START, R.INVALID_AMOUNT, {"amount": str(2**256)}),
    (post("c", *THREE, charges=(Charge("limit", -1, 5),)), START, R.INVALID_AMOUNT, {"amount": "-1"}),
    (Settle(id="c", hold="none", amounts=((0, 0),)), START, R.INVALID_AMOUNT, {"amount": "0"}),
    (SetCreditLine(id="c", account=NOBODY, cap=-1), START, R.INVALID_AMOUNT, {"amount": "-1"}),
    (Reverse(id="c", entry="none", amounts=((0, 0),)), START, R.INVALID_AMOUNT, {"amount": "0"}),
    (Reverse(id="c", entry="none"), START, R.UNKNOWN_ENTRY, {"entry": "none"}),
    (Reverse(id="c", entry="held"), START, R.NOT_REVERSIBLE, {"entry": "held", "kind": "hold"}),
    (Reverse(id="c", entry="refused"), START, R.NOT_REVERSIBLE, {"entry": "refused", "kind": "settle"}),
    (post("c", usd(NOBODY, NOBODY, 3)), START, R.SAME_ACCOUNT, {"account": NOBODY}),
    (post("c", usd(A, B, 3, debit_rest=B)), START, R.SAME_ACCOUNT, {"account": A}),
    (post("c", usd(A_ETH, NOBODY, 3)), START, R.UNKNOWN_ACCOUNT, {"account": NOBODY}),
    (CloseAccount(id="c", account=NOBODY), START, R.UNKNOWN_ACCOUNT, {"account": NOBODY}),
    (SetCreditLine(id="c", account=NOBODY, cap=1), START, R.UNKNOWN_ACCOUNT, {"account": NOBODY}),
    (Freeze(id="c", scope=FreezeScope.ACCOUNT, target=NOBODY), START, R.UNKNOWN_ACCOUNT, {"account": NOBODY}),
    (
        *(post("c", usd(GONE, A_ETH, 3)), START, R.ASSET_MISMATCH),
        {"account": A_ETH, "account_asset": "ETH", "posting_asset": "USD"},
    ),
    (post("c", usd(COLD, GONE, 3)), START, R.ACCOUNT_CLOSED, {"account": GONE}),
    (OpenAccount(id="c", account=GONE), START, R.ACCOUNT_CLOSED, {"account": GONE}),
    (
        Hold(id="c", postings=(usd(COLD, A, 3),), expires_at=START),
        START,
        R.FROZEN,
        {"scope": "account", "target": COLD},
    ),
    (post("c", *THREE, owing_nothing=(A, "usr_x/wallet/USD", DRAWN)), START, R.RECEIVABLE_OPEN, OWED),
    (Hold(id="c", postings=THREE, expires_at=START, owing_nothing=(DRAWN,)), START, R.RECEIVABLE_OPEN, OWED),
    (Settle(id="c", hold="none", owing_nothing=(DRAWN,)), START, R.RECEIVABLE_OPEN, OWED),
    (Hold(id="c", postings=THREE, expires_at=START), START, R.EXPIRES_IN_PAST, {"booked_at": START.isoformat()}),
    (Settle(id="c", hold="none"), START, R.UNKNOWN_HOLD, {"hold": "none"}),
    (Settle(id="c", hold="closed", amounts=((7, 1),)), START, R.HOLD_CLOSED, {"hold": "closed", "state": "voided"}),
    (Expire(id="c", hold="closed"), SOON, R.HOLD_CLOSED, {"hold": "closed", "state": "voided"}),
    (Settle(id="c", hold="held", amounts=((7, 1),)), SOON, R.HOLD_EXPIRED, {"hold": "held"}),
    (Void(id="c", hold="held"), SOON, R.HOLD_EXPIRED, {"hold": "held"}),
    (Expire(id="c", hold="held"), BEFORE, R.NOT_YET, {"hold": "held"}),
    (Expire(id="c", hold="held"), START, R.NOT_YET, {"hold": "held"}),
    (Settle(id="c", hold="held", amounts=((0, 7), (7, 1))), START, R.UNKNOWN_POSTING, {"hold": "held", "posting": 7}),
    (
        Reverse(id="c", entry="funding", amounts=((0, 99), (2, 1))),
        START,
        R.UNKNOWN_POSTING,
        {"entry": "funding", "posting": 2},
    ),
    (
        *(Settle(id="c", hold="held", amounts=((0, 4), (0, 3))), START, R.EXCEEDS_REMAINDER),
        {"hold": "held", "posting": 0, "required": 7, "remaining": 6},
    ),
    (
        *(Reverse(id="c", entry="funding", amounts=((0, 8), (0, 3))), START, R.EXCEEDS_REMAINDER),
        {"entry": "funding", "posting": 0, "required": 11, "remaining": 10},
    ),
    (CloseAccount(id="c", account=A), START, R.ACCOUNT_IN_USE, {"account": A, "balance": 10, "held": 8}),
    (CloseAccount(id="c", account=B), START, R.ACCOUNT_IN_USE, {"account": B, "balance": 0, "held": 6}),
    (SetCreditLine(id="c", account=BANK, cap=1), START, R.NOT_LIMITED, {"account": BANK}),
    (
        *(SetCreditLine(id="c", account=DRAWN, cap=3), START, R.CREDIT_LINE_IN_USE),
        {"account": DRAWN, "in_use": 4, "cap": 3},
    ),
    (
        *(post("c", usd(A, B, 13), charges=(Charge("limit", 3, 12),)), START, R.LIMIT_EXCEEDED),
        {"counter": "limit", "required": 3, "used": 10, "cap": 12, "available": 2},
    ),
    (
        *(post("c", usd(A, B, 13), charges=(Charge("limit", 3, 12, may_ask_again=True),)), START, R.ALLOWANCE_SPENT),
        {"counter": "limit", "required": 3, "used": 10, "cap": 12, "available": 2},
    ),
    (
        *(Record(id="c", facts={}, charges=(Charge("limit", 3, 12),)), START, R.LIMIT_EXCEEDED),
        {"counter": "limit", "required": 3, "used": 10, "cap": 12, "available": 2},
    ),
    (post("c", usd(RECEIVABLE, A, 2**256 - 10), usd(B, A, 1)), START, R.AMOUNT_OVERFLOW, {"account": A}),
    (Hold(id="c", postings=(usd(RECEIVABLE, A, 2**256 - 10),)), START, R.AMOUNT_OVERFLOW, {"account": A}),
    (Hold(id="c", postings=(usd(BANK, B, 2**256 - 15),)), START, R.AMOUNT_OVERFLOW, {"account": BANK}),
    (post("c", *THREE), START, R.INSUFFICIENT_FUNDS, {"account": A, "required": 3, "available": 2}),
    (Hold(id="c", postings=THREE), START, R.INSUFFICIENT_FUNDS, {"account": A, "required": 3, "available": 2}),
    (post("c", usd(FX, B, 6)), START, R.INSUFFICIENT_FUNDS, {"account": FX, "required": 6, "available": 5}),
    (post("c", usd(DRAWN, B, 2)), START, R.INSUFFICIENT_FUNDS, {"account": DRAWN, "required": 2, "available": 1}),
    (
        post("c", usd(BANK, B, 6), covered=True),
        START,
        R.INSUFFICIENT_FUNDS,
        {"account": BANK, "required": 6, "available": 0},
    ),
    (
        *(post("c", usd(A, FX, 2), bounds=(Bound(FX, most=6),)), START, R.OUT_OF_BOUNDS),
        {"account": FX, "required": 2, "available": 1, "most": 6},
    ),
    (
        *(post("c", usd(FX, A, 2), bounds=(Bound(FX, least=4),)), START, R.OUT_OF_BOUNDS),
        {"account": FX, "required": 2, "available": 1, "least": 4},
    ),
    (Reverse(id="c", entry="funding"), START, R.INSUFFICIENT_FUNDS, {"account": A, "required": 10, "available": 2}),
]


@pytest.mark.parametrize(
    ("command", "at", "code", "facts"),
    REFUSALS,
    ids=[f"{row[2]}-{kind_of(row[0])}" for row in REFUSALS],
)
def test_each_refusal_has_its_code_and_says_why(command, at, code, facts):
    """Most break a second rule that comes later in the order."""
    state = eventful()
    before = {name: state.account(name) for name in (*ACCOUNTS, GONE, COLD, DRAWN)}
    state, outcomes = decide(state, alone(command), at=at)
    assert (outcomes[0].refusal.code, outcomes[0].refusal.facts) == (code, facts)
    assert {name: state.account(name) for name in before} == before
    assert (state.counter("limit"), state.closed_until, state.hold("held").state) == (10, EARLIER, "open")


def test_a_spent_allowance_leaves_the_id_free_for_another_price():
    state = eventful()
    seq, booked_at, free = state.seq, state.booked_at, Charge("limit", 3, 12, may_ask_again=True)
    state, (undecided,) = decide(state, alone(post("c", usd(A, B, 1), charges=(free,))))
    assert (undecided.refusal.code, undecided.seq, state.outcome("c")) == (R.ALLOWANCE_SPENT, 0, None)
    assert (state.seq, state.booked_at) == (seq, booked_at)
    state, (outcome,) = decide(state, alone(post("c", usd(A, B, 2))))
    assert (outcome.refusal, outcome.seq, state.counter("limit")) == (None, seq + 1, 10)


def test_a_limit_refuses_for_good_whatever_is_left_of_an_allowance():
    charges = (Charge("limit", 3, 12, may_ask_again=True), Charge("day", 2, 1))
    state, (outcome,) = decide(eventful(), alone(post("c", usd(A, B, 1), charges=charges)))
    assert (outcome.refusal.code, state.outcome("c").refusal.code) == (R.LIMIT_EXCEEDED, R.LIMIT_EXCEEDED)


@pytest.mark.parametrize(
    ("posting", "bound"),
    [(usd(FX, A, 1), Bound(FX, most=2)), (usd(A, FX, 1), Bound(FX, least=9)), (usd(A, B, 1), Bound(FX, 9, 2))],
)
def test_what_is_outside_its_bounds_already_may_come_nearer_or_stay(posting, bound):
    _, (outcome,) = decide(eventful(), alone(post("c", posting, bounds=(bound,))))
    assert outcome.accepted


def test_the_table_has_every_code_in_the_cores_order():
    """But for those of ids, rows and groups, which have tests of their own."""
    of_their_own = {R.ID_CONFLICT, R.DUPLICATE_ROW, R.STALE_STATE, R.GROUP_REFUSED}
    assert list(dict.fromkeys(row[2] for row in REFUSALS)) == [code for code in R if code not in of_their_own]


def test_a_row_comes_before_all_else_that_is_wrong_and_a_repeat_before_that():
    row = Insert("things", {"book": "main", "id": "x"}, {"state": "new"})
    state, _ = decide(eventful(), alone(post("first", usd(BANK, A, 1)), row))
    _, [stale, double, conflict] = decide(
        state,
        alone(post("c", effective_at=SOON), Advance("things", row.key, {"state": "used"}, {"state": "new"})),
        alone(post("d", effective_at=SOON), row),
        alone(post("first", effective_at=SOON), row),
    )
    assert (stale.refusal.code, stale.refusal.facts) == (R.STALE_STATE, {"table": "things"})
    assert (double.refusal.code, double.refusal.facts) == (R.DUPLICATE_ROW, {"table": "things"})
    assert (conflict.refusal.code, conflict.seq) == (R.ID_CONFLICT, 0)


def test_a_refused_group_names_the_command_that_stopped_it_and_changes_nothing():
    fine, wrong, later = post("fine", usd(A, B, 1)), post("wrong", usd(A, B, 2)), post("later", usd(BANK, A, 1))
    state, outcomes = decide(eventful(), Group((fine, wrong, later)))
    because = {"because": "wrong", "code": "insufficient_funds"}
    assert [outcome.refusal.code for outcome in outcomes] == [R.GROUP_REFUSED, R.INSUFFICIENT_FUNDS, R.GROUP_REFUSED]
    assert [outcome.refusal.facts for outcome in outcomes[::2]] == [because, because]
    assert state.account(A).available == 2


def test_a_conflict_names_what_was_first_made_under_the_id():
    state, [first] = decide(opened(), alone(post("c", usd(A, B, 1), subject="trf_1")))
    _, [conflict] = decide(state, alone(post("c", usd(A, B, 2), subject="trf_2")))
    assert conflict.refusal.facts == {"first": "trf_1", "first_seq": first.seq}


def test_limits_look_only_at_the_state_after_the_whole_entry():
    _, outcomes = decide(opened(), alone(post("c", usd(B, FX, 4), usd(A, B, 4))))
    assert outcomes[0].accepted


def test_a_freeze_stops_intents_but_not_evidence():
    freeze = Freeze(id="f", scope=FreezeScope.OWNER, target="usr_b")
    intent = post("i", usd(A, B, 1))
    fact = post("e", usd(BANK, B, 1), evidence=BankEvidence("main", "S1", 1))
    _, outcomes = decide(opened(), alone(freeze), alone(intent), alone(fact))
    assert [o.refusal and o.refusal.code for o in outcomes] == [None, R.FROZEN, None]


STOPPED_BY = [
    # target   the account's purpose       stopped
    ("local", "custody:local:hot",         True),
    ("local", "in-transit:local:out",      True),
    ("local", "custody:other:hot",         False),
    ("local", "suspense",                  False),
    ("main",  "bank:main",                 True),
    ("main",  "receivable:main",           False),
    ("card",  "provider:card",             True),
    ("card",  "in-transit:card:in",        True),
]  # fmt: skip


@pytest.mark.parametrize(("target", "purpose", "stopped"), STOPPED_BY)
def test_a_frozen_network_stops_intents_at_it_alone_and_no_evidence(target, purpose, stopped):
    account = f"house/{purpose}/USD"
    known = [
        alone(OpenAccount(id="o", account=account)),
        alone(Freeze(id="f", scope=FreezeScope.NETWORK, target=target)),
    ]
    fact = post("e", usd(account, B, 1), evidence=BankEvidence("main", "S1", 1))
    _, outcomes = decide(opened(), *known, alone(post("i", usd(A, account, 1))), alone(fact))
    refusal = Refusal(R.FROZEN, {"scope": "network", "target": target}) if stopped else None
    assert [outcome.refusal for outcome in outcomes[2:]] == [refusal, None]


def test_what_the_owner_lacks_becomes_a_receivable_in_the_same_entry():
    taken = post("c", usd(A, BANK, 25, debit_rest=RECEIVABLE))
    state, outcomes = decide(opened(), alone(taken))
    assert [(line.debit, line.amount) for line in outcomes[0].lines] == [(A, 10), (RECEIVABLE, 15)]
    won = post("d", usd(BANK, RECEIVABLE, 20, credit_rest=A))
    state, outcomes = decide(state, alone(won))
    assert [(line.credit, line.amount) for line in outcomes[0].lines] == [(RECEIVABLE, 15), (A, 5)]
    assert (state.account(A).balance, state.account(RECEIVABLE).balance) == (5, 0)


def test_a_settled_part_leaves_the_rest_held_and_close_releases_it():
    state, _ = decide(opened(), alone(HELD), alone(Settle(id="s1", hold="held", amounts=((0, 4),))))
    assert (state.account(A).balance, state.account(A).available) == (6, 2)
    state, _ = decide(state, alone(Settle(id="s2", hold="held", amounts=((1, 1),), close=True)))
    assert (state.account(A).balance, state.account(A).available) == (5, 5)
    assert (state.account(B).balance, state.account(FX).balance) == (4, 6)


PART = Settle(id="part", hold="charged", amounts=((0, 1),))


@pytest.mark.parametrize(
    ("ends", "at", "used"),
    [
        ([Void(id="end", hold="charged")], START, 10),
        ([Expire(id="end", hold="charged")], SOON, 10),
        ([Settle(id="end", hold="charged", amounts=(), close=True)], START, 10),
        ([Settle(id="end", hold="charged")], START, 12),
        ([Settle(id="end", hold="charged", amounts=((0, 1),), close=True)], START, 12),
        ([PART, Void(id="end", hold="charged")], START, 12),
        ([PART, Settle(id="end", hold="charged", amounts=(), close=True)], START, 12),
    ],
)
def test_a_hold_gives_its_charges_back_if_nothing_of_it_was_settled(ends, at, used):
    charged = Hold(id="charged", postings=(usd(BANK, A, 2),), charges=(Charge("limit", 2, 12),), expires_at=SOON)
    state, _ = decide(eventful(), alone(charged))
    assert state.counter("limit") == 12
    state, outcomes = decide(state, *map(alone, ends), at=at)
    assert all(outcome.accepted for outcome in outcomes)
    assert state.counter("limit") == used


@pytest.mark.parametrize("second", [Settle(id="b", hold="held"), Void(id="b", hold="held")])
def test_f64_settle_and_void_in_one_batch_have_one_winner(second):
    first = Void(id="a", hold="held") if isinstance(second, Settle) else Settle(id="a", hold="held")
    _, outcomes = decide(opened(), alone(HELD), alone(first), alone(second))
    assert [o.refusal and o.refusal.code for o in outcomes] == [None, None, R.HOLD_CLOSED]


@pytest.mark.parametrize(("at", "winner"), [(START, "settle"), (BEFORE, "settle"), (SOON, "expire")])
@pytest.mark.parametrize("order", [("settle", "expire"), ("expire", "settle")])
def test_f64_expiry_and_settlement_have_one_winner_at_every_instant(at, winner, order):
    said = {"settle": alone(Settle(id="settle", hold="held")), "expire": alone(Expire(id="expire", hold="held"))}
    state, _ = decide(opened(), alone(HELD))
    _, outcomes = decide(state, *(said[name] for name in order), at=at)
    assert [outcome.id for outcome in outcomes if outcome.accepted] == [winner]


def test_a_repeat_gets_the_first_outcome_and_another_content_a_conflict():
    first = alone(post("c", usd(A, B, 3)))
    state, [outcome] = decide(opened(), first)
    state, [repeat, conflict] = decide(state, first, alone(post("c", usd(A, B, 4))))
    assert (repeat.seq, repeat.lines, repeat.replayed) == (outcome.seq, outcome.lines, True)
    assert conflict.refusal.code is R.ID_CONFLICT
    assert state.seq == outcome.seq


def test_a_refusal_is_remembered_under_its_id():
    spend = alone(post("c", usd(B, A, 3)))
    state, [refused] = decide(opened(), spend)
    state, _ = decide(state, alone(post("fund", usd(BANK, B, 9))))
    _, [again] = decide(state, spend)
    assert again.replayed
    assert again.refusal == refused.refusal


def test_time_never_falls_as_seq_rises():
    state, [late] = decide(opened(), alone(post("c", usd(A, B, 1))), at=SOON)
    _, [early] = decide(state, alone(post("d", usd(A, B, 1))), at=START)
    assert early.booked_at == late.booked_at == SOON


def test_a_rider_is_written_only_with_an_accepted_command():
    row = Insert("things", {"book": "main", "id": "x"}, {"state": "new"})
    refused = decide(opened(), alone(post("c", usd(B, A, 3)), row))[0]
    assert not refused.rows
    state, [accepted] = decide(opened(), alone(post("c", usd(A, B, 3)), row))
    assert accepted.accepted
    _, outcomes = decide(
        state,
        alone(post("d", usd(A, B, 1)), row),
        alone(post("e", usd(A, B, 1)), Advance("things", row.key, {"state": "new"}, {"state": "used"})),
        alone(post("f", usd(A, B, 1)), Advance("things", row.key, {"state": "new"}, {"state": "used"})),
    )
    assert [o.refusal and o.refusal.code for o in outcomes] == [R.DUPLICATE_ROW, None, R.STALE_STATE]


@settings(max_examples=200, deadline=None)
@given(histories(steps=12))
def test_core_agrees_with_the_independent_model_on_every_history(history):
    state, book = State(seq=0, booked_at=BEGINNING), PlainBook()
    for now, batch in [(START, [OPENING]), *history]:
        for group in batch:
            check_group(group)
        predicted = [book.submit(group, now) for group in batch]
        state, decided = apply(state, now, batch)
        assert [tuple(map(told_by, outcomes)) for outcomes in decided] == predicted
    for name in book.is_open:
        account = state.account(name)
        assert account is not None
        counters = account.debits_posted, account.credits_posted, account.debits_pending, account.credits_pending
        assert (name, *counters) == (name, *book.counters(name))
    for asset in ("USD", "ETH"):
        assert sum(book.balance(name) for name in book.is_open if name.endswith(asset)) == 0
