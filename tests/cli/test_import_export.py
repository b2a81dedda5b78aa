"""`onebook import entries` and `onebook export` as processes: what they say, how they exit, what a kill leaves.

They're forked off one that has imported everything (tests/support/forked.py), but for one that begins afresh.
"""

import asyncio
import gzip
import json
import os
import pty
import select
import signal
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from db.engine import create_engine, tx
from ledger.audit import audit
from ledger.import_run import CHUNK, IN_FLIGHT_MAX
from tests.ledger.test_import_rows import HEADER, A, B, row, rows
from tests.ledger.test_import_run import CAPITAL, SUSPENSE, is_clean, many
from tests.ledger.test_postgres import new_ledger
from tests.support import forked
from tests.support.command import ENTRY, PROGRAM, onebook_afresh, surroundings
from tests.support.disk import fill, small_disk
from tests.support.forked import PIPE, Forked
from tests.support.postgres import Database, fresh_database
from tests.support.waiting import until

pytestmark = pytest.mark.slow

CONFIG = "".join(f'[[assets]]\ncode = "{code}"\nkind = "{kind}"\nscale = {scale}\n' for code, kind, scale in (
    ("USD", "fiat", 2), ("ETH", "crypto", 18)
))  # fmt: skip
BANK = "house/bank:main/USD"

FILLED = 6_000
"""Entries of a filled book: an export of them is more than a pipe holds."""

PATIENCE_SECONDS = 100
"""How long a process may take on a busy machine."""


