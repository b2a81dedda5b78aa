"""The audit recomputes the book from its journal, outside the database, and names the rows that disagree."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text

from base.clock import ManualClock
from db.engine import create_engine, tx
from ledger.audit import audit
from ledger.commands import (
    BankEvidence,
    Charge,
    CloseAccount,
    ClosePeriod,
    Freeze,
    FreezeScope,
    Hold,
    OpenAccount,
    Post,
    Posting,
    Record,
    Reverse,
    SetCreditLine,
    Settle,
    Unfreeze,
    Void,
    alone,
)
from ledger.expiry import HoldExpiry
from ledger.sealing import SealBook
from ledger.seals import load_seal_key, make_seal_key, read_seal, seal_path
from ledger.service import PostgresLedger
from tests.ledger.histories import ACCOUNTS, ASSETS, OPENING, START
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.slow

A, B, _eth, FX, BANK, RECEIVABLE, _hot = ACCOUNTS
SECOND = timedelta(seconds=1)


def usd(debit, credit, amount):
    return Posting(debit=debit, credit=credit, asset="USD", amount=amount)


def post(name, *postings, **more):
    return Post(id=name, postings=postings, **more)


@pytest.fixture
def clock():
    return ManualClock(START)


@pytest.fixture
async def ledger(database, clock):
    ledger = PostgresLedger(database.engine(), clock=clock)
    await write_history(ledger, clock)
    return ledger


async def write_history(ledger, clock, *, rent=10):
    """A book with every kind of command, accepted and refused."""
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    await ledger.submit(OPENING)
    clock.advance(60 * SECOND)
    spare = "usr_spare/wallet/USD"
    commands = [
        post("funding", usd(BANK, A, 1000), usd(BANK, FX, 50), evidence=BankEvidence("main", "S1", 1)),
        post("rent", usd(A, B, rent), metadata={"memo": "rent"}, subject="trf_1"),
        post("dated", usd(A, B, 3), effective_at=START + SECOND),
        post("limited", usd(A, B, 2), charges=(Charge("usr_a/day", 2, 100),)),
        post("refused", usd(B, A, 10**6)),
        post("split", Posting(B, A, "USD", 100, debit_rest=RECEIVABLE)),
        Hold(id="held", postings=(usd(A, B, 20), usd(A, B, 5)), charges=(Charge("usr_a/day", 20, 100),)),
        Settle(id="part", hold="held", amounts=((0, 5),)),
        Hold(id="ended", postings=(usd(A, B, 7),)),
        Void(id="void", hold="ended"),
        Hold(id="short", postings=(usd(A, B, 8),), expires_at=START + 90 * SECOND),
        Reverse(id="back", entry="rent", amounts=((0, 4),)),
        SetCreditLine(id="line", account=B, cap=30),
        Freeze(id="stop", scope=FreezeScope.OWNER, target="usr_b"),
        post("stopped", usd(A, B, 1)),
        Unfreeze(id="go", scope=FreezeScope.OWNER, target="usr_b"),
        Freeze(id="eth", scope=FreezeScope.ASSET, target="ETH"),
        Freeze(id="one", scope=FreezeScope.ACCOUNT, target=FX),
        OpenAccount(id="spare", account=spare),
        CloseAccount(id="closed", account=spare),
        ClosePeriod(id="period", until=START + 2 * SECOND),
        post("late", usd(A, B, 1), effective_at=START + SECOND),
        Record(id="fact", facts={"root": "ab" * 32}, subject="epoch/1"),
        Record(id="by hand", facts={}, charges=(Charge("manual", 3, 5),)),
    ]
    await ledger.submit(*map(alone, commands))
    clock.advance(60 * SECOND)
    assert await HoldExpiry(ledger).step() == 1


@pytest.fixture
def sealer(database, clock, tmp_path):
    key = make_seal_key(tmp_path / "seal.key")
    return SealBook(
        database.engine(), book="main", key=key, folder=tmp_path / "seals", clock=clock, interval=timedelta(0)
    )


async def tamper(database, *statements):
    """Alter rows as somebody could who owns the server."""
    admin = create_engine(database.admin_url)
    async with tx(admin) as connection:
        await connection.execute(text("SET session_replication_role = replica"))
        for statement in statements:
            result = await connection.execute(text(statement))
            assert result.rowcount or statement.startswith("ALTER"), f"nothing was altered by {statement}"
    await admin.dispose()


async def seq_of(ledger, name):
    [outcome] = await ledger.outcomes(name)
    return outcome.seq


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_sound_book_is_clean_with_every_kind_of_command(ledger, sealer, processes):
    engine = ledger._engine
    report = await audit(engine, "main", processes=processes)
    assert report.disagreements == []
    assert (report.commands, report.through_seq, report.seals) == (await seq_of(ledger, "wrk:expire:short:1"),) * 2 + (
        0,
    )
    await sealer.step()
    await ledger.submit(
        alone(post("after", usd(A, B, 1))),
        alone(Settle(id="later", hold="held", amounts=((1, 5),))),
        alone(Reverse(id="back again", entry="rent", amounts=((0, 1),))),
    )
    for since in (False, True):
        report = await audit(engine, "main", since_last_seal=since, processes=processes)
        assert report.disagreements == []
    assert (report.commands, report.after_seq) == (3, report.through_seq - 3)


ALTERATIONS = [
    # what is altered behind the book's back, by one                                                what the audit names
    ("UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_accounts SET debits_pending = debits_pending + 1 WHERE name = '{A}'", "account {A}"),
    ("UPDATE ledger_accounts SET credits_pending = credits_pending + 1 WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_accounts SET frozen = true WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_accounts SET closed = true WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_accounts SET credit_line = credit_line + 1 WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_accounts SET limited = false WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_accounts SET name = 'usr_c/wallet/USD' WHERE name = '{B}'", "account {B}"),
    ("UPDATE ledger_lines SET amount = amount + 1 WHERE seq = {rent}", "command {rent}"),
    ("UPDATE ledger_lines SET credit_balance = credit_balance + 1 WHERE seq = {rent}", "command {rent}"),
    ("UPDATE ledger_lines SET debit = debit + 1 WHERE seq = {funding} AND line = 1", "command {funding}"),
    ("UPDATE ledger_lines SET line = 5 WHERE seq = {funding} AND line = 1", "line {funding}.5"),
    ("UPDATE ledger_lines SET amount = amount + 1 WHERE seq = {held} AND line = 1", "hold {held} posting 1"),
    ("UPDATE ledger_lines SET hold_posting = 7 WHERE seq = {held} AND line = 1", "hold {held} posting 1"),
    ("UPDATE ledger_lines SET kind = 'held' WHERE seq = {rent}", "command {rent}"),
    ("DELETE FROM ledger_lines WHERE seq = {rent}", "command {rent}"),
    ("DELETE FROM ledger_commands WHERE seq = {rent}", "command {rent}"),
    ("UPDATE ledger_commands SET booked_at = booked_at - interval '1 second' WHERE seq = {rent}", "command {rent}"),
    (
        "UPDATE ledger_commands SET effective_at = effective_at + interval '1 second' WHERE seq = {dated}",
        "command {dated}",
    ),
    ("UPDATE ledger_commands SET leaf = sha256(leaf) WHERE seq = {rent}", "command {rent}"),
    ("UPDATE ledger_commands SET subject = 'trf_2' WHERE seq = {rent}", "command {rent}"),
    ("UPDATE ledger_commands SET detail = replace(detail, 'abab', 'abac') WHERE seq = {fact}", "command {fact}"),
    ("UPDATE ledger_commands SET refusal = 'frozen' WHERE seq = {refused}", "command {refused}"),
    ("UPDATE ledger_commands SET content = sha256(content) WHERE seq = {rent}", "command {rent}"),
    ('UPDATE ledger_metadata SET metadata = \'{{"memo": "other"}}\'', "metadata of command {rent}"),
    ("UPDATE ledger_holds SET remaining = remaining - 1 WHERE hold = {held} AND posting = 1", "hold {held}"),
    ("UPDATE ledger_holds SET state = 'voided' WHERE hold = {held}", "hold {held}"),
    ("UPDATE ledger_holds SET amount = amount + 1 WHERE hold = {held} AND posting = 1", "hold {held} posting 1"),
    ("UPDATE ledger_holds SET posting = 5 WHERE hold = {held} AND posting = 0", "hold {held} posting 0"),
    ("UPDATE ledger_holds SET expires_at = now() WHERE hold = {held}", "hold {held}"),
    ("DELETE FROM ledger_holds WHERE hold = {held} AND posting = 1", "hold {held}"),
    ("UPDATE ledger_ids SET seq = seq + 1 WHERE seq = {rent}", "id of command {rent}"),
    (
        "UPDATE ledger_ids SET seq = {rent} + {dated} - seq WHERE seq IN ({rent}, {dated})",
        "id of command {rent}",
    ),
    (
        "ALTER TABLE ledger_ids DROP CONSTRAINT ck_ledger_ids_key_length;"
        " UPDATE ledger_ids SET key = key || key WHERE seq = {rent}",
        "id of command {rent}",
    ),
    ("DELETE FROM ledger_ids WHERE seq = {rent}", "id of command {rent}"),
    ("UPDATE ledger_reversals SET amount = amount + 1", "reversal"),
    ("DELETE FROM ledger_reversals", "reversal"),
    ("UPDATE ledger_freezes SET frozen = false WHERE target = 'ETH'", "freeze of asset ETH"),
    ("DELETE FROM ledger_freezes WHERE target = 'ETH'", "freeze of asset ETH"),
    ("UPDATE ledger_counters SET used = used + 1 WHERE counter = 'usr_a/day'", "counter usr_a/day"),
    ("UPDATE ledger_counters SET used = used + 1 WHERE counter = 'manual'", "counter manual"),
    ("UPDATE ledger_backdated SET step = step + 1 WHERE step > 0 AND seq = {dated}", "backdated line {dated}"),
    ("UPDATE ledger_evidence SET statement_line = statement_line + 1", "evidence of command {funding}"),
    ("UPDATE ledger_books SET seq = seq + 1", "book main"),
    ("UPDATE ledger_books SET closed_until = closed_until + interval '1 second'", "book main"),
    ("UPDATE ledger_books SET accounts = accounts + 1", "book main"),
    ("DELETE FROM ledger_lines WHERE seq = {rent}; DELETE FROM ledger_commands WHERE seq = {rent}", "command {rent}"),
]


@pytest.mark.parametrize(("statement", "where"), ALTERATIONS)
async def test_f66_the_audit_names_the_row_that_was_altered(ledger, database, statement, where):
    names = {"A": A, "B": B}
    for name in ("funding", "rent", "dated", "refused", "held", "fact"):
        names[name] = str(await seq_of(ledger, name))
    await tamper(database, *statement.format(**names).split("; "))
    report = await audit(ledger._engine, "main")
    assert not report.clean
    assert report.disagreements[0].where.startswith(where.format(**names)), report.disagreements


@pytest.mark.parametrize(
    ("statement", "where", "what"),
    [
        ("UPDATE ledger_lines SET hold = {held}, hold_posting = 0 WHERE seq = {rent}", "command {rent}", "lines"),
        ("UPDATE ledger_lines SET hold = {held}, hold_posting = 0 WHERE seq = {dated}", "command {dated}", "lines"),
        ("UPDATE ledger_lines SET hold_posting = 7 WHERE seq = {rent}", "line {rent}.0", "row"),
    ],
)
async def test_f66_a_line_that_touches_a_hold_it_has_nothing_to_do_with_is_named(
    ledger, database, statement, where, what
):
    """Whatever its leaf says: that may have been made anew."""
    names = {name: str(await seq_of(ledger, name)) for name in ("rent", "dated", "held")}
    await tamper(database, statement.format(**names))
    report = await audit(ledger._engine, "main")
    assert (where.format(**names), what) in {(found.where, found.what) for found in report.disagreements}


async def test_f66_a_book_rewritten_with_every_seal_is_found_against_the_seals_outside(
    ledger, sealer, postgres, tmp_path
):
    """The strongest forger: another history under the same key, sound in itself. Only a root kept outside tells."""
    await sealer.step()
    outside = read_seal(seal_path(tmp_path / "seals", "main", 1))
    assert (await audit(ledger._engine, "main", outside=[outside])).clean
    async with fresh_database(postgres) as other:
        clock = ManualClock(START)
        forged = PostgresLedger(other.engine(), clock=clock)
        await write_history(forged, clock, rent=11)
        key = load_seal_key(tmp_path / "seal.key")
        folder = tmp_path / "forged"
        await SealBook(other.engine(), book="main", key=key, folder=folder, clock=clock, interval=timedelta(0)).step()
        assert (await audit(other.engine(), "main", trusted=[key.public])).clean
        report = await audit(other.engine(), "main", trusted=[key.public], outside=[outside])
        assert [(found.where, found.what) for found in report.disagreements] == [("seal 1", "root (kept outside)")]


async def test_f66_a_seal_by_another_key_is_named(ledger, sealer, tmp_path):
    await sealer.step()
    report = await audit(ledger._engine, "main", trusted=[make_seal_key(tmp_path / "other.key").public])
    assert [found.where for found in report.disagreements] == ["seal 1"]


@pytest.mark.parametrize("column", ["root", "previous", "signature"])
async def test_f66_an_altered_seal_is_named(ledger, sealer, database, column):
    for name in ("more", "and more"):
        await sealer.step()
        await ledger.submit(alone(post(name, usd(A, B, 1))))
    flipped = f"set_byte({column}, 0, get_byte({column}, 0) # 1)"
    await tamper(database, f"UPDATE ledger_seals SET {column} = {flipped} WHERE number = 2")
    report = await audit(ledger._engine, "main")
    assert report.disagreements[0].where == "seal 2"


@pytest.mark.parametrize("since_last_seal", [False, True])
async def test_f66_the_last_unsealed_entry_deleted_is_found(ledger, sealer, database, since_last_seal):
    await sealer.step()
    await ledger.submit(alone(post("first", usd(A, B, 1))), alone(post("last", usd(A, B, 1))))
    last = await seq_of(ledger, "last")
    await tamper(
        database, f"DELETE FROM ledger_lines WHERE seq = {last}", f"DELETE FROM ledger_commands WHERE seq = {last}"
    )
    report = await audit(ledger._engine, "main", since_last_seal=since_last_seal)
    assert not report.clean
    first = report.disagreements[0]
    assert str(last) in f"{first.where} {first.found}"


async def test_erased_metadata_leaves_a_sound_book(ledger):
    assert await ledger.erase_metadata("rent")
    assert not await ledger.erase_metadata("rent")
    report = await audit(ledger._engine, "main")
    assert (report.clean, report.erased) == (True, 1)
    [moved] = [m for m in await ledger.history(account=A, limit=200) if m.command == "rent"]
    assert moved.metadata == {}


async def test_a_book_that_is_being_written_to_is_audited_as_it_stood_at_one_instant(ledger):
    stopped = asyncio.Event()

    async def write():
        number = 0
        while not stopped.is_set():
            await ledger.submit(*(alone(post(f"w{number + n}", usd(A, B, 1), usd(B, A, 1))) for n in range(20)))
            number += 20
        return number

    writing = asyncio.create_task(write())
    reports = [await audit(ledger._engine, "main", processes=1 + turn % 2) for turn in range(4)]
    stopped.set()
    assert await writing > 0
    assert [report.disagreements for report in reports] == [[]] * 4
    assert len({report.commands for report in reports}) > 1
