"""One bank line taken in by two processes in the same instant: it has one effect, and both say so."""

import pytest

from fiat.bank.records import LineState
from fiat.bank.service import BankRail
from fiat.payouts import PayoutState
from ledger.accounts import house_account
from tests.fiat.conftest import MOCK
from tests.fiat.statements import Entry, camt053
from tests.fiat.test_formats import notification
from tests.fiat.test_payouts import ADA, PAIN002, ask, available, balance, fund, why
from tests.support.bank import OUR_IBAN

pytestmark = pytest.mark.slow


class _Overtaken:
    """The book as a process meets it that is overtaken by `meanwhile`, just before what it decided is submitted."""

    def __init__(self, ledger, meanwhile):
        self._ledger = ledger
        self._meanwhile = meanwhile

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    async def submit(self, *groups):
        if self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return await self._ledger.submit(*groups)


@pytest.fixture
def overtaken(database, ledger, clock, entropy, vault):
    def make(meanwhile):
        late = _Overtaken(ledger, meanwhile)
        return BankRail(database.engine(), late, clock=clock, entropy=entropy, accounts=[MOCK], vault=vault)

    return make


async def test_a_line_that_another_process_took_for_something_else_meanwhile_is_known(
    rail, desk, steps, ledger, overtaken
):
    """One reads the payout as sent, the other as rejected: for it the debit is nobody's, and it's quicker."""
    await fund(rail, 100_00)
    payout = await ask(desk, 10_00)
    await steps.step()
    (batch,) = await desk.batches()
    rejected = PAIN002.format(
        batch=batch.message_id, group="<GrpSts>RJCT</GrpSts>" + why("AC04"), of_batch="", rows=""
    ).encode()
    debit = Entry(10_00, side="DBIT", end_to_end_id=payout.end_to_end_id, bank_reference="B-1")
    content = camt053(debit, Entry(5, "x", bank_reference="B-2"), opening=100_00, iban=OUR_IBAN, name="S", sequence=2)

    async def meanwhile():
        await rail.import_statement(rejected, filename="status.xml")
        first = await rail.import_statement(content, filename="quick.xml")
        assert (first.statements[0].suspended, first.statements[0].known) == (2, 0)

    receipt = await overtaken(meanwhile).import_statement(content, filename="slow.xml")
    (told,) = receipt.statements
    assert (told.known, told.paid, told.suspended, told.gap) == (2, 0, 0, 0)
    assert (await desk.get(ADA, payout.id)).state is PayoutState.REJECTED
    assert await available(ledger) == 100_00
    assert await balance(ledger, house_account("bank:mock", "EUR")) == -100_00 + 10_00 - 5
    assert len(await rail.lines(LineState.SUSPENDED)) == 2


async def test_a_line_that_a_notification_told_meanwhile_is_the_statements(rail, overtaken):
    entry = Entry(100, await rail.reference_for(ADA), bank_reference="B-1")

    async def meanwhile():
        told = notification(entry, iban=OUR_IBAN)
        assert (await rail.import_statement(told, filename="054.xml")).credited == 1

    receipt = await overtaken(meanwhile).import_statement(camt053(entry, iban=OUR_IBAN), filename="053.xml")
    assert (receipt.credited, receipt.statements[0].known, receipt.warnings) == (0, 1, ())
    (line,) = await rail.lines()
    assert line.statement == receipt.statements[0].id
