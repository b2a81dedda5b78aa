"""A payout is given back by hand only where nothing can pay it any more: its file, a lost memory, the provider."""

import asyncio
import json
import shutil
from datetime import timedelta

import pytest
from sqlalchemy import update

from base.errors import NotFound
from chain.networks import Registry
from db.engine import tx
from fiat.bank.outgoing import BankFiles, locked
from fiat.errors import PayoutFileWaits, PayoutNotCancellable, PayoutsHalted
from fiat.payouts import PayoutState
from fiat.tables import payout_batches, payouts
from ledger.accounts import house_account
from tests.fiat.conftest import MOCK
from tests.fiat.statements import Entry, camt053
from tests.fiat.test_payouts import ADA, ask, available, balance, carried_off, fund, key
from tests.support.bank import OUR_IBAN
from tests.support.command import onebook
from treasury.alerts import AlertCode, Alerts, Severity

pytestmark = pytest.mark.slow

_S = PayoutState


@pytest.fixture
async def unknown(rail, desk, steps, clock):
    """A payout of 20 euros in a file of which nothing was heard."""
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    await steps.step()
    clock.advance(timedelta(days=6))
    await steps.step()
    return payout


async def test_a_payout_whose_file_still_lies_there_is_not_given_back_before_it_is_withdrawn(
    unknown, desk, steps, ledger, folder
):
    (path,) = (folder / "out").iterdir()
    with pytest.raises(PayoutFileWaits, match=f"onebook bank withdraw {path.name}"):
        await desk.fail(key=key("fail"), payout=unknown.id)
    assert ((await desk.get(ADA, unknown.id)).state, await available(ledger)) == (_S.UNKNOWN, 100_00 - 20_25)
    assert BankFiles(folder, {"mock": MOCK}).withdraw(path.name) == folder / "withdrawn" / path.name
    ended = await desk.fail(key=key("fail"), payout=unknown.id)
    assert (ended.state, await available(ledger)) == (_S.FAILED, 100_00)
    await steps.step()
    assert list((folder / "out").iterdir()) == []
    assert (await desk.fail(key=key("fail"), payout=unknown.id)).replayed


async def test_what_was_carried_off_or_never_was_a_payment_file_is_not_withdrawn(unknown, folder):
    files, name = BankFiles(folder, {"mock": MOCK}), carried_off(folder)
    for asked in (name, "../in/x.pain001.xml", "x.xml"):
        with pytest.raises(NotFound):
            files.withdraw(asked)


