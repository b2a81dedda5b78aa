"""Files to the bank: the same bytes for the same batch, written whole, handed over once, whoever is killed when."""

import asyncio
import json
import os
import random
import signal
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from base.errors import BrokenInvariant
from db.engine import tx
from fiat import payout_store as store
from fiat.bank.outgoing import BankFiles
from fiat.bank.pain001 import write_pain001
from fiat.errors import BankMisconfigured, InvalidRecipient
from fiat.payout_steps import Gathering, PayoutSteps
from fiat.payouts import BatchState, Payout, PayoutBatch, PayoutState, Recipient, named_payouts, read_recipient
from fiat.tables import payouts
from fiat.top_ups import BANK
from ledger.accounts import house_account
from tests.fiat.conftest import MOCK
from tests.fiat.test_payouts import ADA, ask, available, balance, fund
from tests.support import forked

NS = "{urn:iso:std:iso:20022:tech:xsd:pain.001.001.09}"
NOW = datetime(2026, 1, 5, tzinfo=UTC)
POINTS = ("prepared", "drafted", "recorded", "released", "submitted", "noted")


def payout(number, amount, name="Ada"):
    return Payout(
        id=f"pyo_{number:026}",
        owner=ADA,
        rail=BANK,
        account="mock",
        asset="EUR",
        amount=amount,
        fee=0,
        state=PayoutState.SUBMITTING,
        reason=None,
        detail=None,
        recipient=Recipient(name=name, iban="NL26MOCK0000000077"),
        hold="req:x",
        batch="pyb_1",
        accepted_at=None,
        created_at=NOW,
        updated_at=NOW,
    )


