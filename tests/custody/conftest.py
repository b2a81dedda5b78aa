"""A signer per test module's need, its policy, and intents to ask it with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.custody.samples import policy_text
from tests.support.signer import RunningSigner, start_signer


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path, policy_text())
    yield running
    running.stop()
