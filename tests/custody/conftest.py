"""A signer per test module's need: a real process, or its inside with clocks driven by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.custody.bench import Bench, benched
from tests.custody.samples import policy_text
from tests.support.signer import RunningSigner, start_signer


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path, policy_text())
    yield running
    running.stop()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Under the full policy: a rule for every kind, three people, two of whom decide."""
    with benched(tmp_path) as made:
        yield made


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Bench]:
    """Under the starter policy: nobody is enrolled."""
    with benched(tmp_path, policy_text()) as made:
        yield made