def batch_of(of, **changes):
    told = {
        "id": "pyb_01jd0000000000000000000000",
        "rail": BANK,
        "account": "mock",
        "asset": "EUR",
        "payouts": len(of),
        "total": sum(one.amount for one in of),
        "state": BatchState.PREPARED,
        "reason": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return PayoutBatch(**told | changes)


names = st.text(st.characters(codec="utf-8", categories=("L", "P", "Zs")), min_size=1, max_size=70)


@given(names)
def test_every_name_that_a_request_may_have_can_be_written(name):
    try:
        recipient = read_recipient(name, "NL26MOCK0000000077")
    except InvalidRecipient:
        return
    one = replace(payout(1, 100), recipient=recipient)
    assert write_pain001(MOCK, batch_of([one]), [one])


@pytest.mark.parametrize("name", ["@", "!", "&", "-", "_ *", "?"])
def test_a_name_without_a_letter_that_banks_take_is_refused(name):
    with pytest.raises(InvalidRecipient):
        read_recipient(name, "NL26MOCK0000000077")


async def test_one_batch_that_cannot_be_written_stops_no_other(
    rail, desk, steps, ledger, database, vault, clock, entropy, folder
):
    """Both are prepared by a process that dies there; the first one's recipient was taken by an older version."""
    await fund(rail, 1_000_00)
    asked = []
    for number, name in enumerate(("@", "Ada", "Ada")):
        one = await ask(desk, 1_00, str(number))
        asked.append(one.id)
        if name == "@":
            await _rename(database, vault, one, name)
        if number < 2:
            with pytest.raises(SystemExit):
                await _dying(database, ledger, vault, clock, entropy, folder)._bring_out("mock", "EUR")
    for _ in range(2):
        with pytest.raises(BrokenInvariant):
            await steps.step()
    states = [(await desk.get(ADA, id)).state for id in asked]
    assert states == [PayoutState.SUBMITTING, PayoutState.SUBMITTED, PayoutState.SUBMITTED]


async def test_payouts_of_an_account_no_longer_configured_wait_and_stop_no_other(
    rail, desk, ledger, database, vault, clock, entropy, folder
):
    await fund(rail, 1_000_00)
    prepared = await ask(desk, 1_00, "1")
    with pytest.raises(SystemExit):
        await _dying(database, ledger, vault, clock, entropy, folder)._bring_out("mock", "EUR")
    waiting = await ask(desk, 2_00, "2")
    steps = _steps(database, ledger, vault, clock, entropy, BankFiles(folder, {}))
    for _ in range(2):
        with pytest.raises(BankMisconfigured, match="mock"):
            await steps.step()
    assert (await desk.get(ADA, waiting.id)).state is PayoutState.REQUESTED
    assert (await desk.get(ADA, prepared.id)).state is PayoutState.SUBMITTING
    with pytest.raises(BankMisconfigured, match="mock"):
        await steps._gather("mock", "EUR")


def _steps(database, ledger, vault, clock, entropy, files, **more):
    return PayoutSteps(
        database.engine(),
        ledger,
        vault,
        files,
        gathering=Gathering(wait=timedelta()),
        clock=clock,
        entropy=entropy,
        **more,
    )


def _dying(database, ledger, vault, clock, entropy, folder):
    """Ends at the instant after a batch is prepared."""

    def reached(point):
        if point == "prepared":
            raise SystemExit

    return _steps(database, ledger, vault, clock, entropy, BankFiles(folder, {"mock": MOCK}), reached=reached)


async def _rename(database, vault, payout, name):
    personal = {"name": name, "iban": payout.recipient.iban}
    sealed = vault.seal(personal, book="main", table=payouts.name, row=payout.id)
    async with tx(database.engine()) as connection:
        await store.reseal(connection, "main", payout.id, sealed, "x")


@given(st.lists(st.tuples(st.integers(1, 10**11), names), min_size=1, max_size=8))
def test_a_file_adds_up_and_is_the_same_bytes_each_time(rows):
    members = [payout(number, amount, f"A {name}") for number, (amount, name) in enumerate(rows)]
    batch = batch_of(members)
    content = write_pain001(MOCK, batch, members)
    assert write_pain001(MOCK, batch, members) == content
    root = etree.fromstring(content)
    total = sum(amount for amount, _ in rows)
    for part in (f"{NS}GrpHdr", f"{NS}PmtInf"):
        found = next(root.iter(part))
        assert found.findtext(f"{NS}NbOfTxs") == str(len(rows))
        assert found.findtext(f"{NS}CtrlSum") == f"{total // 100}.{total % 100:02}"
    ids = [found.text for found in root.iter(f"{NS}EndToEndId")]
    assert [min(named_payouts((text or "",))) for text in ids] == [one.id for one in members]


@pytest.mark.parametrize("changes", [{"payouts": 2}, {"total": 99}])
def test_a_batch_that_is_not_its_payouts_is_not_written(changes):
    with pytest.raises(BrokenInvariant):
        write_pain001(MOCK, batch_of([payout(1, 100)], **changes), [payout(1, 100)])


async def test_a_file_that_was_carried_off_is_not_put_there_again(tmp_path):
    files, batch = BankFiles(tmp_path, {"mock": MOCK}), batch_of([payout(1, 100)])
    for _ in range(3):
        done = await files.submit(batch, [payout(1, 100)])
        assert done.state is BatchState.SUBMITTED
        for path in (tmp_path / "out").iterdir():
            path.unlink()
    assert list((tmp_path / "out").iterdir()) == list((tmp_path / "drafts").iterdir()) == []
    (record,) = (tmp_path / "archive" / "out").iterdir()
    told = json.loads(record.read_text())
    assert (told["payouts"], told["total_smallest_units"]) == (1, "100")
    assert "Ada" not in record.read_text()


@pytest.mark.slow
async def test_killed_at_any_instant_no_payout_is_sent_twice_and_none_is_lost(
    rail, desk, ledger, database, folder, tmp_path
):
    """Somebody carries every file off as soon as it's there, so a second one would be paid again."""
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    print(f"seed: {seed}; SEED={seed} repeats it")
    draw = random.Random(seed)
    points = [*POINTS, *draw.choices(POINTS, k=3)]
    draw.shuffle(points)
    await fund(rail, 1_000_00)
    sent: Counter[str] = Counter()
    asked = []
    for number, point in enumerate(points):
        asked += [(await ask(desk, 1_00 + number, f"{number}-{n}")).id for n in range(draw.randint(1, 3))]
        code = await _run(database.app_url, folder, tmp_path / "personal.key", point)
        assert code in (-signal.SIGKILL, 0)
        sent += _carry_off(folder)
    assert await _run(database.app_url, folder, tmp_path / "personal.key", "never") == 0
    sent += _carry_off(folder)
    assert sent == Counter(asked)
    assert {(await desk.get(ADA, id)).state for id in asked} == {PayoutState.SUBMITTED}
    assert await balance(ledger, house_account("in-transit:bank:out", "EUR")) == 0
    assert await available(ledger) == 1_000_00 - sum([(await desk.get(ADA, id)).total for id in asked])
    assert not list((folder / "drafts").iterdir())


async def _run(url, folder, key, point):
    arguments = ["killable_files", url, folder, key, point]
    ended = await asyncio.to_thread(
        forked.run, "tests.fiat.killable_files:run", arguments, cwd=forked.PROJECT, env=os.environ, timeout=60
    )
    return ended.returncode


def _carry_off(folder):
    found: Counter[str] = Counter()
    for path in (folder / "out").iterdir() if (folder / "out").exists() else ():
        root = etree.fromstring(path.read_bytes())
        found.update(min(named_payouts((one.text or "",))) for one in root.iter(f"{NS}EndToEndId"))
        path.unlink()
    return found
