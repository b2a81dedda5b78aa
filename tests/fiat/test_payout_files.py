"""Files to the bank: the same bytes for the same batch, written whole, handed over once, whoever is killed when."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from base.errors import BrokenInvariant
from fiat.bank.outgoing import BankFiles
from fiat.bank.pain001 import write_pain001
from fiat.payouts import BatchState, Payout, PayoutBatch, PayoutState, Recipient, named_payouts
from fiat.top_ups import BANK
from ledger.accounts import house_account
from tests.fiat.conftest import MOCK
from tests.fiat.test_payouts import ADA, ask, available, balance, fund

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


@given(st.lists(st.tuples(st.integers(1, 10**11), names), min_size=1, max_size=8))
def test_a_file_adds_up_and_is_the_same_bytes_each_time(rows):
    payouts = [payout(number, amount, f"A {name}") for number, (amount, name) in enumerate(rows)]
    batch = batch_of(payouts)
    content = write_pain001(MOCK, batch, payouts)
    assert write_pain001(MOCK, batch, payouts) == content
    root = etree.fromstring(content)
    total = sum(amount for amount, _ in rows)
    for part in (f"{NS}GrpHdr", f"{NS}PmtInf"):
        found = next(root.iter(part))
        assert found.findtext(f"{NS}NbOfTxs") == str(len(rows))
        assert found.findtext(f"{NS}CtrlSum") == f"{total // 100}.{total % 100:02}"
    ids = [found.text for found in root.iter(f"{NS}EndToEndId")]
    assert [min(named_payouts((text or "",))) for text in ids] == [one.id for one in payouts]


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
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fiat.killable_files", url, str(folder), str(key), point
    )
    return await asyncio.wait_for(child.wait(), 60)


def _carry_off(folder):
    found: Counter[str] = Counter()
    for path in (folder / "out").iterdir() if (folder / "out").exists() else ():
        root = etree.fromstring(path.read_bytes())
        found.update(min(named_payouts((one.text or "",))) for one in root.iter(f"{NS}EndToEndId"))
        path.unlink()
    return found
