"""The signer that is attacked: one process for all tests of a worker, since each has a network of its own."""

from collections.abc import Iterator

import pytest

from tests.custody.attacks.stage import Line, Scene
from tests.custody.attacks.tables import SPARE, attack_policy
from tests.support.signer import RunningSigner, start_signer

_spare = iter(SPARE)


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path_factory.mktemp("attacked"), attack_policy(), afresh=True)
    yield running
    running.stop()


@pytest.fixture
def line(attacked: RunningSigner) -> Iterator[Line]:
    made = Line(attacked)
    yield made
    made.close()


@pytest.fixture
def scene(attacked: RunningSigner, line: Line) -> Scene:
    """A network that nobody has used yet."""
    return Scene(next(_spare), attacked.journal, line.answer)