async def test_who_gives_up_a_payout_waits_while_a_file_is_being_written(rail, desk, folder):
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    with locked(folder, "out"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("fiat.bank.outgoing.HELD_SECONDS_MAX", 0.1)
        with pytest.raises(Exception, match="another process is at work"):
            await desk.cancel(key=key("c"), owner=ADA, payout=payout.id)
    assert (await desk.cancel(key=key("c"), owner=ADA, payout=payout.id)).state is _S.CANCELLED


async def test_a_debit_of_a_payout_that_was_given_back_is_an_alert(
    unknown, rail, desk, ledger, database, clock, folder
):
    alerts = Alerts(database.engine(), ledger=ledger, registry=Registry([], []), clock=clock)
    carried_off(folder)
    await desk.fail(key=key("fail"), payout=unknown.id)
    assert await alerts.open() == []
    debit = Entry(20_00, side="DBIT", end_to_end_id=unknown.end_to_end_id, bank_reference="B-1")
    content = camt053(debit, opening=100_00, iban=OUR_IBAN, name="S-2", sequence=2)
    await rail.import_statement(content, filename="late.xml")
    assert await balance(ledger, house_account("suspense", "EUR")) == -20_00
    (alert,) = await alerts.open()
    assert (alert.code, alert.severity, alert.subject) == (AlertCode.PAYOUT_PAID_LATE, Severity.CRITICAL, "mock, EUR")
    assert "1 payout of 20.00 EUR" in alert.text


async def _put_back(database, payout):
    """The database as it was before the payout's file was written."""
    async with tx(database.engine()) as connection:
        was = {"state": "requested", "batch": None}
        await connection.execute(update(payouts).where(payouts.c.id == payout.id).values(**was))
        await connection.execute(update(payout_batches).values(id="pyb_nobodys", rail="elsewhere"))


async def test_a_payout_of_a_database_put_back_is_not_given_up_as_long_as_the_folder_knows_more(
    rail, desk, steps, ledger, database, folder
):
    await fund(rail, 100_00)
    payout = await ask(desk, 20_00)
    await steps.step()
    carried_off(folder)
    await _put_back(database, payout)
    with pytest.raises(PayoutsHalted, match="put back from a backup"):
        await desk.cancel(key=key("c"), owner=ADA, payout=payout.id)
    assert await available(ledger) == 100_00 - 20_25
    (record,) = (folder / "archive" / "out").glob("*.json")
    record.rename(folder / "compared-with-the-bank.json")
    assert (await desk.cancel(key=key("c"), owner=ADA, payout=payout.id)).state is _S.CANCELLED


@pytest.mark.parametrize("lost", ["emptied", "exchanged", "older"])
async def test_a_folder_that_is_empty_or_another_one_is_no_memory_of_nothing(
    rail, desk, steps, memory, database, folder, lost
):
    """However little the database put back knows of what was handed over."""
    await fund(rail, 100_00)
    first = await ask(desk, 20_00, "first")
    await steps.step()
    older = folder.with_name("older")
    shutil.copytree(folder, older)
    if lost != "older":
        await _put_back(database, first)
    else:
        await ask(desk, 5_00, "second")
        await steps.step()
    shutil.rmtree(folder)
    if lost == "exchanged":
        other = BankFiles(folder, {"mock": MOCK})
        other.begin("mem_another")
    elif lost == "older":
        older.rename(folder)
    waiting = await ask(desk, 1_00, "third")
    with pytest.raises(PayoutsHalted, match="onebook bank resume"):
        await steps.step()
    with pytest.raises(PayoutsHalted, match="onebook bank resume"):
        await desk.cancel(key=key("c"), owner=ADA, payout=waiting.id)
    assert not list((folder / "out").glob("*")) or lost == "older"
    await memory.accept()
    assert (await desk.cancel(key=key("c"), owner=ADA, payout=waiting.id)).state is _S.CANCELLED
    await steps.step()


CONFIG = f"""
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2

[[bank_accounts]]
name = "mock"
iban = "{OUR_IBAN}"
asset = "EUR"

[bank]
folder = "bank"
"""


async def test_a_file_is_withdrawn_and_a_new_folder_accepted_by_command(rail, desk, steps, database, folder, tmp_path):
    (tmp_path / "onebook.toml").write_text(CONFIG)

    async def run(*told):
        environment = {"ONEBOOK_DATABASE_URL": database.app_url}
        return await asyncio.to_thread(onebook, "bank", *told, cwd=tmp_path, environment=environment)

    await fund(rail, 100_00)
    await ask(desk, 20_00)
    await steps.step()
    (path,) = (folder / "out").iterdir()
    done = await run("withdraw", path.name, "--json")
    assert json.loads(done.stdout) == {"withdrawn": str(folder / "withdrawn" / path.name)}
    again = await run("withdraw", path.name)
    assert again.returncode != 0
    assert "carried off" in again.stderr
    shutil.rmtree(folder)
    with pytest.raises(PayoutsHalted):
        await steps.step()
    assert (await run("resume")).returncode == 0
    assert await steps.step() == 0


async def test_the_first_folder_of_a_database_becomes_its_memory(rail, desk, steps, folder):
    await fund(rail, 100_00)
    payout = await ask(desk, 1_00)
    await desk.cancel(key=key("c"), owner=ADA, payout=payout.id)
    name = (folder / "archive" / "out" / ".memory").read_text()
    assert name.startswith("mem_")
    await ask(desk, 1_00, "two")
    await steps.step()
    assert (folder / "archive" / "out" / ".memory").read_text() == name
    (record,) = (folder / "archive" / "out").glob("*.json")
    assert json.loads(record.read_text())["payouts"] == 1
    with pytest.raises(PayoutNotCancellable):
        await desk.cancel(key=key("c2"), owner=ADA, payout=payout.id)
