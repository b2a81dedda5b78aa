"""What stops in the middle leaves all or nothing: an exception, a full disk, a kill at any instant."""

import os
import random
import resource
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from custody.derivation import Role
from custody.journal import Journal
from tests.custody.bench import Bench, benched
from tests.custody.clocks import ManualClocks
from tests.custody.samples import dearer, policy_text, sweep, token_transfer
from tests.custody.test_journal import ENROLMENT, fill, record, state
from tests.support.signer import PROJECT


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    path = tmp_path / "journal.sqlite"
    Journal.create(path, ENROLMENT, proof={}, clocks=ManualClocks())
    opened = Journal.open(path, ManualClocks())
    yield opened
    opened.close()


class Stopped(Exception):
    """Stands for whatever may happen."""


def test_a_batch_that_is_stopped_keeps_none_of_its_rows(journal: Journal):
    fill(journal)
    before = state(journal)
    with pytest.raises(Stopped), journal.batch():  # noqa: PT012 - the rows before it are the point
        record(journal, token_transfer(subject="wdr_8", nonce=4))
        journal.record_freeze(next(iter(journal.frozen)), lifted=True, approved_by=frozenset())
        with journal.batch():
            journal.record_reservation(Role.DEPOSIT, 5)
        raise Stopped
    assert state(journal) == before
    record(journal, token_transfer(subject="wdr_8", nonce=4))
    assert journal.head.sequence == before["head"].sequence + 1


def test_one_row_that_is_refused_takes_its_whole_batch_back(journal: Journal):
    before = state(journal)
    with pytest.raises(sqlite3.IntegrityError), journal.batch():  # noqa: PT012
        record(journal, token_transfer())
        record(journal, token_transfer(subject="wdr_2"))
    assert state(journal) == before


FULL_DISK = """
import resource, sqlite3, sys
from pathlib import Path
from tests.custody.bench import Bench, question
from tests.custody.samples import policy_text, token_transfer

bench = Bench(Path(sys.argv[1]), policy_text())
size = sum(file.stat().st_size for file in Path(sys.argv[1]).iterdir())
signed, number, failed = {}, 0, 0
while failed < 3:
    if number == 9:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    batch = [token_transfer(subject=f"wdr_{n}", nonce=n, amount=1) for n in range(number, number + 3)]
    head = bench.journal.head
    try:
        for intent, raw in zip(batch, bench.together(*map(question, batch)), strict=True):
            assert isinstance(raw, bytes), raw
            signed[intent.subject] = raw
        number += 3
    except sqlite3.Error as problem:
        failed += 1
        assert not bench.journal._in_batch
        print("failed:", problem, head.sequence, bench.journal.head.sequence)
    if number > 2000:
        sys.exit("it never got full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for intent, raw in zip(batch, bench.together(*map(question, batch)), strict=True):
    signed[intent.subject] = raw
bench.again()
for n in range(number + 3):
    assert bench.sign(token_transfer(subject=f"wdr_{n}", nonce=n, amount=1)) == signed[f"wdr_{n}"], n
assert bench.rows("intent") == bench.rows("signed") == number + 3
print("done", number + 3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [150_000, 333_333])
def test_f30_a_full_disk_keeps_all_or_nothing_and_answers_afterwards(tmp_path: Path, limit: int):
    """The kernel refuses to let the journal grow (RLIMIT_FSIZE): as a full disk does, at the write."""
    told = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "full"), str(limit)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("failed:") == 3
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


KILLED = """
import sys
from pathlib import Path
from custody.derivation import Role
from custody.journal import Journal
from tests.custody.bench import KEYS, question, outcome
from tests.custody.clocks import ManualClocks
from tests.custody.samples import policy_text, token_transfer
from custody.policy_file import parse
from custody.service import SignerService

journal = Journal.open(Path(sys.argv[1]), ManualClocks())
service = SignerService(KEYS, parse(policy_text()), journal)
number = int(sys.argv[2])
print("ready", flush=True)
while True:
    batch = [token_transfer(subject=f"wdr_{n}", nonce=n, amount=1) for n in range(number, number + 3)]
    for intent, told in zip(batch, service.answer_all([question(one) for one in batch]), strict=True):
        print(intent.nonce, outcome(told).hex(), flush=True)
    number += 3
"""


@pytest.mark.slow
def test_f30_killed_at_random_moments_it_verifies_and_answers_the_same_bytes(tmp_path: Path):
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    with benched(tmp_path / "killed", policy_text()) as made:
        path = made.path
    told: dict[int, str] = {}
    for _ in range(6):
        with benched_again(made) as bench:
            highest = bench.journal.nonce_facts(token_transfer(), first_nonce=0).next_nonce
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path), str(highest)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(draw.random() * 0.2)  # the fault: not a wait for anything
        child.send_signal(signal.SIGKILL)
        for line in child.stdout.read().splitlines(keepends=True):
            number, _, answered = line.partition(" ")
            if answered.endswith("\n"):
                told[int(number)] = answered.strip()
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
    assert told, "it was never too early"
    with benched_again(made) as bench:
        intents, following = bench.rows("intent"), bench.journal.nonce_facts(token_transfer(), first_nonce=0).next_nonce
        assert intents == following
        for nonce in range(following):
            raw = bench.sign(token_transfer(subject=f"wdr_{nonce}", nonce=nonce, amount=1))
            assert isinstance(raw, bytes)
            assert raw.hex().startswith(told.get(nonce, ""))
            assert bench.sign(token_transfer(subject=f"oth_{nonce}", nonce=nonce, amount=1)) == "nonce_taken"
        assert bench.rows("signed") == bench.rows("intent") == following


class benched_again:  # noqa: N801 - reads as `benched`
    """A bench on files that are there."""

    def __init__(self, made: Bench) -> None:
        self._made = made

    def __enter__(self) -> Bench:
        self._made.start()
        return self._made

    def __exit__(self, *_: object) -> None:
        self._made.close()


def test_f30_killed_between_intent_and_signature_it_signs_when_asked_again(tmp_path: Path):
    """A child journals the intents of a batch and is killed before the signatures; every kind of repeat is finished."""
    with benched(tmp_path / "twin", policy_text()) as twin:
        expected = [
            twin.sign(token_transfer()),
            twin.sign(token_transfer(**dearer(token_transfer()))),
            twin.sign(sweep()),
        ]
    with benched(tmp_path / "child", policy_text()) as made:
        pass
    child = os.fork()
    if child == 0:
        journal = Journal.open(made.path, ManualClocks())
        with journal.batch():
            first = record(journal, token_transfer())
            journal.record_successor(token_transfer(**dearer(token_transfer())), first, at=journal.last)
            record(journal, sweep())
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    with benched_again(made) as bench:
        assert bench.sign(token_transfer(amount=1)) == "attempt_differs"
        assert bench.sign(token_transfer(subject="wdr_2")) == "nonce_taken"
        replaced = bench.sign(token_transfer(**dearer(token_transfer())))
        assert [bench.sign(token_transfer()), replaced, bench.sign(sweep())] == expected
        assert (bench.rows("intent"), bench.rows("successor"), bench.rows("signed")) == (2, 1, 3)
