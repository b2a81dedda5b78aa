"""The bank rail against a real bank program: what a payer sends becomes a file, and the file becomes balances."""

import pytest

from fiat.bank.matching import Reason
from fiat.bank.records import LineState
from fiat.errors import StatementDisagrees
from fiat.references import show
from ledger.accounts import house_account, user_account
from tests.support.bank import OUR_ACCOUNT, OUR_IBAN, bank_with_our_account, pay_out

pytestmark = pytest.mark.slow

MOCK = house_account("bank:mock", "EUR")


@pytest.fixture
def bank():
    with bank_with_our_account() as bank:
        yield bank


async def import_all(rail, bank):
    return [
        await rail.import_statement(content, filename=f"{number}.xml")
        for number, content in enumerate(bank.statements(OUR_ACCOUNT), start=1)
    ]


async def test_a_payment_at_the_bank_becomes_the_users_balance(rail, ledger, bank):
    reference = await rail.reference_for("usr_ada")
    bank.receive(OUR_IBAN, 125_00, note=f"Top-up {show(reference)}", payer="Ada")
    bank.end_day()
    (receipt,) = await import_all(rail, bank)
    assert (receipt.credited, receipt.suspended, receipt.warnings) == (1, 0, ())
    account = await ledger.account(user_account("usr_ada", "EUR"))
    assert account.balance == 125_00
    (closing,) = await rail.closing_balances()
    assert (closing.balance, closing.as_of.isoformat()) == (125_00, "2025-12-01")


async def test_the_banks_ways_with_a_reference_are_all_read(rail, ledger, bank):
    reference = await rail.reference_for("usr_ada")
    bank.receive(OUR_IBAN, 1, reference=reference)
    bank.receive(OUR_IBAN, 2, note=f"a text long enough to be cut {show(reference)} inside", width=35)
    bank.receive(OUR_IBAN, 4, note=reference.lower())
    bank.end_day()
    (receipt,) = await import_all(rail, bank)
    assert receipt.credited == 3
    assert (await ledger.account(user_account("usr_ada", "EUR"))).balance == 7


async def test_days_follow_each_other_without_a_gap_and_again_without_effect(rail, ledger, bank):
    reference = await rail.reference_for("usr_ada")
    for cents in (100, 200, 300):
        bank.receive(OUR_IBAN, cents, note=reference)
        bank.receive(OUR_IBAN, 1, note="no idea")
        bank.end_day()
    receipts = await import_all(rail, bank)
    assert [receipt.credited for receipt in receipts] == [1, 1, 1]
    assert not any(receipt.warnings for receipt in receipts)
    assert all(receipt.replayed for receipt in await import_all(rail, bank))
    (closing,) = await rail.closing_balances()
    assert closing.balance == 603 == -(await ledger.account(MOCK)).balance
    assert {line.reason for line in await rail.lines(LineState.SUSPENDED)} == {Reason.NO_REFERENCE}


async def test_a_statement_left_out_is_a_gap(rail, bank):
    for cents in (100, 200):
        bank.receive(OUR_IBAN, cents)
        bank.end_day()
    _, second = bank.statements(OUR_ACCOUNT)
    receipt = await rail.import_statement(second, filename="second.xml")
    assert receipt.statements[0].gap == 100
    assert receipt.warnings


async def test_money_that_leaves_the_bank_waits_in_suspense(rail, ledger):
    with bank_with_our_account(balance=1000) as bank:
        pay_out(bank, 400)
        bank.end_day()
        (receipt,) = await import_all(rail, bank)
    assert receipt.statements[0].reasons == {Reason.DEBIT: 1}
    assert (await ledger.account(MOCK)).balance == 400
    assert receipt.statements[0].gap == 1000


async def test_a_statement_that_lost_an_entry_is_refused(rail, ledger, bank):
    bank.call("PATCH", f"/_mock/accounts/{OUR_ACCOUNT}", json={"behaviour": "statement-gap"})
    bank.receive(OUR_IBAN, 100)
    bank.receive(OUR_IBAN, 200)
    bank.end_day()
    with pytest.raises(StatementDisagrees):
        await import_all(rail, bank)
    assert await ledger.accounts(asset="EUR") == []
