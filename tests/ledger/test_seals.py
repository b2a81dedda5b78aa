"""Seals: the next contiguous stretch only, signed outside the database, kept in files, and going on after a restore."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy import text

from base.clock import ManualClock
from base.errors import ConfigError
from db.engine import tx
from db.errors import AccessRefused
from ledger.commands import Post, Posting, alone
from ledger.errors import BookCorrupt, ProofInvalid
from ledger.merkle import merkle_root
from ledger.sealing import SealBook, last_seal
from ledger.seals import (
    Seal,
    load_seal_key,
    make_seal_key,
    parse_public_key,
    public_pem,
    read_seal,
    seal_numbers,
    seal_of_document,
    seal_path,
    write_seal,
)
from ledger.service import PostgresLedger
from tests.ledger.histories import ACCOUNTS, ASSETS, OPENING, START
from tests.support.postgres import fresh_database

A, B, _eth, FX, BANK, *_ = ACCOUNTS

SEAL = Seal(
    book="main",
    number=2,
    first_seq=11,
    last_seq=20,
    root=bytes(range(32)),
    previous=bytes(32),
    sealed_at=datetime(2026, 11, 23, 2, 45, 22, 120000, tzinfo=UTC),
)


@pytest.fixture
def key(tmp_path):
    return make_seal_key(tmp_path / "keys" / "seal.key")


# What a seal says


def test_a_statement_is_one_line_of_canonical_json():
    assert SEAL.statement().decode() == (
        '{"book":"main","first_seq":11,"format":"onebook-seal-1","last_seq":20,"number":2,'
        f'"previous":"{"00" * 32}","root":"{bytes(range(32)).hex()}","sealed_at":"2026-11-23 02:45:22.12+00"}}'
    )


def test_a_seal_survives_its_file(key, tmp_path):
    signed = key.sign(SEAL)
    path = write_seal(tmp_path / "seals", signed)
    assert path == seal_path(tmp_path / "seals", "main", 2)
    assert read_seal(path) == signed
    read_seal(path).check((key.public,))


@pytest.mark.parametrize(
    "alter",
    [
        lambda told: told["statement"].update(root="ff" * 32),
        lambda told: told["statement"].update(last_seq=21),
        lambda told: told["statement"].update(previous=None),
        lambda told: told["statement"].update(sealed_at="2026-11-23 02:45:22.13+00"),
        lambda told: told["statement"].update(more=1),
        lambda told: told["statement"].update(format="onebook-seal-2"),
        lambda told: told["statement"].pop("book"),
        lambda told: told.update(signature="00" * 64),
        lambda told: told.update(signature="zz"),
        lambda told: told.update(key="00" * 32),
        lambda told: told.update(key="00"),
        lambda told: told.pop("statement"),
    ],
)
def test_a_seal_that_was_altered_is_none(key, alter):
    told = json.loads(json.dumps(key.sign(SEAL).document()))
    alter(told)
    with pytest.raises(ProofInvalid):
        seal_of_document(told).check((key.public,))


def test_another_key_is_not_trusted(key, tmp_path):
    other = make_seal_key(tmp_path / "other.key")
    with pytest.raises(ProofInvalid, match="another key"):
        other.sign(SEAL).check((key.public,))
    other.sign(SEAL).check()


# Keys


def test_a_key_file_is_private_and_never_written_over(tmp_path):
    path = tmp_path / "seal.key"
    made = make_seal_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_seal_key(path).sign(SEAL) == made.sign(SEAL)
    with pytest.raises(ConfigError, match="never written over"):
        make_seal_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_seal_key(path)
    with pytest.raises(ConfigError, match="openssl genpkey"):
        load_seal_key(tmp_path / "none.key")


def test_a_public_key_is_told_by_hex_or_by_file(key, tmp_path):
    (tmp_path / "seal.pem").write_bytes(public_pem(key.public))
    assert parse_public_key(str(tmp_path / "seal.pem")) == key.public
    assert parse_public_key(key.public.hex()) == key.public
    for wrong in ("00", str(tmp_path / "none.pem")):
        with pytest.raises(ConfigError):
            parse_public_key(wrong)


def test_openssl_checks_the_signature_too(key, tmp_path):
    signed = key.sign(SEAL)
    files = {"seal.pem": public_pem(key.public), "statement": SEAL.statement(), "signature": signed.signature}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = "openssl pkeyutl -verify -pubin -inkey seal.pem -rawin -in statement -sigfile signature"
    try:
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl here")
    assert "Verified Successfully" in done.stdout, done.stderr


# Sealing a book


@pytest.fixture
async def ledger(database):
    ledger = PostgresLedger(database.engine(), clock=ManualClock(START), book="main")
    await ledger.create_book()
    for asset in ASSETS:
        await ledger.register_asset(asset)
    await ledger.submit(OPENING)
    await spend(ledger, "funding", 1000, BANK, A)
    return ledger


async def spend(ledger, name, amount=1, debit=A, credit=B):
    posting = Posting(debit=debit, credit=credit, asset="USD", amount=amount)
    [(outcome,)] = await ledger.submit(alone(Post(id=name, postings=(posting,))))
    assert outcome.accepted
    return outcome


@pytest.fixture
def sealed(ledger, database, key, tmp_path, clock):
    clock.instant = START

    def make(url_engine=None, **more):
        settings = {"commands_max": 5, "interval": timedelta(0), "clock": clock} | more
        return SealBook(url_engine or database.engine(), book="main", key=key, folder=tmp_path / "seals", **settings)

    return make


async def seal_all(sealing):
    while await sealing.step():
        pass


async def stored(database):
    connection = await asyncpg.connect(database.admin_url)
    try:
        rows = await connection.fetch("SELECT seq, leaf FROM ledger_commands ORDER BY seq")
        seals = await connection.fetch("SELECT * FROM ledger_seals ORDER BY number")
    finally:
        await connection.close()
    return [row["leaf"] for row in rows], seals


@pytest.mark.slow
async def test_seals_cover_the_book_without_gap_and_name_each_other(ledger, database, sealed, key, tmp_path):
    await seal_all(sealed())
    await spend(ledger, "later")
    await seal_all(sealed())
    leaves, rows = await stored(database)
    files = [read_seal(seal_path(tmp_path / "seals", "main", n)) for n in seal_numbers(tmp_path / "seals", "main")]
    assert [row["number"] for row in rows] == [file.seal.number for file in files] == list(range(1, len(rows) + 1))
    ends = [0, *(file.seal.last_seq for file in files)]
    assert ends[-1] == len(leaves)
    previous = None
    for start, file in zip(ends, files, strict=False):
        file.check((key.public,))
        assert file.seal.first_seq == start + 1
        assert file.seal.root == merkle_root(leaves[start : file.seal.last_seq])
        assert file.seal.previous == (previous.digest() if previous else None)
        previous = file.seal
    assert all(file.seal.size <= 5 for file in files)


@pytest.mark.slow
async def test_what_is_booked_waits_for_its_seal_no_longer_than_told(ledger, sealed, clock):
    sealing = sealed(interval=timedelta(minutes=10), commands_max=100)
    assert await sealing.step() == 1
    await spend(ledger, "later")
    assert await sealing.step() == 0
    clock.instant += timedelta(minutes=10)
    assert await sealing.step() == 1
    assert await sealing.step() == 0, "there is nothing to seal"


@pytest.mark.slow
async def test_a_full_stretch_does_not_wait(ledger, sealed):
    await seal_all(sealed())
    sealing = sealed(interval=timedelta(days=1), commands_max=3)
    for n in range(3):
        assert await sealing.step() == 0
        await spend(ledger, f"later-{n}")
    assert await sealing.step() == 1


@pytest.mark.slow
async def test_two_sealers_never_seal_a_stretch_twice(ledger, sealed, database):
    one, other = sealed(), sealed()
    while sum([await one.step(), await other.step()]):
        pass
    leaves, rows = await stored(database)
    assert sum(row["last_seq"] - row["first_seq"] + 1 for row in rows) == len(leaves)


@pytest.mark.slow
async def test_a_file_lost_between_row_and_disk_is_written_again(ledger, sealed, tmp_path):
    await seal_all(sealed())
    path = seal_path(tmp_path / "seals", "main", 1)
    content = path.read_bytes()
    path.unlink()
    await sealed().step()
    assert path.read_bytes() == content


async def alter(database, *statements):
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.slow
async def test_a_gap_in_the_books_seqs_is_an_alarm(ledger, sealed, database):
    await alter(database, "DELETE FROM ledger_commands WHERE seq = 3")
    with pytest.raises(BookCorrupt, match="command 3 is missing"):
        await sealed().step()


@pytest.mark.slow
async def test_a_book_older_than_its_seals_is_an_alarm(ledger, sealed, database):
    await seal_all(sealed())
    await alter(database, "DELETE FROM ledger_seals WHERE number = (SELECT max(number) FROM ledger_seals)")
    with pytest.raises(BookCorrupt, match="lacks seal"):
        await sealed().step()


@pytest.mark.slow
async def test_a_seal_row_rewritten_is_an_alarm(ledger, sealed, database):
    await seal_all(sealed())
    await alter(database, "UPDATE ledger_seals SET root = sha256('x')")
    with pytest.raises(BookCorrupt, match="isn't the one"):
        await sealed().step()


@pytest.mark.slow
async def test_a_row_that_our_key_did_not_sign_is_never_exported(ledger, sealed, database, tmp_path):
    await seal_all(sealed())
    await alter(database, "UPDATE ledger_seals SET root = sha256('x') WHERE number = 1")
    seal_path(tmp_path / "seals", "main", 1).unlink()
    with pytest.raises(ProofInvalid, match="signature of seal 1"):
        await sealed().step()


@pytest.mark.slow
async def test_the_function_takes_the_next_stretch_only_and_the_table_never_changes(ledger, sealed, database, key):
    sealing = sealed()
    await seal_all(sealing)
    async with tx(database.engine()) as connection:
        newest = await last_seal(connection, "main")
        assert newest is not None
        last = newest.seal
    await spend(ledger, "later")
    call = text(
        "SELECT ledger_seal(1, :number, :first, :last, sha256('r'), sha256('p'), now(),"
        " decode(repeat('00', 64), 'hex'), sha256('k'))"
    )
    wrong = [
        (last.number, last.last_seq + 1, last.last_seq + 1),
        (last.number + 2, last.last_seq + 1, last.last_seq + 1),
        (last.number + 1, last.last_seq, last.last_seq + 1),
        (last.number + 1, last.last_seq + 2, last.last_seq + 2),
    ]
    async with tx(database.engine()) as connection:
        for number, first, end in wrong:
            assert not await connection.scalar(call, {"number": number, "first": first, "last": end})
    beyond = {"number": last.number + 1, "first": last.last_seq + 1, "last": last.last_seq + 2}
    with pytest.raises(Exception, match="covers what is booked"):
        async with tx(database.engine()) as connection:
            await connection.scalar(call, beyond)
    with pytest.raises(AccessRefused):
        async with tx(database.engine()) as connection:
            await connection.execute(text("DELETE FROM ledger_seals"))
    with pytest.raises(Exception, match="never changed"):
        async with tx(database.engine(owner=True)) as connection:
            await connection.execute(text("UPDATE ledger_seals SET number = number + 1"))


@pytest.mark.slow
async def test_sealing_goes_on_after_a_dump_and_a_restore(ledger, sealed, database, postgres):
    await seal_all(sealed())
    await spend(ledger, "unsealed")
    async with fresh_database(postgres) as restored:
        await copy_database(database, restored)
        again = PostgresLedger(restored.engine(), clock=ManualClock(START), book="main")
        await spend(again, "after the restore")
        await seal_all(sealed(restored.engine()))
        leaves, rows = await stored(restored)
        assert rows[-1]["last_seq"] == len(leaves)
        assert rows[-1]["root"] == merkle_root(leaves[rows[-1]["first_seq"] - 1 :])
        known = await again.outcomes("unsealed", "after the restore")
        assert [outcome.seq for outcome in known] == [len(leaves) - 1, len(leaves)]


async def copy_database(source, target):
    """What a dump and a restore do: every row of the book by COPY into a database whose transaction ids are others."""
    here, there = await asyncpg.connect(source.admin_url), await asyncpg.connect(target.admin_url)
    try:
        await there.execute("SET session_replication_role = replica")
        tables = await here.fetch(
            "SELECT relname FROM pg_class"
            " WHERE relname LIKE 'ledger_%' AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        for table in sorted((row["relname"] for row in tables), key=lambda name: name != "ledger_books"):
            rows: list[str] = []

            async def take(part, rows=rows):
                rows.append(part)

            await here.copy_from_query(f"SELECT * FROM {table}", output=take)
            if table == "ledger_books":
                await restore(there, table, rows)
                await there.execute("SELECT ledger_extend(number) FROM ledger_books")
            else:
                await restore(there, table, rows)
        for table in tables:
            query = f"SELECT count(*) FROM {table['relname']}"
            assert await here.fetchval(query) == await there.fetchval(query)
    finally:
        await here.close()
        await there.close()


async def restore(connection, table, rows):
    async def give():
        for part in rows:
            yield part

    await connection.copy_to_table(table, source=give())