class House:
    """A folder with a configuration, and a book."""

    database: Database | None = None
    """The book's, where a test looks into it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        (folder / "onebook.toml").write_text(CONFIG)

    @property
    def environment(self):
        return surroundings(ONEBOOK_DATABASE_URL=self.url, COLUMNS="200")

    def run(self, *arguments, **more):
        more = {"timeout": PATIENCE_SECONDS} | more
        return forked.run(ENTRY, [PROGRAM, *arguments], cwd=self.folder, env=self.environment, **more)

    def run_afresh(self, *arguments):
        return onebook_afresh(*arguments, cwd=self.folder, environment=self.environment, seconds=PATIENCE_SECONDS)

    def started(self, *arguments, **more):
        more = {"stdout": PIPE, "stderr": PIPE, "text": True} | more
        return Forked(ENTRY, [PROGRAM, *arguments], cwd=self.folder, env=self.environment, **more)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def ask(self, query):
        return asyncio.run(self._ask(query))

    def entries(self):
        """How many commands posted something, and how many postings."""
        return tuple(self.ask("SELECT count(DISTINCT seq), count(*) FROM ledger_lines WHERE kind = 'posted'"))

    def has(self, least):
        return self.entries()[0] >= least

    def drafts(self):
        return [path.name for path in self.folder.iterdir() if path.name.endswith(".draft")]

    async def _ask(self, query):
        engine = create_engine(self.url, pool_size=1)
        try:
            async with tx(engine) as connection:
                return tuple((await connection.execute(text(query))).one())
        finally:
            await engine.dispose()


@pytest.fixture
async def house(database, tmp_path):
    ledger = await new_ledger(database.engine())
    await ledger.aclose()
    folder = tmp_path / "house"
    folder.mkdir()
    return House(folder, database.app_url)


@pytest.fixture(scope="module")
def filled_book(postgres, tmp_path_factory):
    """A database whose book has entries enough that an export takes a while; their file; both to be copied."""
    folder = tmp_path_factory.mktemp("filled")

    async def fill_book():
        async with fresh_database(postgres) as database:
            await (await new_ledger(database.engine())).aclose()
            house = House(folder, database.app_url)
            house.write("many.csv", rows(*many(FILLED)))
            done = await asyncio.to_thread(house.run, "import", "entries", "many.csv", "--open")
            assert done.returncode == 0, done.stdout + done.stderr
            analysing = database.engine(owner=True).execution_options(isolation_level="AUTOCOMMIT")
            async with analysing.connect() as connection:
                await connection.execute(text("ANALYZE"))  # as autovacuum does it, only later
            for engine in database._engines:
                await engine.dispose()
            yield database.name

    with asyncio.Runner() as runner:
        making = fill_book()
        yield runner.run(anext(making)), folder / "many.csv"
        runner.run(making.aclose())


@pytest.fixture
async def filled(postgres, filled_book, tmp_path):
    """A house of its own with a copy of that book."""
    template, file = filled_book
    async with fresh_database(postgres, template) as database:
        house = House(tmp_path, database.app_url)
        house.write("many.csv", file.read_bytes())
        house.database = database
        yield house


# What it says


def test_a_file_is_checked_then_booked_and_known_the_second_time(house):
    house.write("in.csv", rows(row("one", "5.00", CAPITAL, A), row("two", "2.50", A, B)))
    checked = house.run("import", "entries", "in.csv", "--open", "--check")
    assert (checked.returncode, house.entries()) == (0, (0, 0))
    assert "in.csv: 2 rows, 2 entries, and nothing is wrong with them; nothing was written" in checked.stdout
    for booked, known in ((2, 0), (0, 2)):
        done = house.run("import", "entries", "in.csv", "--open")
        assert done.returncode == 0
        assert f"{booked} entries booked, {known} known already, 0 refused" in done.stdout
        assert house.entries() == (2, 2)


def test_a_wrong_file_is_told_row_by_row_and_nothing_is_written(house):
    lines = row("one", "5.00", CAPITAL, A), row("two", "5.001", CAPITAL, A), row("three", "1.00", BANK, A)
    house.write("in.csv", rows(*lines))
    done = house.run("import", "entries", "in.csv", "--open")
    assert (done.returncode, house.entries()) == (2, (0, 0))
    assert "line 3, amount: 5.001 has 3 decimals; USD has 2, and amounts are never rounded" in done.stdout
    assert "line 4, debit: house/bank:main/USD isn't moved by hand; these are: capital, fees" in done.stdout
    assert "2 of 3 rows are wrong; nothing was written" in done.stdout
    told = json.loads(house.run("import", "entries", "in.csv", "--open", "--json").stdout)
    assert told["faults"] == 2
    assert [(fault["line"], fault["code"]) for fault in told["first_faults"]] == [
        (3, "too_many_decimals"),
        (4, "not_by_hand"),
    ]


def test_without_open_a_missing_account_is_a_fault(house):
    house.write("in.csv", rows(row("one", "5.00", CAPITAL, A)))
    done = house.run("import", "entries", "in.csv")
    assert (done.returncode, house.entries()) == (2, (0, 0))
    assert f"{A} isn't open; open it, or add --open" in done.stdout


def test_migrate_takes_what_is_another_books(house):
    header = f"{HEADER},evidence"
    evidence = '"{""account"": ""main"", ""statement"": ""S1"", ""line"": 3}"'
    house.write("in.csv", rows(f"{row('one', '5.00', BANK, A)},{evidence}", header=header))
    assert house.run("import", "entries", "in.csv", "--open").returncode == 2
    done = house.run("import", "entries", "in.csv", "--open", "--migrate")
    assert done.returncode == 0, done.stdout
    exported = house.run("export", "entries", "--format", "jsonl")
    assert json.loads(exported.stdout)["evidence"] == {
        "kind": "bank",
        "account": "main",
        "statement": "S1",
        "line": 3,
    } or (json.loads(exported.stdout)["evidence"] == {"account": "main", "statement": "S1", "line": 3})


def test_refused_entries_are_kept_and_can_be_tried_again(house):
    for form, content in (
        ("csv", rows(row("c-one", "5.00", SUSPENSE, A), row("c-two", "1.00", CAPITAL, B))),
        ("jsonl", json.dumps({"id": "j", "debit": SUSPENSE, "credit": A, "asset": "USD", "amount": "7.00"}) + "\n"),
    ):
        house.write(f"in.{form}", content)
        done = house.run("import", "entries", f"in.{form}", "--open", "--rejects", f"out.{form}")
        assert done.returncode == 1
        assert f"insufficient_funds (account {SUSPENSE}, required" in done.stdout
        assert "available 0.00" in done.stdout
        kept = (house.folder / f"out.{form}").read_text()
        assert "insufficient_funds" in kept
        assert "c-two" not in kept
        fund = row(f"fund-{form}", "100.00", CAPITAL, SUSPENSE)
        house.write("fund.csv", rows(fund))
        assert house.run("import", "entries", "fund.csv", "--open").returncode == 0
        again = house.run("import", "entries", f"out.{form}")
        assert "1 entries booked, 0 known already, 0 refused" in again.stdout
        undo = row(f"undo-{form}", "95.00" if form == "csv" else "93.00", SUSPENSE, CAPITAL)
        house.write("undo.csv", rows(undo))
        assert house.run("import", "entries", "undo.csv").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["import", "entries", "none.csv"], "none.csv can't be read: No such file"),
        (["import", "entries", "in.txt"], "add --format csv or --format jsonl"),
        (["import", "entries", "in.csv", "--check", "--no-check"], "exclude each other"),
        (
            ["import", "entries", "empty.csv"],
            "the file is empty; its first line names the columns; nothing was written",
        ),
        (["import", "entries", "."], "its name doesn't say"),
        (["import", "entries", "short.csv.gz"], "the archive is broken"),
        (["import", "entries", "in.csv", "--open", "--rejects", "no/where.csv"], "no/where.csv can't be written"),
        (["export", "entries", "--at", "2026-01-01"], "only balances are told at an instant"),
        (["export", "entries", "--since", "yesterday"], "write 2026-11-23"),
        (["export", "balances", "--since", "2026-01-01"], "balances have no span of time"),
        (["export", "balances", "--owner", "usr_x"], "there is no such account"),
        (["export", "balances", "--asset", "XYZ"], "is no asset"),
        (["export", "balances", "--out", "no/where.csv"], "no/where.csv can't be written: No such file"),
        (["export", "balances", "--out", "/dev/full"], "/dev/full can't be written: No space left"),
    ],
)
def test_wrong_usage_is_said_in_one_line(house, arguments, said):
    house.write("in.csv", rows(row("one", "5.00", CAPITAL, A)))
    house.write("empty.csv", "")
    house.write("short.csv.gz", gzip.compress(rows(*many(1_000)).encode())[:-20])
    done = house.run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    last = [line for line in done.stderr.splitlines() if line.startswith("onebook: ")]
    assert 1 <= len(last) <= 2
    assert "Traceback" not in done.stderr
    assert house.entries() == (0, 0)


def test_standard_input_is_read_once_and_stops_at_a_wrong_row(house):
    content = rows(row("one", "5.00", CAPITAL, A), row("two", "x", CAPITAL, A), row("three", "1.00", CAPITAL, A))
    refused = house.run("import", "entries", "-", "--format", "csv", "--open", input=content)
    assert (refused.returncode, house.entries()) == (2, (0, 0))
    assert "add --no-check" in refused.stderr
    done = house.run("import", "entries", "-", "--format", "csv", "--open", "--no-check", input=content)
    assert (done.returncode, house.entries()) == (1, (1, 1))
    assert "stopped at line 3, amount: 'x' is not an amount" in done.stdout
    assert "1 entries are booked, through line 2 at least" in done.stdout


def test_without_a_terminal_progress_is_lines(filled):
    done = filled.run("import", "entries", "many.csv")
    lines = [line for line in done.stderr.splitlines() if "many.csv" in line]
    assert any(line.startswith("checking many.csv, KiB: ") for line in lines)
    assert lines[-1].startswith("importing many.csv, rows: 6,000 of 6,000, ")
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


def test_on_a_terminal_progress_is_a_bar(filled):
    ours, theirs = pty.openpty()
    with filled.started("export", "entries", "--out", "out.csv", stderr=theirs, text=False) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], PATIENCE_SECONDS)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the terminal is gone with its process
                break
            shown += part
        assert process.wait(timeout=20) == 0
    os.close(ours)
    assert b"exporting entries" in shown
    assert "━".encode() in shown


# There and back


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl.gz"])
async def test_an_export_is_taken_in_by_another_book(filled, name):
    engine = filled.database.engine()
    await (await new_ledger(engine, book="other")).aclose()
    assert (await asyncio.to_thread(filled.run, "export", "entries", "--out", name)).returncode == 0
    own = await asyncio.to_thread(filled.run, "import", "entries", name, "--check")
    assert own.returncode == 2
    assert "this book made itself" in own.stdout
    (filled.folder / "onebook.toml").write_text('book = "other"\n' + CONFIG)
    done = await asyncio.to_thread(filled.run, "import", "entries", name, "--open")
    assert done.returncode == 0, done.stdout
    there = await asyncio.to_thread(filled.run, "export", "balances")
    (filled.folder / "onebook.toml").write_text(CONFIG)
    here = await asyncio.to_thread(filled.run, "export", "balances")
    assert sorted(there.stdout.splitlines()) == sorted(here.stdout.splitlines())
    assert there.stdout.count("\n") == 52
    for book in ("main", "other"):
        assert await is_clean(engine, book)


def test_the_same_book_gives_the_same_bytes(filled):
    for name, run in (("a.csv.gz", filled.run), ("b.csv.gz", filled.run_afresh)):  # two seeds of Python's hashes
        assert run("export", "history", "--out", name).returncode == 0
    one, other = ((filled.folder / name).read_bytes() for name in ("a.csv.gz", "b.csv.gz"))
    assert one == other
    assert (filled.folder / "a.csv.gz").stat().st_mode & 0o077 == 0
    assert gzip.decompress(one).decode() == filled.run("export", "history").stdout


# Kills


async def test_an_import_killed_again_and_again_books_each_entry_once(house, database):
    house.write("many.csv", rows(*many(6_000), *[row("wide", "0.01", CAPITAL, A)] * 50))

    def kill():
        for least in (1, 1_500, 3_000):
            with house.started("import", "entries", "many.csv", "--open", "--rejects", "no.csv") as process:
                until("some are booked", partial(house.has, least), seconds=PATIENCE_SECONDS)
                process.send_signal(signal.SIGKILL)
        done = house.run("import", "entries", "many.csv", "--open", "--rejects", "no.csv")
        assert done.returncode == 0, done.stdout
        return done.stdout

    told = await asyncio.to_thread(kill)
    booked, known = (int(told.split(word)[0].split()[-1].replace(",", "")) for word in (" entries booked", " known"))
    assert booked + known == 6_001
    assert known >= 3_000
    ids = "SELECT count(*), count(DISTINCT id) FROM ledger_commands WHERE kind = 'post'"
    assert await asyncio.to_thread(house.ask, ids) == (6_001, 6_001)
    assert await asyncio.to_thread(house.entries) == (6_001, 6_050)
    report = await audit(database.engine(), "main", processes=1)
    assert report.clean, report.disagreements


def test_an_interrupted_import_says_how_far_it_came(house):
    house.write("many.csv", rows(*many(20_000)))
    answered = IN_FLIGHT_MAX + CHUNK  # so many aren't booked before the first chunk's answer has come
    with house.started("import", "entries", "many.csv", "--open", "--rejects", "no.csv") as process:
        until("some are booked", lambda: house.entries()[0] > answered, seconds=PATIENCE_SECONDS)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "onebook: interrupted; " in said
    assert "run the same command again to go on: no entry is booked twice" in said
    assert "Traceback" not in said
    through = int(said.split("through line ")[1].split()[0].replace(",", ""))
    assert answered < house.entries()[0] < 20_000
    assert house.entries()[0] >= through - 1
    assert not house.drafts()
    assert not (house.folder / "no.csv").exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_export_that_is_ended_leaves_the_file_as_it_was(filled, end):
    for _ in range(20):  # one that has ended before it could be ended is begun again
        out = filled.write("out.csv", "before")
        with filled.started("export", "history", "--out", "out.csv") as process:
            until("it writes", lambda: filled.drafts() or process.poll() == 0, seconds=PATIENCE_SECONDS)
            process.send_signal(end)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        if process.returncode != 0:
            break
    assert process.returncode == (130 if end is signal.SIGINT else -signal.SIGKILL), said
    assert out.read_text() == "before"
    if end is signal.SIGINT:
        assert "onebook: interrupted; nothing is in out.csv that wasn't there before" in said
        assert not filled.drafts()


def test_an_export_into_a_pipe_that_closes_ends_quietly(filled):
    with filled.started("export", "history") as process:
        assert process.stdout.readline().startswith("seq,line,booked_at")
        process.stdout.close()
        assert process.wait(timeout=PATIENCE_SECONDS) == 141
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "can't" not in said


def test_an_export_onto_a_full_disk_says_so_and_leaves_nothing(filled, postgres):
    with small_disk(postgres, mebibytes=1) as disk:
        fill(disk)
        done = filled.run("export", "history", "--out", disk / "out.csv")
        assert done.returncode == 2
        assert f"{disk / 'out.csv'} can't be written: No space left on device" in done.stderr
        assert not [path.name for path in disk.iterdir() if "out.csv" in path.name]
    full = os.open("/dev/full", os.O_WRONLY)
    with filled.started("export", "history", stdout=full) as process:
        os.close(full)
        assert process.wait(timeout=PATIENCE_SECONDS) == 2
        assert "standard output can't be written: No space left" in process.stderr.read()
