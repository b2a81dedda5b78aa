"""Reports over random histories, against plain sums of the journal; the same bytes again; every form says the same."""

import csv
import gc
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest

from base.clock import ManualClock
from bench.machine import forget_highest, highest_mib
from ledger.commands import ClosePeriod, Post, Posting, alone
from ledger.money import Asset, AssetKind, format_amount, parse_amount
from ledger.service import PostgresLedger
from treasury.errors import PeriodOpen, ReportPeriodUnfit, ReportUnfit
from treasury.reports import store
from treasury.reports.model import ReportKind
from treasury.reports.periods import months_of, parse_period
from treasury.reports.render.as_xlsx import number_of
from treasury.reports.render.rendering import Form, render
from treasury.reports.render.words import WORDS, Language
from treasury.reports.service import Asked, Reports

pytestmark = pytest.mark.slow

USD, ETH = Asset("USD", AssetKind.FIAT, 2), Asset("ETH", AssetKind.CRYPTO, 18)
START = datetime(2026, 9, 20, tzinfo=UTC)
USERS = ("usr_a/wallet", "usr_b/wallet")
HOUSE = tuple(
    f"house/{purpose}"
    for purpose in (
        *("bank:main", "custody:local:hot", "custody:local:deposit", "provider:stripe", "receivable:usr_a"),
        *("in-transit:local:out", "in-transit:stripe:in", "suspense", "capital", "fees", "fx-result", "network-fees"),
        *("rail-fees", "promotion"),
    )
)
HOUSE_KINDS = [kind for kind in ReportKind if kind is not ReportKind.STATEMENT]


class NoRates:
    async def at(self, instant):
        return None


class Stage:
    """A book of two months with entries of which many are dated back, and who reports on it."""

    def __init__(self, database) -> None:
        self.clock = ManualClock(START)
        self.engine = database.engine()
        self.ledger = PostgresLedger(self.engine, clock=self.clock)
        self.reports = Reports(self.engine, ledger=self.ledger, rates=NoRates(), reference=None, clock=self.clock)

    async def begin(self) -> "Stage":
        await self.ledger.create_book()
        for asset in (USD, ETH):
            await self.ledger.register_asset(asset)
            await self.ledger.ensure_open(*(f"{name}/{asset.code}" for name in (*USERS, *HOUSE)))
        return self

    async def write(self, chance: random.Random, entries: int, *, days: int) -> None:
        """Random entries between any two accounts; a third took effect up to ten days before."""
        step = timedelta(days=days) // entries
        for number in range(entries):
            self.clock.advance(step)
            asset = chance.choice((USD, ETH))
            debit, credit = chance.sample(HOUSE if number % 3 else (*HOUSE, *USERS), 2)
            if debit in USERS:
                debit, credit = credit, debit  # users may not go below zero
            ago = timedelta(seconds=chance.randrange(864_000))
            back = max(START, self.clock.now() - ago) if chance.random() < 0.35 else None
            posting = Posting(f"{debit}/{asset.code}", f"{credit}/{asset.code}", asset.code, chance.randint(1, 10**6))
            subject = chance.choice(("wdr_1", "trf_2", "top_3", None))
            name = f"e{self.clock.now().timestamp()}"
            await self.ledger.submit(
                alone(
                    Post(
                        id=name,
                        postings=(posting,),
                        subject=subject,
                        effective_at=back,
                        metadata={"memo": chance.choice(("=1+1", "午餐", 'a,"b"'))},
                    )
                )
            )

    async def close(self, until: datetime) -> None:
        [[outcome]] = await self.ledger.submit(alone(ClosePeriod(id=f"close-{until}", until=until)))
        assert outcome.accepted

    async def lines(self):
        """The whole journal: what a report is checked against."""
        return await self.ledger.history(limit=100_000)

    async def make(self, kind, period="2026-10", form=Form.JSON, lang=Language.EN, **more):
        """A report's bytes."""
        user = "usr_a" if kind is ReportKind.STATEMENT else None
        async with self.reports.report(Asked(kind=kind, period=period, user=user, **more)) as report:
            stream = io.BytesIO()
            render(report, form, lang, stream)
            return stream.getvalue()

    async def tables(self, kind, period="2026-10", **more):
        told = json.loads(await self.make(kind, period, **more))
        return told["tables"]


@pytest.fixture
async def stage(database):
    return await Stage(database).begin()


def sums(lines, *, since=None, until=None):
    """Debits and credits per account of the journal's lines that took effect in [since, until)."""
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        if line.kind == "posted" and (since or START) <= line.effective_at < until:
            found[line.debit][0] += line.amount
            found[line.credit][1] += line.amount
    return found


