"""Nobody alters a journal unseen: rows, and the tables that find them again."""

import random
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from custody.errors import JournalTampered
from custody.journal import Journal
from custody.journal_file import Row
from tests.custody.clocks import ManualClocks
from tests.custody.samples import allowance
from tests.custody.test_journal import ENROLMENT, VIA, fill, record

TRIGGERS = ("rows_stay", "rows_remain", "subjects_stay", "subjects_remain")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "journal.sqlite"
    Journal.create(place, ENROLMENT, proof={}, clocks=ManualClocks())
    journal = Journal.open(place, ManualClocks())
    fill(journal)
    record(journal, allowance(VIA, subject="alw_2", nonce=4, batch="bat_2"))
    record(journal, allowance(VIA, subject="alw_3", nonce=5, amount=0, batch="bat_2"))
    journal.close()
    return place


def altered(path: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for trigger in TRIGGERS:
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            assert connection.execute(statement, values).rowcount == 1
        connection.commit()


def other(value: Any, draw: random.Random) -> Any:
    match value:
        case None:
            return draw.choice([0, "x"])
        case int():
            return draw.choice([value + 1, None]) if value else 7
        case str():
            return value + "x"
        case _:
            return value[:-1] + bytes([value[-1] ^ 1 << draw.randrange(8)])


@pytest.mark.parametrize("column", [name for name in Row._fields if name != "sequence"])
def test_every_column_of_every_row_that_was_altered_is_named(path: Path, column: str):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    whole = path.read_bytes()
    journal = Journal.open(path, ManualClocks())
    rows = journal.rows(first=1, count=100)
    journal.close()
    for row in rows:
        path.write_bytes(whole)
        value = other(getattr(row, column), draw)
        try:
            altered(path, f"UPDATE rows SET {column} = ? WHERE sequence = {row.sequence}", values=(value,))
        except sqlite3.IntegrityError:
            continue  # a type or an index of the file's own refuses it
        with pytest.raises(JournalTampered) as caught:
            Journal.open(path, ManualClocks())
        assert caught.value.facts["sequence"] == row.sequence, (row, value)


@pytest.mark.parametrize(
    ("statement", "sequence"),
    [
        ("DELETE FROM rows WHERE sequence = 4", 4),
        ("DELETE FROM rows WHERE sequence = 1", 1),
        ("UPDATE rows SET sequence = 0 WHERE sequence = 1", 1),
        ("UPDATE rows SET sequence = 99 WHERE sequence = (SELECT max(sequence) FROM rows)", 21),
        (
            "INSERT INTO rows SELECT 22, at_us, window_us, clock, kind, subject, attempt, chain_id, sender, nonce,"
            " body, hash FROM rows WHERE sequence = 2",
            22,
        ),
    ],
)
def test_a_row_that_was_taken_moved_or_added_is_named(path: Path, statement: str, sequence: int):
    altered(path, statement)
    with pytest.raises(JournalTampered) as caught:
        Journal.open(path, ManualClocks())
    assert caught.value.facts["sequence"] == sequence


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM subjects WHERE subject = 'wdr_1'",
        "DELETE FROM subjects WHERE subject = 'wdr_leg-1'",
        "DELETE FROM subjects WHERE subject = 'wdr_7'",
        "UPDATE subjects SET sequence = sequence + 1 WHERE subject = 'wdr_1'",
        "UPDATE subjects SET sequence = sequence - 1 WHERE subject = 'wdr_1'",
        "UPDATE subjects SET sequence = 1 WHERE subject = 'wdr_leg-0'",
        "UPDATE subjects SET subject = 'wdr_9' WHERE subject = 'wdr_1'",
        "INSERT INTO subjects VALUES ('wdr_9', 3)",
        "INSERT INTO subjects VALUES ('wdr_9', 99)",
        "DELETE FROM allowances WHERE batch = 'bat_1'",
        "UPDATE allowances SET sequence = sequence + 1 WHERE batch = 'bat_1'",
        "UPDATE allowances SET sequence = sequence - 1 WHERE batch = 'bat_1'",
        "UPDATE allowances SET sequence = sequence - 1 WHERE batch = 'bat_2'",
        "UPDATE allowances SET batch = 'bat_9' WHERE batch = 'bat_1'",
        "INSERT INTO allowances SELECT 'bat_9', sequence FROM allowances WHERE batch = 'bat_1'",
    ],
)
def test_an_index_that_was_altered_is_found_at_opening(path: Path, statement: str):
    Journal.open(path, ManualClocks()).close()  # the accepted twin
    altered(path, statement)
    with pytest.raises(JournalTampered, match=r"index|subjects|allowances"):
        Journal.open(path, ManualClocks())


def test_the_last_row_taken_away_no_longer_agrees_with_what_was_seen(path: Path):
    journal = Journal.open(path, ManualClocks())
    journal.record_start()
    head = journal.head
    journal.close()
    altered(path, f"DELETE FROM rows WHERE sequence = {head.sequence}")
    journal = Journal.open(path, ManualClocks())
    assert journal.head.sequence == head.sequence - 1
    assert not journal.agrees(head)
    journal.close()


def test_a_file_cut_off_or_overwritten_is_refused(path: Path):
    whole = path.read_bytes()
    for spoiled in (whole[: len(whole) // 2], whole[:4096], whole[:8192] + bytes(len(whole) - 8192)):
        path.write_bytes(spoiled)
        with pytest.raises(JournalTampered):
            Journal.open(path, ManualClocks())
    path.write_bytes(whole)
    Journal.open(path, ManualClocks()).close()
