"""The area `fiat`: a bank statement of 100,000 lines read, checked, matched and booked, as `onebook bank import` does.

One camt.053 file, 10,000 users who each have a payment reference. Nine lines of ten name a user; the rest goes to
suspense. The yardstick is the book itself: as many plain entries, without lines, top-ups or seals, in equal batches.
"""

import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random

import psutil
from sqlalchemy import insert

from base.clock import SystemClock
from base.entropy import SeededEntropy
from base.errors import BrokenInvariant
from base.progress import Progress
from bench.frame import Better, Figure, Options, Report, number
from bench.machine import describe_machine
from bench.stage import FOLDER, Place, opened, server
from db.engine import tx
from db.migrate import migrate
from db.server import Running, at_database, create_database
from fiat.bank.booking import LINES_PER_SUBMIT
from fiat.bank.entries import bank_account, suspense_account
from fiat.bank.records import BankAccount, StatementReceipt
from fiat.bank.service import BankRail
from fiat.personal import KEY_NAME, load_vault, make_key_file
from fiat.references import new_reference, show
from fiat.tables import references
from ledger.accounts import user_account
from ledger.commands import Group, Post, Posting
from ledger.money import Asset, AssetKind
from ledger.requests import worker_id

LINES, QUICK_LINES = 100_000, 2_000
USERS, QUICK_USERS = 10_000, 200

SECONDS_MAX = 60.0
"""What the file may take, where nothing else runs."""

NAMED_OF_TEN = 9
"""Lines of ten that name a user."""

ROWS = ("statement_100k_s", "statement_lines_per_s", "statement_cpu_s", "statement_peak_mib", "book_entries_per_s")

IBAN = "DE89370400440532013000"
EUR = Asset("EUR", AssetKind.FIAT, 2)
_ACCOUNT = BankAccount(name="main", iban=IBAN, asset="EUR")
_LOOK_SECONDS = 0.02


@dataclass(slots=True)
class Used:
    """What a piece of work took: wall clock, processor seconds of this process and of PostgreSQL, and memory."""

    seconds: float = 0
    cpu_seconds: float = 0
    cpu_server_seconds: float = 0
    grown_mib: float = 0


async def measure(options: Options, progress: Progress) -> Report:
    """Measure the area."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines, users = (QUICK_LINES, QUICK_USERS) if options.quick else (LINES, USERS)
    report = Report(
        area="fiat",
        machine=describe_machine(),
        settings={"lines": lines, "users": users, "lines in a batch": LINES_PER_SUBMIT, "seed": options.seed},
        at=datetime.now(UTC),
    )
    if not options.wants_any(*ROWS):
        return report
    with server("fiat") as running, tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        await create_database(running.admin_url, "fiat")
        await migrate(at_database(running.owner_url, "fiat"))
        async with opened(running, "fiat") as place:
            named = await _found(place, users, options.seed, progress)
            path = Path(folder) / "statement.xml"
            write_statement(path, named, lines, seed=options.seed)
            report.settings["file MiB"] = round(path.stat().st_size / 2**20, 1)
            plain = await _book_plainly(running, place, list(named), lines, progress)
            used, receipt = await _take(running, place, path, Path(folder), progress)
            _require_booked(receipt, lines)
    told = {
        "statement_100k_s": Figure("statement_100k_s", used.seconds, "s", SECONDS_MAX, Better.LOWER),
        "statement_lines_per_s": Figure("statement_lines_per_s", lines / used.seconds, "1/s"),
        "statement_cpu_s": Figure("statement_cpu_s", used.cpu_seconds, "s"),
        "statement_server_cpu_s": Figure("statement_server_cpu_s", used.cpu_server_seconds, "s"),
        "statement_peak_mib": Figure("statement_peak_mib", used.grown_mib, "MiB"),
        "book_entries_per_s": Figure("book_entries_per_s", lines / plain.seconds, "1/s"),
        "book_cpu_s": Figure("book_cpu_s", plain.cpu_seconds, "s"),
    }
    report.figures.extend(figure for name, figure in told.items() if options.wants(name))
    for figure in report.figures:
        progress.note(f"{figure.name}: {number(figure.value)} {figure.unit}")
    return report


async def _found(place: Place, users: int, seed: int, progress: Progress) -> dict[str, str]:
    """A book with so many users, each with a reference; reference by user."""
    ledger = place.ledger
    await ledger.create_book()
    await ledger.register_asset(EUR)
    entropy, names = SeededEntropy(seed), [f"usr_{number:026}" for number in range(users)]
    named = {name: new_reference(entropy) for name in names}
    with progress.bar("users", users) as advance:
        for start in range(0, users, 1000):
            part = names[start : start + 1000]
            await ledger.ensure_open(*(user_account(name, "EUR") for name in part))
            rows = [
                {"book": ledger.book, "reference": named[name], "owner": name, "issued_at": SystemClock().now()}
                for name in part
            ]
            async with tx(place.engine) as connection:
                await connection.execute(insert(references), rows)
            advance(len(part))
    await ledger.ensure_open(bank_account("main", "EUR"), suspense_account("EUR"))
    return named


async def _book_plainly(running: Running, place: Place, users: list[str], lines: int, progress: Progress) -> Used:
    """As many entries as the file has lines, booked without anything that a bank's line brings."""
    suspense, bank = suspense_account("EUR"), bank_account("main", "EUR")

    def group(number: int) -> Group:
        user = user_account(users[number % len(users)], "EUR") if number % 10 < NAMED_OF_TEN else suspense
        return Group((Post(id=worker_id(f"plain:{number}", 1), postings=(Posting(bank, user, "EUR", 1),)),))

    with _using(running) as used, progress.bar("yardstick: plain entries", lines) as advance:
        for start in range(0, lines, LINES_PER_SUBMIT):
            groups = [group(number) for number in range(start, min(lines, start + LINES_PER_SUBMIT))]
            await place.ledger.submit(*groups)
            advance(len(groups))
    return used


