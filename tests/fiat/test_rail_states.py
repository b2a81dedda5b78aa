"""Every state of a rail's objects has its row, every provider's outcome its state; amounts convert exactly."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat.rails import dispute_states, refund_states, settlement_states, top_up_states
from fiat.rails.amounts import from_provider, read_decimal, to_provider, write_decimal
from fiat.rails.errors import AmountNotPayable, RailCorrupt
from fiat.rails.protocol import DisputeStatus, EntryKind, PaymentStatus, RefundStatus, SettlementEntry
from fiat.rails.settlement_states import Difference, Known, difference, unexplained
from fiat.rails.top_up_states import ENDED, TopUpState
from ledger.money import Asset, AssetKind

MACHINES = (top_up_states, refund_states, dispute_states, settlement_states)
T, P = TopUpState, PaymentStatus
EUR, JPY, MILLS = (Asset(code, AssetKind.FIAT, scale) for code, scale in (("EUR", 2), ("JPY", 0), ("KWD", 3)))

FOLLOWED = [
    # state, what the provider says, where it leads
    (T.REQUESTED, P.CAPTURED, None),
    (T.SUBMITTED, P.CAPTURED, T.FINAL),
    (T.UNKNOWN, P.CAPTURED, T.FINAL),
    (T.UNKNOWN, P.FAILED, T.FAILED),
    (T.REQUIRES_ACTION, P.PROCESSING, T.PROCESSING),
    (T.REQUIRES_ACTION, P.REQUIRES_ACTION, None),
    (T.PROCESSING, P.REQUIRES_ACTION, T.REQUIRES_ACTION),
    (T.AUTHORISED, P.CAPTURED, T.FINAL),
    (T.AUTHORISED, P.REQUIRES_ACTION, None),
    (T.FINAL, P.PROCESSING, None),
    (T.FINAL, P.FAILED, None),
    (T.FINAL, P.CAPTURED, None),
    (T.CANCELLED, P.CAPTURED, T.FINAL),
    (T.FAILED, P.CAPTURED, T.FINAL),
    (T.FAILED, P.PROCESSING, None),
]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__.rpartition(".")[2])
def test_every_state_has_its_row_and_every_row_its_states(machine):
    kind: Any = type(next(iter(machine.TRANSITIONS)))
    states = list(kind)
    assert set(machine.TRANSITIONS) == set(states)
    for state, following in machine.TRANSITIONS.items():
        assert state not in following
        for to in states:
            if to in following:
                assert machine.advance(state, to) is to
            else:
                with pytest.raises(RailCorrupt):
                    machine.advance(state, to)


def test_every_outcome_of_a_provider_leads_somewhere():
    assert set(top_up_states.OF_STATUS) == set(PaymentStatus)
    assert set(refund_states.OF_STATUS) == set(RefundStatus)
    assert set(dispute_states.OF_STATUS) == set(DisputeStatus)


@pytest.mark.parametrize(("state", "status", "to"), FOLLOWED)
def test_a_providers_word_leads_forward_or_nowhere(state, status, to):
    assert top_up_states.follow(state, status) is to


@given(state=st.sampled_from(TopUpState), words=st.lists(st.sampled_from(PaymentStatus), max_size=8))
def test_once_credited_no_word_leads_away_and_a_capture_always_leads_there(state, words):
    for word in words:
        state = top_up_states.follow(state, word) or state
        if word is P.CAPTURED and state is not T.REQUESTED:
            assert state is T.FINAL
    assert state is not T.FINAL or all(top_up_states.follow(state, word) is None for word in PaymentStatus)
    assert T.FINAL in ENDED


def entry(kind: EntryKind, gross: int, fee: int, net: int) -> SettlementEntry:
    return SettlementEntry(
        id="e", kind=kind, object="o", gross=gross, fee=fee, net=net, at=datetime(2026, 1, 1, tzinfo=UTC)
    )


PAY = EntryKind.PAYMENT
DIFFERENCES = [
    # entry, what our book has, what doesn't fit
    (entry(PAY, 100, 3, 97), Known("top_1", 100, 3), None),
    (entry(PAY, 100, 3, 98), Known("top_1", 100, 3), Difference.UNSUMMED),
    (entry(PAY, 100, 3, 97), None, Difference.UNKNOWN_OBJECT),
    (entry(PAY, 101, 3, 98), Known("top_1", 100, 3), Difference.AMOUNT_DIFFERS),
    (entry(PAY, 100, 4, 96), Known("top_1", 100, 3), Difference.FEE_DIFFERS),
    (entry(EntryKind.DISPUTE, -100, 15, -115), Known("dsp_1", -100, None), None),
    (entry(EntryKind.FEE, 0, 9, -9), None, Difference.NOT_OURS),
    (entry(EntryKind.ADJUSTMENT, 5, 0, 5), None, Difference.NOT_OURS),
]


@pytest.mark.parametrize(("told", "known", "named"), DIFFERENCES)
def test_a_settlements_differences_are_named(told, known, named):
    assert difference(told, known) is named
    assert unexplained(told.net + 7, [told]) == 7


@given(amount=st.integers(0, 2**256 - 1), digits=st.integers(0, 4), asset=st.sampled_from([EUR, JPY, MILLS]))
def test_an_amount_comes_back_from_the_provider_as_it_went_or_never_goes(amount, digits, asset):
    try:
        units = to_provider(amount, asset, digits=digits)
    except AmountNotPayable:
        assert digits < asset.scale
        assert amount % 10 ** (asset.scale - digits)
        return
    assert from_provider(units, asset, digits=digits) == amount
    assert read_decimal(write_decimal(amount, asset, digits=digits), asset) == amount


@pytest.mark.parametrize(
    ("text", "units"), [("12.30", 1230), ("12", 1200), ("-1.5", -150), ("0.01", 1), ("7.500", 750)]
)
def test_a_providers_decimal_is_read_exactly(text, units):
    assert read_decimal(text, EUR) == units


@pytest.mark.parametrize("text", ["", "1,5", "1.234", "1e3", "--1", "NaN", "1.2.3", "٣", "+1"])
def test_a_providers_decimal_that_isnt_exact_is_refused(text):
    with pytest.raises(RailCorrupt):
        read_decimal(text, EUR)
