"""Payouts against a real bank program: asked, sent as a file, paid, rejected, returned."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from base.errors import NotFound
from db.engine import tx
from fiat.bank.matching import Reason
from fiat.bank.records import LineState
from fiat.errors import (
    AmountOutOfBounds,
    InvalidRecipient,
    NoPayoutRail,
    PayoutNotCancellable,
    PayoutsHalted,
    StatementDisagrees,
)
from fiat.payouts import PAYPAL, BatchState, PayoutState
from fiat.tables import payouts
from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, Unfreeze, alone
from ledger.errors import RefusedByBook, RequestConflict
from ledger.outcomes import require_accepted
from ledger.requests import request_key
from tests.fiat.statements import Entry, camt053
from tests.support.bank import OUR_ACCOUNT, OUR_IBAN, bank_with_our_account

pytestmark = pytest.mark.slow

ADA = "usr_ada"
THEIRS = "NL26MOCK0000000077"
NAME = "Ada Müller"
HELD = user_account(ADA, "EUR")
BANK, FEES = house_account("bank:mock", "EUR"), house_account("fees", "EUR")
IN_TRANSIT = house_account("in-transit:bank:out", "EUR")
_S = PayoutState


@pytest.fixture
def bank(clock):
    """A bank whose first day is a Monday, which is today."""
    clock.advance(timedelta(days=4, hours=9))
    with bank_with_our_account(at=clock.now()) as bank:
        yield bank


def key(name, body=None):
    return request_key(owner=ADA, route="payouts", key=name, body=body or {"n": name})


async def ask(desk, amount, name="one", *, iban=THEIRS):
    return await desk.request(key=key(name), owner=ADA, asset="EUR", amount=amount, name=NAME, iban=iban)


async def fund(rail, amount, number=1):
    """Give Ada what a bank statement brings her."""
    reference = await rail.reference_for(ADA)
    content = camt053(Entry(amount, reference, bank_reference=f"FUND-{number}"), iban=OUR_IBAN, name=f"FUND-{number}")
    assert (await rail.import_statement(content, filename="fund.xml")).credited == 1


async def balance(ledger, account):
    found = await ledger.account(account)
    return found.balance if found else 0


async def available(ledger):
    return (await ledger.account(HELD)).available


def carry_out(folder, bank):
    """Carry the folder's files to the bank, as SFTP would."""
    for path in sorted((folder / "out").iterdir()):
        answer = bank.call_any("POST", "/payments", content=path.read_bytes())
        assert answer.status_code in (202, 422)
        path.unlink()


def carried_off(folder):
    """Somebody took the one file that was there to the bank."""
    (path,) = (folder / "out").iterdir()
    path.unlink()
    return path.name


async def bring_in(rail, bank, kinds=("pain.002", "camt.054", "camt.053", "pacs.004")):
    """Take in what the bank sent since; receipts in its order."""
    receipts = []
    for message in bank.call("GET", "/_mock/mailbox").json():
        if message["type"][:8] in kinds and message["account"] == OUR_ACCOUNT:
            name = f"{message['id']}.xml"
            receipts.append(await rail.import_statement(message["body"].encode(), filename=name))
    return receipts


async def test_a_payout_is_held_sent_and_paid(rail, desk, steps, ledger, bank, folder):
    await fund(rail, 100_00)
    bank.receive(OUR_IBAN, 100_00)
    payout = await ask(desk, 60_00)
    assert (payout.state, payout.fee, await available(ledger)) == (_S.REQUESTED, 25, 39_75)
    assert await steps.step() == 1
    assert (await desk.get(ADA, payout.id)).state is _S.SUBMITTED
    carry_out(folder, bank)
    assert [one.moved for one in (await bring_in(rail, bank, ("pain.002",)))[0].messages] == [1]
    accepted = await desk.get(ADA, payout.id)
    assert accepted.state is _S.SUBMITTED
    assert accepted.accepted_at is not None
    bank.end_day()
    await bring_in(rail, bank)
    assert (await desk.get(ADA, payout.id)).state is _S.PAID
    assert [await balance(ledger, account) for account in (HELD, FEES, IN_TRANSIT)] == [39_75, 25, 0]
    (line,) = await rail.lines(LineState.PAID)
    assert (line.payout, line.owner, line.amount, line.counterparty) == (payout.id, ADA, 60_00, "Ada Muller")
    assert await steps.step() == 0