async def _take(
    running: Running, place: Place, path: Path, folder: Path, progress: Progress
) -> tuple[Used, StatementReceipt]:
    make_key_file(folder / KEY_NAME)
    rail = BankRail(
        place.engine,
        place.ledger,
        clock=SystemClock(),
        entropy=SeededEntropy(secrets.randbits(32)),
        accounts=[_ACCOUNT],
        vault=load_vault(folder / KEY_NAME),
    )
    with _using(running) as used:
        receipt = await rail.import_path(path, progress=progress)
    return used, receipt


def _require_booked(receipt: StatementReceipt, lines: int) -> None:
    """Raises BrokenInvariant unless every line was booked as its kind says."""
    credited = sum(n % 10 < NAMED_OF_TEN for n in range(lines))
    if (receipt.credited, receipt.suspended) != (credited, lines - credited):
        raise BrokenInvariant("the statement wasn't booked as it was written", credited=receipt.credited)


@contextmanager
def _using(running: Running) -> Iterator[Used]:
    """What is used while the block runs. Memory: how far this process's resident set rose above where it began."""
    used, own = Used(), psutil.Process()
    base = most = own.memory_info().rss
    stop = threading.Event()

    def look() -> None:
        nonlocal most
        while not stop.wait(_LOOK_SECONDS):
            most = max(most, own.memory_info().rss)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    cpu, cpu_server, started = _cpu(own), _server_cpu(running), time.monotonic()
    try:
        yield used
    finally:
        used.seconds = time.monotonic() - started
        used.cpu_seconds = _cpu(own) - cpu
        used.cpu_server_seconds = _server_cpu(running) - cpu_server
        stop.set()
        looking.join()
        used.grown_mib = (most - base) / 2**20


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _server_cpu(running: Running) -> float:
    """Processor seconds of PostgreSQL's processes that are there, ended ones included."""
    leader = psutil.Process(running.pid)
    times = leader.cpu_times()
    return float(times.children_user + times.children_system) + sum(_cpu(one) for one in [leader, *leader.children()])


# The file


def write_statement(path: Path, named: dict[str, str], lines: int, *, seed: int) -> None:
    """A camt.053.001.08 file of so many entries, as a bank writes them; `named` is reference by user."""
    draw, day = Random(seed), date(2026, 1, 5)  # noqa: S311 - a bench's file, not secrets
    owners = list(named)
    amounts = [draw.randrange(1, 500_00) for _ in range(lines)]
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">'
        f"<BkToCstmrStmt><GrpHdr><MsgId>BENCH</MsgId><CreDtTm>{day}T23:00:00Z</CreDtTm></GrpHdr>\n"
        f"<Stmt><Id>BENCH-1</Id><ElctrncSeqNb>1</ElctrncSeqNb><CreDtTm>{day}T23:00:00Z</CreDtTm>"
        f"<Acct><Id><IBAN>{IBAN}</IBAN></Id><Ccy>EUR</Ccy></Acct>{_balance('OPBD', 0, day)}"
        f"{_balance('CLBD', sum(amounts), day)}<TxsSummry><TtlNtries><NbOfNtries>{lines}</NbOfNtries>"
        f"<Sum>{_euros(sum(amounts))}</Sum></TtlNtries></TxsSummry>\n"
    )
    with path.open("w", encoding="utf-8") as stream:
        stream.write(head)
        for number, amount in enumerate(amounts):
            owner = owners[draw.randrange(len(owners))]
            note = f"Top-up {show(named[owner])} thanks" if number % 10 < NAMED_OF_TEN else f"invoice {number}"
            stream.write(_entry(number, amount, note, day))
        stream.write("</Stmt></BkToCstmrStmt></Document>\n")


def _balance(code: str, cents: int, day: date) -> str:
    return (
        f'<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">{_euros(cents)}</Amt>'
        f"<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>"
    )


def _entry(number: int, cents: int, note: str, day: date) -> str:
    return (
        f'<Ntry><Amt Ccy="EUR">{_euros(cents)}</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>'
        f"<BookgDt><Dt>{day}</Dt></BookgDt><ValDt><Dt>{day}</Dt></ValDt><AcctSvcrRef>B{number:012}</AcctSvcrRef>"
        "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>"
        f'<NtryDtls><TxDtls><Refs><EndToEndId>E2E{number}</EndToEndId></Refs><Amt Ccy="EUR">{_euros(cents)}</Amt>'
        f"<CdtDbtInd>CRDT</CdtDbtInd><RltdPties><Dbtr><Pty><Nm>Payer {number}</Nm></Pty></Dbtr><DbtrAcct><Id>"
        "<IBAN>FR1420041010050500013M02606</IBAN></Id></DbtrAcct></RltdPties>"
        f"<RmtInf><Ustrd>{note}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>\n"
    )


def _euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"
