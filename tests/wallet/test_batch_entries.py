"""What a batch books of legs that no withdrawal stands for, and from where a person's decision takes a leg's amount."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chain.transactions import Mined
from ledger.commands import ChainEvidence, Post
from ledger.riders import Advance
from tests.wallet.test_resolution_rules import WITHDRAWAL
from wallet import batch_entries
from wallet.batch_entries import NobodysLeg
from wallet.batch_results import JudgedLeg, LegResult, LegSeen
from wallet.leg_reviews import _back_to, _left_by, _Leg
from wallet.resolutions import InBatch
from wallet.resources import Batch, BatchOutcome, BatchState

CUSTODY, SUSPENSE, AWAY = "house/custody:local:hot/USDC", "house/suspense/USDC", "house/in-transit:local:out/USDC"
PAID, FAILED, UNCLEAR, RELEASED = LegResult.PAID, LegResult.FAILED, LegResult.UNCLEAR, LegResult.RELEASED
AT = datetime(2026, 1, 2, tzinfo=UTC)

BATCH = Batch(
    id="bat_1",
    network="local",
    asset="USDC",
    contract="0x" + "c5" * 20,
    via="0x" + "70" * 20,
    state=BatchState.OPEN,
    outcome=BatchOutcome.FINAL,
    amount=500,
    cost_wei=9,
    created_at=AT,
    updated_at=AT,
)
COIN = replace(BATCH, contract=None)

MINED = Mined(
    tx_hash="0x" + "99" * 32,
    block_number=7,
    block_hash="0xb7",
    succeeded=True,
    gas_used=3,
    effective_gas_price=3,
    fee_wei=9,
    attempt=1,
)

ROW = Advance("wallet_batches", {"book": "main", "id": "bat_1"}, {"state": "open"}, {"state": "booked"})


@pytest.mark.parametrize(
    ("batch", "result", "on_record", "sides"),
    [
        (BATCH, PAID, True, (SUSPENSE, CUSTODY)),
        (BATCH, FAILED, True, None),
        (BATCH, UNCLEAR, True, None),
        (BATCH, RELEASED, True, None),
        (COIN, PAID, True, (SUSPENSE, AWAY)),
        (COIN, FAILED, True, (CUSTODY, AWAY)),
        (COIN, FAILED, False, (SUSPENSE, AWAY)),
        (COIN, UNCLEAR, True, (SUSPENSE, AWAY)),
        (COIN, RELEASED, True, None),
    ],
)
def test_f47_what_nobodys_leg_took_stands_in_suspense(batch, result, on_record, sides):
    leg = NobodysLeg(2, 500, JudgedLeg(result, "log:4", on_record=on_record))
    group = batch_entries.booked(batch, MINED, (), batch_entries.GAS, [leg], ROW, 1)
    posts = [command for command in group.commands if isinstance(command, Post)]
    assert [(post.postings[0].debit, post.postings[0].credit) for post in posts] == ([] if sides is None else [sides])
    assert {post.postings[0].amount for post in posts} <= {500}
    assert {post.evidence for post in posts} <= {ChainEvidence("local", 7, "0xb7", MINED.tx_hash, "log:4")}
    assert group.riders == (ROW,)


@pytest.mark.parametrize(
    ("batch", "has_row", "judged", "account"),
    [
        (BATCH, True, UNCLEAR, CUSTODY),
        (COIN, True, UNCLEAR, None),  # it left with the batch
        (BATCH, False, PAID, SUSPENSE),
        (BATCH, False, UNCLEAR, CUSTODY),  # nothing was booked of it
        (COIN, False, PAID, SUSPENSE),
        (COIN, False, UNCLEAR, SUSPENSE),
    ],
)
def test_what_a_person_says_was_paid_is_taken_from_where_the_batch_left_it(batch, has_row, judged, account):
    assert _left_by(WITHDRAWAL, leg(batch, judged), about(batch, has_row)) == account


@pytest.mark.parametrize(
    ("batch", "has_row", "judged", "has_refund", "account"),
    [
        (BATCH, True, UNCLEAR, False, None),
        (COIN, True, UNCLEAR, True, CUSTODY),
        (COIN, True, UNCLEAR, False, SUSPENSE),  # nobody knows where it is
        (BATCH, False, PAID, False, None),
        (COIN, False, FAILED, True, None),  # the batch's end has booked it
        (COIN, True, RELEASED, False, None),  # nothing left
    ],
)
def test_what_a_person_says_was_not_paid_is_where_the_record_has_it(batch, has_row, judged, has_refund, account):
    assert _back_to(WITHDRAWAL, leg(batch, judged, has_refund=has_refund), about(batch, has_row)) == account


def leg(batch: Batch, result: LegResult, *, has_refund: bool = False) -> _Leg:
    return _Leg(batch, LegSeen(batch.contract is None), JudgedLeg(result, "log:4"), MINED, set(), has_refund)


def about(batch: Batch, has_row: bool) -> InBatch:
    return InBatch("bat_1", 2, has_row=has_row, is_booked=True, is_coin=batch.contract is None)
