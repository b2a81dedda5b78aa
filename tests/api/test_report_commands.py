"""`onebook report`: every kind in every form as a file; what was there already; the same bytes again, later."""

import asyncio
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from base.clock import ManualClock
from tests.api.conftest import Stage
from tests.support.command import onebook
from tests.support.postgres import Database
from treasury.reports.model import ReportKind
from treasury.reports.render.rendering import Form

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
book = "main"

[[assets]]
code = "EUR"
kind = "fiat"
scale = 2

[[assets]]
code = "USDC"
kind = "stablecoin"
scale = 6

[[assets]]
code = "ETH"
kind = "crypto"
scale = 18
"""
JANUARY = {"period": "2026-01", "reason": "January is reported"}
BEGINS = {Form.JSON: b"{", Form.CSV: b"report,", Form.XLSX: b"PK", Form.PDF: b"%PDF"}
EVERY = [(kind, form) for kind in ReportKind for form in Form]


class Desk:
    """The commands beside a running database, in a folder of their own."""

    def __init__(self, stage: Stage, database: Database, folder: Path) -> None:
        (folder / "onebook.toml").write_text(CONFIG)
        self.stage, self.folder = stage, folder
        self._environment = {"ONEBOOK_DATABASE_URL": database.app_url}
        self._two = asyncio.Semaphore(2)

    async def report(self, kind: ReportKind, *arguments: str, period: str = "2026-01") -> Any:
        whose = ("--user", str(self.stage.alice.user)) if kind is ReportKind.STATEMENT else ()
        told = ("report", kind.value, "--period", period, *whose, *arguments)
        async with self._two:
            return await asyncio.to_thread(onebook, *told, cwd=self.folder, environment=self._environment)

    async def written(self, kind: ReportKind, form: Form, name: str) -> tuple[bytes, dict[str, Any]]:
        """A closed period's file, and what the command says of it."""
        place = f"{kind.value}-{name}.{form.value}"
        done = await self.report(kind, "--format", form.value, "--closed-only", "--out", place, "--json")
        assert done.returncode == 0, done.stderr
        return (self.folder / place).read_bytes(), json.loads(done.stdout)


@pytest.fixture
async def desk(stage: Stage, database: Database, clock: ManualClock, tmp_path: Path) -> Desk:
    """January: deposits by hand, a payment, a payment taken back; then it's closed."""
    await stage.fund(stage.alice, "100.00", "EUR")
    await stage.fund(stage.alice, "1.5", "ETH")
    pay = {"recipient": "@bob", "asset": "EUR", "amount": "12.34", "memo": "=1+1"}
    for _ in range(2):
        sent = (await stage.alice.post("/v1/transfers", pay)).json()["id"]
    back = await stage.treasurer.post("/v1/treasury/reversals", {"entry": sent, "reason": "sent twice"})
    assert back.status_code == 201
    clock.advance(timedelta(days=40))
    await stage.treasurer.post("/v1/treasury/reconciliations")
    assert (await stage.treasurer.post("/v1/treasury/periods", JANUARY)).status_code == 200
    folder = tmp_path / "desk"
    folder.mkdir()
    return Desk(stage, database, folder)


async def test_every_kind_is_written_in_every_form_and_later_the_same_again_to_the_last_byte(desk: Desk):
    first = await asyncio.gather(*(desk.written(kind, form, "first") for kind, form in EVERY))
    for (kind, form), (content, told) in zip(EVERY, first, strict=True):
        assert content.startswith(BEGINS[form]), (kind, form)
        assert (told["kind"], told["period"], told["provisional"]) == (kind.value, "2026-01", False)
        if form is Form.JSON:
            assert json.loads(content)["digest"] == told["digest"]
    digests = {
        kind: {told["digest"] for (of, _), (_, told) in zip(EVERY, first, strict=True) if of is kind}
        for kind in ReportKind
    }
    assert {kind: len(found) for kind, found in digests.items()} == dict.fromkeys(ReportKind, 1)
    statement = json.loads((desk.folder / "statement-first.json").read_bytes())
    assert [row["closing"] for row in statement["tables"]["summary"] if row["asset"] == "EUR"] == ["87.66"]

    # What is booked later, whatever its date, changes no byte.
    move = {"asset": "EUR", "amount": "1.00", "debit": "suspense", "credit": "capital", "reason": "late"}
    await desk.stage.fund_account("house/suspense/EUR", "10.00")
    late = await desk.stage.treasurer.post("/v1/treasury/adjustments", move | {"effective_at": "2026-01-15T12:00:00Z"})
    assert late.json()["effective_at_requested"] is not None
    again = await asyncio.gather(*(desk.written(kind, form, "again") for kind, form in EVERY))
    for (kind, form), (before, _), (after, _) in zip(EVERY, first, again, strict=True):
        assert hashlib.sha256(after).digest() == hashlib.sha256(before).digest(), (kind, form)


async def test_a_file_that_is_there_is_replaced_whole_or_stays_as_it_was(desk: Desk):
    there = desk.folder / "there.csv"
    there.write_bytes(b"x" * 1_000_000)
    refused = await desk.report(
        ReportKind.INCOME, "--format", "csv", "--closed-only", "--out", "there.csv", period="2026-02"
    )
    assert (refused.returncode, "isn't closed" in refused.stderr) == (1, True)
    assert there.read_bytes() == b"x" * 1_000_000
    done = await desk.report(ReportKind.INCOME, "--format", "csv", "--out", "there.csv")
    assert (done.returncode, "final; digest sha256:" in done.stdout) == (0, True)
    assert there.read_bytes().startswith(b"report,")
    assert b"x" * 10 not in there.read_bytes()
    assert there.stat().st_mode & 0o077 == 0  # figures of the house are for who made them
    assert sorted(path.name for path in desk.folder.iterdir() if "draft" in path.name) == []


async def test_an_open_period_is_named_provisional_in_file_and_words(desk: Desk):
    done = await desk.report(ReportKind.BALANCE_SHEET, "--format", "xlsx", "--lang", "zh", period="2026-02")
    assert (done.returncode, "provisional" in done.stdout) == (0, True), done.stderr
    assert (desk.folder / "balance-sheet-2026-02-zh-provisional.xlsx").read_bytes().startswith(b"PK")


WRONG = [
    # arguments                                          exit  words
    (("--out", "nowhere/there.pdf"),                     2,    "can't be written"),
    (("--known-at", "yesterday"),                        2,    "is no instant"),
    (("--user", "usr_1"),                                1,    "a statement is a user's"),
]  # fmt: skip


async def test_what_can_not_be_written_says_why(desk: Desk):
    for arguments, code, words in WRONG:
        done = await desk.report(ReportKind.INCOME, *arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert [path.name for path in desk.folder.iterdir()] == ["onebook.toml"]