async def test_a_request_is_refused_with_what_is_wrong(rail, desk, ledger):
    await fund(rail, 10_00)
    for iban, name in (("DE89370400440532013001", NAME), ("", NAME), (THEIRS, " "), (THEIRS, "x" * 71)):
        with pytest.raises(InvalidRecipient) as stop:
            await desk.request(key=key("r"), owner=ADA, asset="EUR", amount=1, name=name, iban=iban)
        assert not iban or iban not in str(stop.value)
    with pytest.raises(NoPayoutRail):
        await desk.request(key=key("r"), owner=ADA, asset="USD", amount=1, name=NAME, iban=THEIRS)
    with pytest.raises(AmountOutOfBounds):
        await ask(desk, 10_000_01)
    with pytest.raises(RefusedByBook, match="insufficient_funds"):
        await ask(desk, 10_00)
    assert await available(ledger) == 10_00


async def test_the_same_request_again_is_the_same_payout_and_another_body_a_conflict(rail, desk, ledger):
    await fund(rail, 100_00)
    first = await ask(desk, 10_00)
    again = await ask(desk, 10_00)
    assert (again.id, again.replayed) == (first.id, True)
    with pytest.raises(RequestConflict):
        await desk.request(key=key("one", {"other": 1}), owner=ADA, asset="EUR", amount=1, name=NAME, iban=THEIRS)
    assert await available(ledger) == 100_00 - 10_25


async def test_twenty_equal_requests_at_once_hold_once(rail, desk, ledger):
    await fund(rail, 100_00)
    made = await asyncio.gather(*(ask(desk, 10_00) for _ in range(20)))
    assert len({payout.id for payout in made}) == 1
    assert await available(ledger) == 100_00 - 10_25


