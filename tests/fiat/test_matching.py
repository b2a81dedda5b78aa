import dataclasses
from datetime import UTC, date, datetime

import pytest
from msgspec.structs import replace

from base.entropy import SeededEntropy
from fiat.bank.identity import with_ids
from fiat.bank.lines import Direction
from fiat.bank.matching import (
    EXPLANATIONS,
    Matched,
    Named,
    NamesPayout,
    PaidOut,
    Reason,
    Unmatched,
    match_batch,
    match_line,
    read_line,
)
from fiat.bank.records import BankAccount, BankLine, LineState, advance
from fiat.errors import BankMisconfigured, LineNotWaiting
from fiat.payouts import PAYPAL
from fiat.references import new_reference, show
from fiat.top_ups import BANK
from tests.fiat.statements import Entry, camt053, read_statements
from tests.fiat.test_payout_files import payout

ADA = new_reference(SeededEntropy(1))
BOB = new_reference(SeededEntropy(2))
STRANGER = new_reference(SeededEntropy(3))
OWNERS = {ADA: "usr_ada", BOB: "usr_bob"}
WRONG = ADA[:-1] + ("7" if ADA[-1] != "7" else "8")


def line_of(entry):
    return read_statements(camt053(entry), file="day.xml", scales={"EUR": 2})[0].lines[0]


def lines_of(*entries, **more):
    return list(with_ids("bank", read_statements(camt053(*entries, **more), file="x", scales={"EUR": 2})[0].lines))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry(100, f"Top-up {show(ADA)}"), Matched("usr_ada", ADA)),
        (Entry(100, "thanks", structured=ADA), Matched("usr_ada", ADA)),
        (Entry(100, end_to_end_id=ADA), Matched("usr_ada", ADA)),
        (Entry(100, f"{ADA} {ADA.lower()}", structured=ADA), Matched("usr_ada", ADA)),
        (Entry(0, ADA), Unmatched(Reason.ZERO_AMOUNT)),
        (Entry(100, ADA, side="DBIT"), Unmatched(Reason.DEBIT)),
        (Entry(100, ADA, reversal=True), Unmatched(Reason.REVERSAL)),
        (Entry(100, ADA, returned=True), Unmatched(Reason.RETURNED_PAYMENT)),
        (Entry(100, parts=((50, ADA), (40, BOB))), Unmatched(Reason.UNCLEAR_BATCH)),
        (Entry(100, "happy birthday"), Unmatched(Reason.NO_REFERENCE)),
        (Entry(100), Unmatched(Reason.NO_REFERENCE)),
        (Entry(100, WRONG), Unmatched(Reason.MISSPELT_REFERENCE)),
        (Entry(100, ADA, structured=BOB), Unmatched(Reason.SEVERAL_REFERENCES)),
        (Entry(100, f"{ADA} {STRANGER}"), Unmatched(Reason.SEVERAL_REFERENCES)),
        (Entry(100, STRANGER), Unmatched(Reason.UNKNOWN_REFERENCE)),
    ],
)
def test_whose_a_line_is(entry, expected):
    reading = read_line(line_of(entry))
    assert isinstance(reading, Named | Unmatched)
    assert match_line(reading, OWNERS) == expected


PAYOUT = "PYO01JD0000000000000000000000"


@pytest.mark.parametrize(
    ("entry", "numbers", "expected"),
    [
        (Entry(100, ADA, end_to_end_id=PAYOUT), None, Unmatched(Reason.SEVERAL_REFERENCES)),
        (Entry(100, "hello", end_to_end_id=PAYOUT), 7, Unmatched(Reason.SEVERAL_REFERENCES)),
        (Entry(100, ADA, end_to_end_id=PAYOUT, returned=True), 7, NamesPayout("pyo_01jd0000000000000000000000")),
        (Entry(100, "hello", end_to_end_id=PAYOUT), None, NamesPayout("pyo_01jd0000000000000000000000")),
    ],
)
def test_a_payouts_name_outranks_a_user_only_where_the_bank_says_returned(entry, numbers, expected):
    line = replace(line_of(entry), own_account="X")
    assert read_line(line, number_of=lambda _: numbers) == expected


@pytest.mark.parametrize(("rail", "paid"), [(BANK, True), (PAYPAL, False)])
def test_a_line_over_a_file_settles_payouts_of_banks_alone(rail, paid):
    one = dataclasses.replace(payout(1, 100), rail=rail)
    found = match_batch(line_of(Entry(100, side="DBIT")), "pyb_1", [one], account="mock", asset="EUR")
    assert found == (PaidOut((one,), "pyb_1") if paid else Unmatched(Reason.UNKNOWN_PAYOUT))


def test_every_reason_is_explained():
    assert set(EXPLANATIONS) == set(Reason)


def test_a_line_keeps_its_id_in_every_file():
    one, two = Entry(100, "a", bank_reference="B-1"), Entry(100, "b")
    ids = [line_id for line_id, _ in lines_of(one, two)]
    again = [line_id for line_id, _ in lines_of(Entry(5), two, one, name="OTHER", version="02")]
    assert ids == [again[2], again[1]]


def test_equal_lines_of_a_statement_are_different_lines():
    entry = Entry(100, "coffee")
    assert len({line_id for line_id, _ in lines_of(entry, entry, entry)}) == 3


@pytest.mark.parametrize(
    "other",
    [
        Entry(101, "a", bank_reference="B-1"),
        Entry(100, "a", bank_reference="B-1", side="DBIT"),
        Entry(100, "a", bank_reference="B-1", day=date(2024, 12, 1)),
        Entry(100, "a", bank_reference="B-2"),
        Entry(100, "a"),
    ],
)
def test_a_bank_reference_used_again_for_something_else_is_another_line(other):
    assert lines_of(Entry(100, "a", bank_reference="B-1"))[0][0] != lines_of(other)[0][0]


def bank_line(state, direction=Direction.CREDIT):
    return BankLine(
        id="lin_1",
        account="bank",
        statement="stm_1",
        number=1,
        direction=direction,
        asset="EUR",
        amount=1,
        booked_on=date(2025, 12, 1),
        value_on=date(2025, 12, 1),
        bank_reference="",
        end_to_end_id="",
        remittance="",
        counterparty="",
        counterparty_account="",
        state=state,
        reason=None,
        owner=None,
        top_up=None,
        payout=None,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("state", LineState)
@pytest.mark.parametrize("direction", Direction)
def test_only_an_incoming_line_in_suspense_can_be_matched(state, direction):
    line = bank_line(state, direction)
    if state is LineState.SUSPENDED and direction is Direction.CREDIT:
        assert advance(line, LineState.MATCHED) is LineState.MATCHED
    else:
        with pytest.raises(LineNotWaiting):
            advance(line, LineState.MATCHED)


def test_an_iban_with_a_wrong_digit_is_a_configuration_error():
    assert BankAccount(name="main", iban="DE89 3704 0044 0532 0130 00", asset="EUR").iban == "DE89370400440532013000"
    with pytest.raises(BankMisconfigured, match="main"):
        BankAccount(name="main", iban="DE89370400440532013001", asset="EUR")
