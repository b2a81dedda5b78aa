"""What every layer uses: ids that sort, files that are whole, children that don't outlive us."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import psutil
import pytest

from base.children import free_port, listen
from base.entropy import SeededEntropy
from base.files import write_atomically
from base.ids import is_id, new_id


def test_ids_sort_by_the_time_they_were_made(clock, entropy):
    made = []
    for _ in range(50):
        made.append(new_id("wdr", clock, entropy))
        clock.advance(timedelta(milliseconds=1))
    assert made == sorted(made)
    assert len(set(made)) == 50
    assert all(is_id("wdr", one) for one in made)


@pytest.mark.parametrize("text", ["wdr", "wdr_", "wdr_ABC", "dep_" + "0" * 26, "wdr_" + "u" * 26, "wdr_" + "0" * 27])
def test_other_text_is_no_id(text):
    assert not is_id("wdr", text)


def test_seeded_bytes_repeat():
    assert SeededEntropy(7).draw(32) == SeededEntropy(7).draw(32) != SeededEntropy(8).draw(32)


def test_a_file_is_replaced_whole_and_keeps_nobody_elses_rights(tmp_path):
    path = tmp_path / "keys"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(path, b"a file can't replace a folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_a_taken_port_is_passed_over():
    first = free_port()
    with listen("127.0.0.1", first) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port
        with listen("127.0.0.1", port) as second:
            assert second.getsockname()[1] > port


@pytest.mark.slow
def test_a_child_ends_with_its_parent_however_that_ends():
    script = (
        "import sys, time; from base.children import start_child;"
        "print(start_child([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)