async def test_it_can_be_cancelled_until_it_is_submitted(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    first, second = await ask(desk, 10_00, "one"), await ask(desk, 20_00, "two")
    gone = await desk.cancel(key=key("c1"), owner=ADA, payout=first.id)
    assert gone.state is _S.CANCELLED
    assert (await desk.cancel(key=key("c1"), owner=ADA, payout=first.id)).replayed
    assert await steps.step() == 1
    with pytest.raises(PayoutNotCancellable):
        await desk.cancel(key=key("c2"), owner=ADA, payout=second.id)
    with pytest.raises(NotFound):
        await desk.cancel(key=key("c3"), owner="usr_bob", payout=second.id)
    assert await available(ledger) == 100_00 - 20_25


async def test_what_the_bank_rejects_comes_back_with_the_reason(rail, desk, steps, ledger, bank, folder):
    bank.open_account("CLOSED", iban=THEIRS)
    bank.call("PATCH", "/_mock/accounts/CLOSED", json={"behaviour": "closed-account"})
    await fund(rail, 100_00)
    bank.receive(OUR_IBAN, 100_00)
    bad = await ask(desk, 10_00, "bad")
    good = await ask(desk, 20_00, "good", iban="FR1420041010050500013M02606")
    await steps.step()
    carry_out(folder, bank)
    (receipt,) = await bring_in(rail, bank, ("pain.002",))
    (message,) = receipt.messages
    assert (message.told, message.accepted, message.rejected, message.moved) == (2, 1, 1, 2)
    found = await desk.get(ADA, bad.id)
    assert (found.state, found.reason) == (_S.REJECTED, "AC04")
    assert (await desk.get(ADA, good.id)).state is _S.SUBMITTED
    assert await available(ledger) == 100_00 - 20_25


async def test_a_rejected_file_gives_everything_back_and_again_nothing(rail, desk, steps, ledger, bank, folder):
    bank.call("PATCH", f"/_mock/accounts/{OUR_ACCOUNT}", json={"behaviour": "reject-file"})
    await fund(rail, 100_00)
    ids = [(await ask(desk, 10_00, str(n))).id for n in range(3)]
    await steps.step()
    carry_out(folder, bank)
    (message,) = bank.call("GET", "/_mock/mailbox").json()
    body = message["body"].encode()
    receipt = await rail.import_statement(body, filename="status.xml")
    assert (receipt.messages[0].rejected, receipt.replayed) == (3, False)
    assert {(await desk.get(ADA, id)).state for id in ids} == {_S.REJECTED}
    assert await available(ledger) == 100_00
    again = await rail.import_statement(body, filename="again.xml")
    assert (again.replayed, again.messages[0].moved) == (True, 0)


async def test_a_file_rejected_as_a_duplicate_releases_nothing(rail, desk, steps, ledger, bank, folder):
    """The bank has the first one: giving the money back as well would pay twice."""
    await fund(rail, 100_00)
    bank.receive(OUR_IBAN, 100_00)
    payout = await ask(desk, 10_00)
    await steps.step()
    (path,) = (folder / "out").iterdir()
    content = path.read_bytes()
    bank.call("PATCH", f"/_mock/accounts/{OUR_ACCOUNT}", json={"behaviour": "duplicate-file"})
    carry_out(folder, bank)
    bank.call_any("POST", "/payments", content=content)
    receipts = await bring_in(rail, bank, ("pain.002",))
    assert [one.messages[0].rejected for one in receipts] == [0, 0]
    assert receipts[1].warnings
    assert (await desk.get(ADA, payout.id)).state is _S.SUBMITTED
    bank.end_day()
    await bring_in(rail, bank)
    assert (await desk.get(ADA, payout.id)).state is _S.PAID
    assert await available(ledger) == 100_00 - 10_25


PAIN002 = """<?xml version="1.0"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>
<GrpHdr><MsgId>S-1</MsgId><CreDtTm>2026-01-05T09:00:00Z</CreDtTm></GrpHdr>
<OrgnlGrpInfAndSts><OrgnlMsgId>{batch}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>
{group}</OrgnlGrpInfAndSts>
<OrgnlPmtInfAndSts><OrgnlPmtInfId>{batch}</OrgnlPmtInfId>{of_batch}{rows}</OrgnlPmtInfAndSts>
</CstmrPmtStsRpt></Document>"""


def why(*codes):
    return "".join(f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn></StsRsnInf>" for code in codes)


@pytest.mark.parametrize(
    ("group", "of_batch", "row"),
    [
        ("<GrpSts>RJCT</GrpSts>" + why("AM05"), "", "<TxSts>RJCT</TxSts>"),
        ("<GrpSts>RJCT</GrpSts>", "<PmtInfSts>RJCT</PmtInfSts>" + why("AM05"), "<TxSts>RJCT</TxSts>"),
        ("", "<PmtInfSts>RJCT</PmtInfSts>" + why("AM05"), ""),
        ("<GrpSts>RJCT</GrpSts>" + why("AM05"), "<PmtInfSts>RJCT</PmtInfSts>", ""),
        ("<GrpSts>RJCT</GrpSts>", "<PmtInfSts>RJCT</PmtInfSts>" + why("DU01"), None),
        ("", "", "<TxSts>RJCT</TxSts>" + why("NARR", "AM05")),
        ("<GrpSts>RJCT</GrpSts>" + why("AM05"), "", "<TxSts>RJCT</TxSts>" + why("NARR")),
    ],
)
async def test_a_duplicate_told_at_any_level_releases_nothing(rail, desk, steps, ledger, group, of_batch, row):
    await fund(rail, 100_00)
    payout = await ask(desk, 10_00)
    await steps.step()
    (batch,) = await desk.batches()
    named = f"<TxInfAndSts><OrgnlEndToEndId>{payout.end_to_end_id}</OrgnlEndToEndId>{row}</TxInfAndSts>"
    rows = "" if row is None else named
    body = PAIN002.format(batch=batch.message_id, group=group, of_batch=of_batch, rows=rows).encode()
    receipt = await rail.import_statement(body, filename="status.xml")
    assert (receipt.messages[0].rejected, len(receipt.warnings)) == (0, 1)
    assert (await desk.get(ADA, payout.id)).state is _S.SUBMITTED
    assert await available(ledger) == 100_00 - 10_25


@pytest.mark.parametrize("group", ["", "<GrpSts>PART</GrpSts>", "<GrpSts>ACCP</GrpSts>"])
@pytest.mark.parametrize("named", [False, True])
async def test_a_rejected_batch_rejects_each_of_its_payments_named_or_not(rail, desk, steps, ledger, group, named):
    await fund(rail, 100_00)
    ids = [(await ask(desk, 10_00, str(n))).id for n in range(3)]
    await steps.step()
    (batch,) = await desk.batches()
    first = await desk.get(ADA, ids[0])
    rows = f"<TxInfAndSts><OrgnlEndToEndId>{first.end_to_end_id}</OrgnlEndToEndId></TxInfAndSts>" if named else ""
    of_batch = "<PmtInfSts>RJCT</PmtInfSts>" + why("FF01")
    body = PAIN002.format(batch=batch.message_id, group=group, of_batch=of_batch, rows=rows).encode()
    receipt = await rail.import_statement(body, filename="status.xml")
    assert (receipt.messages[0].rejected, receipt.warnings) == (3, ())
    found = [await desk.get(ADA, id) for id in ids]
    assert {(one.state, one.reason) for one in found} == {(_S.REJECTED, "FF01")}
    assert await available(ledger) == 100_00


async def test_a_report_that_tells_one_batch_in_two_ways_is_refused(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    await ask(desk, 10_00)
    await steps.step()
    (batch,) = await desk.batches()
    again = f"</OrgnlPmtInfAndSts><OrgnlPmtInfAndSts><OrgnlPmtInfId>{batch.message_id}</OrgnlPmtInfId>"
    both = f"<PmtInfSts>ACCP</PmtInfSts>{again}<PmtInfSts>RJCT</PmtInfSts>"
    body = PAIN002.format(batch=batch.message_id, group="", of_batch=both, rows="").encode()
    with pytest.raises(StatementDisagrees, match="accepted and as rejected"):
        await rail.import_statement(body, filename="status.xml")
    assert await available(ledger) == 100_00 - 10_25


async def test_a_report_cannot_reject_what_a_provider_pays(rail, desk, steps, ledger, database):
    await fund(rail, 100_00)
    await ask(desk, 10_00)
    await steps.step()
    (batch,) = await desk.batches()
    async with tx(database.engine()) as connection:
        await connection.execute(update(payouts).values(rail=PAYPAL))
    group = "<GrpSts>RJCT</GrpSts>" + why("FF01")
    body = PAIN002.format(batch=batch.message_id, group=group, of_batch="", rows="").encode()
    with pytest.raises(StatementDisagrees, match="didn't send"):
        await rail.import_statement(body, filename="status.xml")
    assert await available(ledger) == 100_00 - 10_25


async def test_a_rejected_payment_without_a_reason_has_its_files(rail, desk, steps):
    await fund(rail, 100_00)
    payout = await ask(desk, 10_00)
    await steps.step()
    (batch,) = await desk.batches()
    rows = f"<TxInfAndSts><OrgnlEndToEndId>{payout.end_to_end_id}</OrgnlEndToEndId><TxSts>RJCT</TxSts></TxInfAndSts>"
    group = "<GrpSts>RJCT</GrpSts>" + why("FF01")
    body = PAIN002.format(batch=batch.message_id, group=group, of_batch="", rows=rows).encode()
    await rail.import_statement(body, filename="status.xml")
    found = await desk.get(ADA, payout.id)
    assert (found.state, found.reason) == (_S.REJECTED, "FF01")


async def test_f72_a_payout_returned_days_later_is_credited_once(rail, desk, steps, ledger, bank, folder):
    returns = {"behaviour": "return-later", "parameters": {"days": 2}}
    bank.call("PATCH", f"/_mock/accounts/{OUR_ACCOUNT}", json=returns)
    await fund(rail, 100_00)
    bank.receive(OUR_IBAN, 100_00)
    payout = await ask(desk, 60_00)
    await steps.step()
    carry_out(folder, bank)
    bank.end_day()
    await bring_in(rail, bank)
    assert (await desk.get(ADA, payout.id)).state is _S.PAID
    for _ in range(4):
        bank.end_day()
    sent = bank.call("GET", "/_mock/mailbox").json()
    bodies = [message["body"].encode() for message in sent if message["account"] == OUR_ACCOUNT]
    for number, body in enumerate(bodies):
        await rail.import_statement(body, filename=f"{number}.xml")
    found = await desk.get(ADA, payout.id)
    assert (found.state, found.reason) == (_S.RETURNED, "AC04")
    assert await available(ledger) == 100_00 - 25
    for number, body in enumerate(reversed(bodies)):
        await rail.import_statement(body, filename=f"again-{number}.xml")
    assert await available(ledger) == 100_00 - 25
    assert [await balance(ledger, account) for account in (FEES, IN_TRANSIT)] == [25, 0]


async def test_f73_a_line_of_another_amount_than_its_payout_waits_in_suspense(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    payout = await ask(desk, 60_00)
    await steps.step()
    entry = Entry(59_00, side="DBIT", end_to_end_id=payout.end_to_end_id, bank_reference="B-1")
    content = camt053(entry, opening=100_00, iban=OUR_IBAN, name="S-2", sequence=2)
    receipt = await rail.import_statement(content, filename="wrong.xml")
    assert receipt.statements[0].reasons == {Reason.WRONG_AMOUNT: 1}
    assert (await desk.get(ADA, payout.id)).state is _S.SUBMITTED
    assert await balance(ledger, house_account("suspense", "EUR")) == -59_00


async def test_f73_a_second_debit_of_one_payout_waits_in_suspense(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    await steps.step()
    entries = [Entry(20_00, side="DBIT", end_to_end_id=payout.end_to_end_id, bank_reference=f"B-{n}") for n in range(2)]
    content = camt053(*entries, opening=100_00, iban=OUR_IBAN, name="S-2", sequence=2)
    receipt = await rail.import_statement(content, filename="twice.xml")
    assert (receipt.statements[0].paid, receipt.statements[0].reasons) == (1, {Reason.PAYOUT_ENDED: 1})
    assert (await desk.get(ADA, payout.id)).state is _S.PAID


async def test_a_payout_paid_and_returned_in_one_file_ends_returned(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    await steps.step()
    entries = [
        Entry(20_00, side="DBIT", end_to_end_id=payout.end_to_end_id, bank_reference="B-1"),
        Entry(20_00, end_to_end_id=payout.end_to_end_id, bank_reference="B-2", returned=True),
    ]
    content = camt053(*entries, opening=100_00, iban=OUR_IBAN, name="S-2", sequence=2)
    receipt = await rail.import_statement(content, filename="both.xml")
    assert (receipt.statements[0].paid, receipt.statements[0].returned) == (1, 1)
    assert (await desk.get(ADA, payout.id)).state is _S.RETURNED
    assert await available(ledger) == 100_00 - 25


async def test_a_treasurer_matches_a_debit_that_the_bank_left_unnamed(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    await steps.step()
    content = camt053(Entry(20_00, side="DBIT"), opening=100_00, iban=OUR_IBAN, name="S-2", sequence=2)
    await rail.import_statement(content, filename="unnamed.xml")
    (line,) = await rail.lines(LineState.SUSPENDED)
    for again in (False, True):
        found = await rail.match_payout(line.id, payout=payout.id, key=key("match"))
        assert (found.state, found.replayed) == (_S.PAID, again)
    assert await balance(ledger, house_account("suspense", "EUR")) == 0
    assert [await balance(ledger, account) for account in (HELD, FEES, IN_TRANSIT)] == [79_75, 25, 0]


async def test_a_payout_of_which_nothing_is_heard_is_unknown_and_a_treasurer_ends_it(
    rail, desk, steps, ledger, clock, folder
):
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    await steps.step()
    carried_off(folder)
    clock.advance(timedelta(days=6))
    assert await steps.step() == 1
    assert (await desk.get(ADA, payout.id)).state is _S.UNKNOWN
    assert await available(ledger) == 100_00 - 20_25
    ended = await desk.fail(key=key("fail"), payout=payout.id)
    assert (ended.state, ended.reason) == (_S.FAILED, "treasury")
    assert await available(ledger) == 100_00


async def test_what_is_frozen_is_not_sent(rail, desk, steps, ledger):
    await fund(rail, 100_00)
    await ask(desk, 20_00)
    places = ((FreezeScope.OWNER, ADA), (FreezeScope.NETWORK, "bank"), (FreezeScope.NETWORK, "mock"))
    for scope, target in places:
        freeze = Freeze(id=f"wrk:f:{target}", scope=scope, target=target)
        require_accepted((await ledger.submit(alone(freeze)))[0])
        assert await steps.step() == 0
        lift = Unfreeze(id=f"wrk:u:{target}", scope=scope, target=target)
        require_accepted((await ledger.submit(alone(lift)))[0])
    assert await steps.step() == 1


async def test_a_folder_that_knows_more_than_the_database_halts_payouts(rail, desk, steps, folder):
    await fund(rail, 100_00)
    await ask(desk, 20_00)
    await steps.step()
    (record,) = (folder / "archive" / "out").glob("*.json")
    record.rename(record.with_name("PYB01JD0000000000000000000000.pain001.xml.json"))
    with pytest.raises(PayoutsHalted):
        await steps.step()


async def test_batches_are_listed_with_what_is_in_them(rail, desk, steps):
    await fund(rail, 100_00)
    for number in range(3):
        await ask(desk, 10_00, str(number))
    await steps.step()
    (batch,) = await desk.batches()
    assert (batch.payouts, batch.total, batch.state) == (3, 30_00, BatchState.SUBMITTED)
