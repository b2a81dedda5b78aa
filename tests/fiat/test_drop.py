"""The folder of bank files: taken when whole, filed away with a receipt, refused with a reason."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from base.errors import Unavailable
from fiat.bank.drop import DropFolder
from fiat.bank.outgoing import locked, prepare_folder
from fiat.bank.records import BankAccount
from fiat.bank.service import BankRail
from ledger.accounts import user_account
from tests.fiat.statements import IBAN, Entry, camt053

pytestmark = pytest.mark.slow

ADA = "usr_ada"


@pytest.fixture
def drop(rail, folder, clock):
    prepare_folder(folder)
    return DropFolder(folder, rail, clock=clock)


async def settle(drop, clock):
    """Two looks, far enough apart."""
    first = await drop.step()
    clock.advance(timedelta(seconds=3))
    return first + await drop.step()


def receipts(folder, part):
    return {path.name[22:]: json.loads(path.read_text()) for path in (folder / part).glob("*.json")}


async def test_a_file_is_taken_once_it_is_whole_and_filed_with_its_receipt(drop, rail, folder, clock, ledger):
    content = camt053(Entry(100, await rail.reference_for(ADA)))
    path = folder / "in" / "day.xml"
    path.write_bytes(content[:200])
    assert await drop.step() == 0
    path.write_bytes(content)
    clock.advance(timedelta(seconds=3))
    assert await drop.step() == 0  # it has changed since
    clock.advance(timedelta(seconds=3))
    assert await drop.step() == 1
    assert list((folder / "in").iterdir()) == []
    told = receipts(folder, "archive")["day.xml.json"]
    assert (told["taken"], told["replayed"], told["statements"][0]["credited"]) == (True, False, 1)
    assert (await ledger.account(user_account(ADA, "EUR"))).balance == 100


async def test_the_same_file_again_does_nothing_and_its_receipt_says_so(drop, rail, folder, clock, ledger):
    content = camt053(Entry(100, await rail.reference_for(ADA)))
    for _ in range(2):
        (folder / "in" / "day.xml").write_bytes(content)
        assert await settle(drop, clock) == 1
    told = receipts(folder, "archive")
    assert [told[name]["replayed"] for name in ("day.xml.json", "day.xml.again.json")] == [False, True]
    assert (await ledger.account(user_account(ADA, "EUR"))).balance == 100


async def test_f74_a_broken_file_is_put_aside_with_the_reason_and_stops_no_other(drop, rail, folder, clock):
    good = camt053(Entry(100, await rail.reference_for(ADA)))
    (folder / "in" / "a.xml").write_bytes(good.replace(b"<Cd>BOOK</Cd>", b"<Cd>HOOK</Cd>"))
    (folder / "in" / "b.xml").write_bytes(good)
    (folder / "in" / "c.txt").write_bytes(b"hello")
    assert await settle(drop, clock) == 3
    told = receipts(folder, "refused")
    assert {name: (one["code"], one["taken"]) for name, one in told.items()} == {
        "a.xml.json": ("statement_malformed", False),
        "c.txt.json": ("statement_unsafe", False),
    }
    assert isinstance(told["a.xml.json"]["line"], int)
    assert list(receipts(folder, "archive")) == ["b.xml.json"]


class Meddled(BankRail):
    """Somebody meddles with the file that has just been read: `meddle` is given its path, once."""

    meddle: Callable[[Path], None] | None = None

    async def import_path(self, path, **more):
        result = await super().import_path(path, **more)
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle(path)
        return result


@pytest.fixture
def meddled(database, ledger, clock, entropy, vault):
    accounts = [BankAccount(name="house-bank", iban=IBAN, asset="EUR")]
    return Meddled(database.engine(), ledger, clock=clock, entropy=entropy, accounts=accounts, vault=vault)


async def test_a_file_that_somebody_takes_away_meanwhile_stops_no_other(meddled, folder, clock):
    prepare_folder(folder)
    drop = DropFolder(folder, meddled, clock=clock)
    meddled.meddle = Path.unlink
    for name in ("a.xml", "b.xml"):
        (folder / "in" / name).write_bytes(camt053(Entry(100)))
    await drop.step()
    clock.advance(timedelta(seconds=3))
    with pytest.raises(FileNotFoundError):
        await drop.step()
    assert list(receipts(folder, "archive")) == ["b.xml.json"]


async def test_a_file_replaced_while_it_is_taken_is_taken_as_well(meddled, ledger, folder, clock):
    prepare_folder(folder)
    drop = DropFolder(folder, meddled, clock=clock)
    reference = await meddled.reference_for(ADA)

    def replace(path):
        path.with_name(".next").write_bytes(camt053(Entry(20, reference), name="STMT-2", opening=100, sequence=2))
        path.with_name(".next").rename(path)

    (folder / "in" / "day.xml").write_bytes(camt053(Entry(100, reference)))
    meddled.meddle = replace
    await settle(drop, clock)
    assert (folder / "in" / "day.xml").exists()
    await settle(drop, clock)
    assert list((folder / "in").iterdir()) == []
    assert (await ledger.account(user_account(ADA, "EUR"))).balance == 120
    assert [told["statements"][0]["bank_id"] for told in receipts(folder, "archive").values()] == ["STMT-2"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
async def test_a_file_with_a_long_name_is_filed_under_its_beginning(drop, rail, folder, clock, name):
    for _ in range(2):
        (folder / "in" / name).write_bytes(camt053(Entry(100)))
        assert await settle(drop, clock) == 1
    told = receipts(folder, "archive")
    assert [one["file"] for one in told.values()] == [name, name]
    assert all(filed.startswith(name[:50]) for filed in told)


@pytest.mark.parametrize("name", [".day.xml", "day.xml.part", "day.xml.tmp", "DAY.FILEPART"])
async def test_what_is_being_written_is_left_alone(drop, folder, clock, name):
    (folder / "in" / name).write_bytes(camt053(Entry(1)))
    assert await settle(drop, clock) == 0
    assert (folder / "in" / name).exists()


async def test_a_link_out_of_the_folder_is_not_followed(drop, folder, clock, tmp_path):
    (tmp_path / "elsewhere.xml").write_bytes(camt053(Entry(1)))
    (folder / "in" / "day.xml").symlink_to(tmp_path / "elsewhere.xml")
    assert await settle(drop, clock) == 0


async def test_a_folder_in_use_is_left_to_who_uses_it(drop, folder):
    with locked(folder, "in"), pytest.raises(Unavailable):
        await drop.step()
