"""The core against the independent model, and each refusal in a table, in order of precedence."""

from datetime import timedelta

import pytest
from hypothesis import given, settings

from ledger.bounds import check_group
from ledger.commands import (
    BankEvidence,
    CloseAccount,
    Expire,
    Freeze,
    FreezeScope,
    Hold,
    Post,
    Posting,
    SetCreditLine,
    Settle,
    Void,
    alone,
)
from ledger.core import apply
from ledger.memory import BEGINNING
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
HELD = Hold(id="held", postings=(usd(A, B, 6), usd(A, FX, 2)), expires_at=SOON)

REFUSALS = [
    # command                                                              at     code
    (post("c"), START, R.NO_POSTINGS),
    (post("c", usd(A, "nobody/x/USD", 0)), START, R.INVALID_AMOUNT),
    (post("c", usd(A, "nobody/x/USD", -3)), START, R.INVALID_AMOUNT),
    (post("c", usd(A, "nobody/x/USD", 2**256)), START, R.INVALID_AMOUNT),
    (post("c", usd(A, A, 3)), START, R.SAME_ACCOUNT),
    (post("c", usd(A, B, 3, debit_rest=B)), START, R.SAME_ACCOUNT),
    (post("c", usd(A, "nobody/x/USD", 3)), START, R.UNKNOWN_ACCOUNT),
    (post("c", usd(A, A_ETH, 3)), START, R.ASSET_MISMATCH),
    (post("c", usd(A, B, 3), effective_at=SOON), START, R.EFFECTIVE_IN_FUTURE),
    (Hold(id="c", postings=(usd(A, B, 3),), expires_at=START), START, R.EXPIRES_IN_PAST),
    (Settle(id="c", hold="none"), START, R.UNKNOWN_HOLD),
    (Settle(id="c", hold="closed"), START, R.HOLD_CLOSED),
    (Settle(id="c", hold="held"), SOON, R.HOLD_EXPIRED),
    (Void(id="c", hold="held"), SOON, R.HOLD_EXPIRED),
    (Expire(id="c", hold="held"), START, R.NOT_YET),
    (Expire(id="c", hold="closed"), SOON, R.HOLD_CLOSED),
    (Settle(id="c", hold="held", amounts=((7, 1),)), START, R.UNKNOWN_POSTING),
    (Settle(id="c", hold="held", amounts=((0, 7),)), START, R.EXCEEDS_REMAINDER),
    (Settle(id="c", hold="held", amounts=((0, 4), (0, 3))), START, R.EXCEEDS_REMAINDER),
    (CloseAccount(id="c", account=A), START, R.ACCOUNT_IN_USE),
    (CloseAccount(id="c", account="nobody/x/USD"), START, R.UNKNOWN_ACCOUNT),
    (SetCreditLine(id="c", account=BANK, cap=1), START, R.NOT_LIMITED),
    (SetCreditLine(id="c", account=A, cap=-1), START, R.INVALID_AMOUNT),
    (post("c", usd(A, B, 3)), START, R.INSUFFICIENT_FUNDS),
    (post("c", usd(FX, B, 6)), START, R.INSUFFICIENT_FUNDS),
    (post("c", usd(BANK, B, 6), covered=True), START, R.INSUFFICIENT_FUNDS),
    (post("c", usd(BANK, A, 2**256 - 5)), START, R.AMOUNT_OVERFLOW),
]


@pytest.mark.parametrize(("command", "at", "code"), REFUSALS, ids=lambda value: str(getattr(value, "id", value)))
def test_each_refusal_has_its_code(command, at, code):
    closed = Hold(id="closed", postings=(usd(A, B, 1),))
    state, _ = decide(opened(), alone(HELD), alone(closed), alone(Void(id="void", hold="closed")))
    before = {name: state.account(name) for name in ACCOUNTS}
    state, outcomes = decide(state, alone(command), at=at)
    assert outcomes[0].refusal.code is code
    assert {name: state.account(name) for name in ACCOUNTS} == before


def test_a_refusal_says_what_was_required_and_available():
    _, outcomes = decide(opened(), alone(post("c", usd(A, B, 13))))
    assert outcomes[0].refusal.facts == {"account": A, "required": 13, "available": 10}


def test_limits_look_only_at_the_state_after_the_whole_entry():
    _, outcomes = decide(opened(), alone(post("c", usd(B, FX, 4), usd(A, B, 4))))
    assert outcomes[0].accepted


def test_a_freeze_stops_intents_but_not_evidence():
    freeze = Freeze(id="f", scope=FreezeScope.OWNER, target="usr_b")
    intent = post("i", usd(A, B, 1))
    fact = post("e", usd(BANK, B, 1), evidence=BankEvidence("main", "S1", 1))
    _, outcomes = decide(opened(), alone(freeze), alone(intent), alone(fact))
    assert [o.refusal and o.refusal.code for o in outcomes] == [None, R.FROZEN, None]


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