def units(text, code):
    asset = USD if code == "USD" else ETH
    return -parse_amount(text[1:], asset, least=0) if text.startswith("-") else parse_amount(text, asset, least=0)


def in_words(cell, lang):
    """A cell of JSON as the other forms have it."""
    return WORDS[cell][list(Language).index(lang)] if cell in WORDS else cell


def read_xlsx(content):
    """The cells of each sheet's rows, by column."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        names = sorted((name for name in packed.namelist() if "worksheets/sheet" in name), key=lambda n: (len(n), n))
        sheets = []
        for name in names:
            rows = []
            for row in ElementTree.fromstring(packed.read(name)).iter(f"{space}row"):
                cells = {}
                for cell in row.iter(f"{space}c"):
                    letters = "".join(sign for sign in cell.attrib["r"] if sign.isalpha())
                    place = sum((ord(sign) - 64) * 26**at for at, sign in enumerate(reversed(letters))) - 1
                    cells[place] = "".join(cell.itertext())
                rows.append(cells)
            sheets.append(rows)
        return sheets


OCTOBER = parse_period("2026-10")


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_balance_sheet_balances_and_is_what_the_journal_adds_up_to(stage, seed):
    await stage.write(random.Random(seed), 120, days=60)
    tables = await stage.tables(ReportKind.BALANCE_SHEET)
    found = sums(await stage.lines(), until=OCTOBER.until)
    for row in tables["totals"]:
        code = row["asset"]
        assert units(row["assets"], code) == units(row["liabilities"], code) + units(row["equity"], code)
    shown = {(row["line"], row["place"], row["asset"]): units(row["amount"], row["asset"]) for row in tables["lines"]}
    for code in ("USD", "ETH"):
        users = sum(found[f"{name}/{code}"][1] - found[f"{name}/{code}"][0] for name in USERS)
        assert shown.get(("users", "", code), 0) - shown.get(("overdrawn", "", code), 0) == users
        for purpose in ("custody:local:hot", "bank:main", "provider:stripe"):
            word, _, place = purpose.partition(":")
            debits, credits = found[f"house/{purpose}/{code}"]
            assert shown.get((word, place, code), 0) == debits - credits
        debits, credits = found[f"house/network-fees/{code}"]
        assert shown.get(("network-fees", "", code), 0) == credits - debits


async def test_adding_up_from_the_beginning_and_going_back_from_now_come_to_the_same(stage):
    await stage.write(random.Random(3), 90, days=50)
    async with stage.engine.connect() as connection:
        for until in (OCTOBER.since, OCTOBER.until, START + timedelta(days=90)):
            for known in (10, 60, await stage.ledger.last_seq()):
                span = await store.load_span(connection, 1, since=START, until=until, known=known)
                forth = await store.balances_by(connection, store.FROM_THE_BEGINNING, span)
                assert forth == await store.balances_by(connection, store.FROM_NOW_BACK, span)


async def test_income_of_two_months_is_that_of_each_together_and_of_the_journal(stage):
    await stage.write(random.Random(4), 120, days=80)
    found = sums(await stage.lines(), since=datetime(2026, 10, 1, tzinfo=UTC), until=datetime(2027, 1, 1, tzinfo=UTC))
    parts = [await stage.tables(ReportKind.INCOME, name) for name in ("2026-10", "2026-11", "2026-12")]
    quarter = await stage.tables(ReportKind.INCOME, "2026-Q4")
    for code in ("USD", "ETH"):
        months = [row for part in parts for row in part["totals"] if row["asset"] == code]
        [whole] = [row for row in quarter["totals"] if row["asset"] == code]
        for name in ("income", "expenses", "result"):
            assert sum(units(month[name], code) for month in months) == units(whole[name], code)
        earned = sum(
            found[f"house/{name}/{code}"][1] - found[f"house/{name}/{code}"][0] for name in ("fees", "fx-result")
        )
        assert units(whole["income"], code) == earned
    by_month = [row for row in quarter["by_month"] if row["month"] == "2026-10"]
    assert [row["result"] for row in by_month] == [row["result"] for row in parts[0]["totals"]]


async def test_movements_lead_from_opening_to_closing_and_on_to_the_next_opening(stage):
    await stage.write(random.Random(5), 120, days=70)
    october, november = [await stage.tables(ReportKind.MOVEMENTS, name) for name in ("2026-10", "2026-11")]
    openings = {(row["line"], row["place"], row["asset"]): row["opening"] for row in november["lines"]}
    found = sums(await stage.lines(), since=OCTOBER.since, until=OCTOBER.until)
    for row in october["lines"]:
        code = row["asset"]
        begun, inward, outward, ended = (units(row[name], code) for name in ("opening", "in", "out", "closing"))
        assert begun + inward - outward == ended
        assert openings.get((row["line"], row["place"], code), format_amount(0, USD)) == row["closing"]
    [hot] = [row for row in october["lines"] if row["place"] == "local:hot" and row["asset"] == "USD"]
    assert [units(hot["in"], "USD"), units(hot["out"], "USD")] == found["house/custody:local:hot/USD"]
    [network] = [row for row in october["places"] if row["kind"] == "network" and row["asset"] == "USD"]
    both = [found[f"house/custody:local:{role}/USD"] for role in ("hot", "deposit")]
    assert units(network["in"], "USD") == sum(debits for debits, _ in both)


async def test_costs_are_what_the_fee_accounts_moved_by(stage):
    await stage.write(random.Random(6), 150, days=40)
    tables = await stage.tables(ReportKind.COSTS)
    found = sums(await stage.lines(), since=OCTOBER.since, until=OCTOBER.until)
    for row in tables["totals"]:
        code = row["asset"]
        debits, credits = found[f"house/fees/{code}"]
        assert units(row["charged"], code) == credits - debits
        costs = [found[f"house/{name}/{code}"] for name in ("network-fees", "rail-fees")]
        assert units(row["cost"], code) == sum(debits - credits for debits, credits in costs)
    assert {"network", "bank", "rail", "book"} >= {row["kind"] for row in tables["lines"]}


async def test_a_users_statement_has_every_line_and_adds_up(stage):
    await stage.write(random.Random(7), 120, days=50)
    tables = await stage.tables(ReportKind.STATEMENT)
    mine = [line for line in await stage.lines() if line.kind == "posted"]
    for row in tables["summary"]:
        name = f"usr_a/wallet/{row['asset']}"
        own = [line for line in mine if name in (line.debit, line.credit)]
        own = [line for line in own if OCTOBER.since <= line.effective_at < OCTOBER.until]
        own.sort(key=lambda line: (line.effective_at, line.seq, line.line))
        shown = [line for line in tables["lines"] if line["asset"] == row["asset"] and line["row"] == "line"]
        assert [line["number"] for line in shown] == [f"{line.seq}.{line.line}" for line in own]
        assert row["lines"] == str(len(own))
    assert len(tables["summary"]) == 2


async def test_what_is_booked_late_changes_no_byte_of_a_closed_period(stage):
    await stage.write(random.Random(8), 90, days=45)
    with pytest.raises(PeriodOpen):
        await stage.make(ReportKind.INCOME, closed_only=True)
    open_told = json.loads(await stage.make(ReportKind.INCOME))
    assert open_told["provisional"] is True
    await stage.close(OCTOBER.until)
    forms = [(kind, form, lang) for kind in ReportKind for form in Form for lang in Language]
    first = {key: await stage.make(key[0], form=key[1], lang=key[2], closed_only=True) for key in forms}
    await stage.write(random.Random(9), 40, days=5)
    assert {key: await stage.make(key[0], form=key[1], lang=key[2]) for key in forms} == first
    again = json.loads(await stage.make(ReportKind.INCOME, known=open_told["known_seq"]))
    assert again["provisional"] is True  # it knew nothing of the closing
    assert again["tables"] == open_told["tables"]


async def test_another_process_zone_locale_and_hash_seed_make_the_same_bytes(stage, tmp_path):
    await stage.write(random.Random(10), 60, days=45)
    await stage.close(OCTOBER.until)
    url = stage.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    for seed, zone in ((1, "Asia/Shanghai"), (2, "America/New_York")):
        told = {"PYTHONHASHSEED": str(seed), "TZ": zone, "LC_ALL": "C", "SOURCE_DATE_EPOCH": str(seed)}
        environment = {**os.environ, **told, "REPORTS_URL": url}
        script = Path(__file__).with_name("elsewhere.py")
        done = subprocess.run(
            [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for form in Form:
            here = await stage.make(ReportKind.BALANCE_SHEET, form=form, lang=Language.ZH)
            assert json.loads(done.stdout)[form] == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize("lang", Language)
async def test_csv_and_xlsx_say_cell_by_cell_what_json_says(stage, lang):
    await stage.write(random.Random(11), 90, days=45)
    for kind in ReportKind:
        told = json.loads(await stage.make(kind))
        records = list(csv.reader(io.StringIO((await stage.make(kind, form=Form.CSV, lang=lang)).decode(), newline="")))
        assert len({len(record) for record in records}) == 1
        sheets = read_xlsx(await stage.make(kind, form=Form.XLSX, lang=lang))
        for number, (name, rows) in enumerate(told["tables"].items(), 1):
            section = [record[1:] for record in records if record[0] == name][1:]
            assert len(section) == len(rows) == len(sheets[number]) - 1
            texts = [at for at, heading in sheets[number][0].items() if not heading.endswith(("(number)", "（数值）"))]
            for row, record, cells in zip(rows, section, sheets[number][1:], strict=True):
                said = [in_words(cell or "", lang) for cell in row.values()]
                assert [field.removeprefix("'") for field in record[: len(said)]] == said
                assert [cells.get(at, "") for at in texts] == said
                for at, text in zip(texts, said, strict=True):
                    beside = cells.get(at + 1, "") if at + 1 not in texts else ""
                    assert not beside or Decimal(beside) == Decimal(text)
        digest = hashlib.sha256()
        head = [told[key] for key in ("kind", "book", "user", "from", "to", "at", "known_at")]
        head += [str(told["known_seq"]), "provisional", told["reference"]]
        for line in (head, *([name, *row.values()] for name, rows in told["tables"].items() for row in rows)):
            digest.update(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        assert told["digest"] == digest.hexdigest()


def test_periods_begin_and_end_at_local_midnight():
    assert [month.name for month in months_of(parse_period("2026-Q4"))] == ["2026-10", "2026-11", "2026-12"]
    assert (OCTOBER.since, OCTOBER.until) == (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    assert parse_period("2028-02-29").until == datetime(2028, 3, 1, tzinfo=UTC)
    shanghai = parse_period("2026-10", ZoneInfo("Asia/Shanghai"))
    assert (shanghai.since, shanghai.zone) == (datetime(2026, 9, 30, 16, tzinfo=UTC), "Asia/Shanghai")
    saved = parse_period("2026-03-29", ZoneInfo("Europe/Berlin"))
    assert saved.until - saved.since == timedelta(hours=23)
    for wrong in ("2026-13", "2026-02-30", "26", "2026-Q5", "x", "2026-1"):
        with pytest.raises(ReportPeriodUnfit):
            parse_period(wrong)


async def test_reports_that_cannot_be_meant_are_refused(stage):
    with pytest.raises(ReportPeriodUnfit):
        await stage.make(ReportKind.INCOME, "2031")
    with pytest.raises(ReportUnfit):
        await stage.make(ReportKind.INCOME, "2026", known=stage.clock.now() + timedelta(days=1))
    with pytest.raises(ReportUnfit):
        await stage.make(ReportKind.INCOME, "2026", known=10**9)


def test_a_number_stands_beside_an_amount_only_where_a_double_holds_it():
    for text, fits in (("12.50", True), ("-0.01", True), ("123456789012345", True), ("1234567890123456", False)):
        assert (number_of(text) is not None) is fits
        assert not fits or Decimal(repr(float(text))) == Decimal(text)
    assert number_of("0.123456789012345678") is None


@pytest.mark.timeout(300)
async def test_a_long_statement_takes_no_more_memory_than_a_short_one(stage, tmp_path):
    """Twelve times the rows: kept in memory they would take 37 MiB and more."""
    account, bank = "usr_a/wallet/USD", "house/bank:main/USD"
    taken: dict[Form, list[float]] = {Form.CSV: [], Form.XLSX: [], Form.JSON: []}
    for number, commands in enumerate((40, 500)):
        posts = [
            Post(id=f"long{number}-{one}", postings=(Posting(bank, account, "USD", 1),) * 100)
            for one in range(commands)
        ]
        for start in range(0, commands, 50):
            await stage.ledger.submit(*map(alone, posts[start : start + 50]))
        asked = Asked(kind=ReportKind.STATEMENT, period="2026-09", user="usr_a")
        for form, found in taken.items():
            gc.collect()
            forget_highest()
            before = highest_mib()
            async with stage.reports.report(asked) as report:
                with (tmp_path / f"{number}.{form}").open("wb") as file:
                    render(report, form, Language.EN, file)
            found.append(highest_mib() - before)
    rows = (tmp_path / "1.csv").read_bytes().count(b"\r\n")
    assert rows > 50_000
    for form, (short, long) in taken.items():
        assert long - short < 16, (form, taken)
