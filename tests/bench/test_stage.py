"""Where benches run: what killed ones left is cleared away, and nothing that another one uses."""

import os

import pytest

from bench import stage

pytestmark = pytest.mark.slow


def test_only_what_an_ended_process_left_is_cleared_away(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "FOLDER", tmp_path)
    ended = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitpid(ended, 0)
    left, used, drawn = (tmp_path / name for name in (f"fiat-{ended}", f"fiat-{os.getppid()}", "chain-3xk1cu_r"))
    for folder in (left, used, drawn):
        folder.mkdir()
    with stage.server("other"):
        assert [folder.exists() for folder in (left, used, drawn)] == [False, True, True]
