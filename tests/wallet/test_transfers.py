"""Transfers, receipts and history, against the book in memory."""

from datetime import timedelta

import pytest

from base.errors import NotFound, Rejected
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.errors import RefusedByBook, RequestConflict, UnknownAsset
from ledger.outcomes import LineKind
from ledger.owing import receivable_account
from tests.wallet.conftest import ALICE, BOB, fund, key
from wallet.accounts import Accounts, Balance
from wallet.errors import SelfTransfer
from wallet.history import CSV_HEADER, History, csv_rows
from wallet.receipts import Receipts
from wallet.transfers import Fees, Transfers


@pytest.fixture
async def transfers(memory, people, clock, entropy):
    await fund(memory, user_account(ALICE, "USD"), 100_00, name="alice")
    return Transfers(ledger=memory, directory=people, clock=clock, entropy=entropy, fees=Fees(10))


async def test_amount_and_fee_leave_in_one_entry(transfers, memory):
    sent = await transfers.send(key=key("a"), sender=ALICE, recipient="@bob", asset="USD", amount=50_00, memo="rent")
    assert (sent.sender, sent.recipient, sent.amount, sent.fee, sent.memo) == (ALICE, BOB, 50_00, 5, "rent")
    accounts = Accounts(memory)
    assert await accounts.balances(ALICE) == [Balance("USD", 49_95, 0, 49_95, 0)]
    assert (await accounts.balance(BOB, "USD")).available == 50_00
    assert (await memory.account(house_account("fees", "USD"))).balance == 5
    assert await transfers.get(BOB, sent.id) == sent


async def test_a_balance_of_an_asset_never_held_is_zero(memory):
    assert await Accounts(memory).balance(BOB, "ETH") == Balance("ETH", 0, 0, 0, 0)
    with pytest.raises(UnknownAsset):
        await Accounts(memory).balance(BOB, "DOGE")


async def test_f43_the_same_request_twice_is_one_transfer_and_another_body_a_conflict(transfers, memory):
    first = await transfers.send(key=key("a", 1), sender=ALICE, recipient=BOB, asset="USD", amount=1_00)
    again = await transfers.send(key=key("a", 1), sender=ALICE, recipient=BOB, asset="USD", amount=1_00)
    assert again.replayed
    assert again.id == first.id
    with pytest.raises(RequestConflict) as conflict:
        await transfers.send(key=key("a", 2), sender=ALICE, recipient=BOB, asset="USD", amount=2_00)
    assert conflict.value.facts["first"] == first.id
    assert (await memory.account(user_account(BOB, "USD"))).balance == 1_00


async def test_a_repeat_gets_its_transfer_even_when_the_handle_is_gone(transfers, people):
    first = await transfers.send(key=key("a"), sender=ALICE, recipient="@bob", asset="USD", amount=1_00)
    del people.handles["@bob"]
    assert (await transfers.send(key=key("a"), sender=ALICE, recipient="@bob", asset="USD", amount=1_00)).id == first.id


async def test_refusals_say_what_and_why(transfers):
    with pytest.raises(SelfTransfer):
        await transfers.send(key=key("1"), sender=ALICE, recipient="@alice", asset="USD", amount=1)
    with pytest.raises(NotFound):
        await transfers.send(key=key("2"), sender=ALICE, recipient="@nobody", asset="USD", amount=1)
    with pytest.raises(UnknownAsset):
        await transfers.send(key=key("3"), sender=ALICE, recipient="@bob", asset="DOGE", amount=1)
    with pytest.raises(Rejected, match="200 characters"):
        await transfers.send(key=key("4"), sender=ALICE, recipient="@bob", asset="USD", amount=1, memo="x" * 201)
    for _ in range(2):
        with pytest.raises(RefusedByBook) as refused:
            await transfers.send(key=key("5"), sender=ALICE, recipient="@bob", asset="USD", amount=100_00)
        assert refused.value.code == "insufficient_funds"
        assert refused.value.facts["required"] == 100_10
        assert refused.value.facts["available"] == 100_00


async def test_only_its_two_users_may_read_a_transfer(transfers, memory):
    sent = await transfers.send(key=key("a"), sender=ALICE, recipient=BOB, asset="USD", amount=1_00, memo="hi")
    with pytest.raises(NotFound):
        await transfers.get("usr_carol", sent.id)
    with pytest.raises(NotFound):
        await Receipts(memory).get("usr_carol", sent.id)
    receipt = await Receipts(memory).get(BOB, sent.id)
    assert (receipt.kind, receipt.memo) == ("transfer", "hi")
    assert [(line.amount, line.counterparty) for line in receipt.lines] == [(1_00, ALICE)]
    mine = await Receipts(memory).get(ALICE, sent.id)
    assert [(line.amount, line.counterparty) for line in mine.lines] == [(-1_00, BOB), (-1, "fees")]


async def test_history_filters_and_pages_without_gap_or_repeat(transfers, memory, clock):
    history = History(memory)
    for number in range(5):
        clock.advance(timedelta(minutes=1))
        await transfers.send(key=key(f"n{number}"), sender=ALICE, recipient=BOB, asset="USD", amount=1_00 + number)
    all_lines = await history.page(ALICE, limit=100)
    assert [line.amount for line in all_lines if line.kind == "entry"] == [100_00]
    first = await history.page(ALICE, kind="transfer", limit=4)
    rest = await history.page(ALICE, kind="transfer", before=first[-1].key, limit=100)
    assert [line.key for line in first + rest] == [line.key for line in all_lines if line.kind == "transfer"]
    forward = await history.page(ALICE, after=rest[-1].key, limit=100)
    assert [line.key for line in forward] == [line.key for line in reversed(all_lines)][-len(forward) :]
    assert await history.page(ALICE, asset="EUR") == []
    assert await history.page(ALICE, until=all_lines[-1].booked_at) == []
    assert len(await history.page(BOB, since=clock.now())) == 1
    assert await history.page(ALICE, statuses=(LineKind.HELD,)) == []
    with pytest.raises(Rejected):
        await history.page(ALICE, kind="magic")
    with pytest.raises(Rejected):
        await history.page(ALICE, before="1;drop")


@pytest.mark.parametrize("memo", ["=cmd()", "  =cmd()", "\n=cmd()", "\uff1dcmd()", "\t@cmd"])
async def test_csv_cells_are_exact_and_run_nothing(transfers, memory, memo):
    await transfers.send(key=key("a"), sender=ALICE, recipient=BOB, asset="USD", amount=1_00, memo=memo)
    lines = await History(memory).page(BOB)
    (row,) = csv_rows(lines, await memory.assets())
    cells = dict(zip(CSV_HEADER, row, strict=True))
    assert (cells["amount"], cells["balance"], cells["memo"]) == ("1.00", "1.00", f"'{memo}")


async def test_who_owes_the_house_sends_nothing_until_it_is_repaid(transfers, memory):
    terms = {"sender": ALICE, "recipient": "@bob", "asset": "USD", "amount": 1_00}
    before = await transfers.send(key=key("before"), **terms)
    debt = (receivable_account(ALICE, "USDC"), house_account("capital", "USDC"))
    await memory.ensure_open(*debt)
    await memory.submit(alone(Post(id="test:owe", postings=(Posting(*debt, "USDC", 3_000_000),))))
    with pytest.raises(RefusedByBook, match="receivable_open"):
        await transfers.send(key=key("after"), **terms)
    assert (await transfers.send(key=key("before"), **terms)).id == before.id
    assert (await memory.account(user_account(BOB, "USD"))).balance == 1_00
