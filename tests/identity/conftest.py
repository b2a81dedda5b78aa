"""An `Identity` on a real database."""

import pytest

from base.clock import ManualClock
from base.entropy import SeededEntropy
from identity.service import Identity
from tests.support.postgres import Database


@pytest.fixture
def identity(database: Database, clock: ManualClock, entropy: SeededEntropy) -> Identity:
    return Identity(engine=database.engine(), book="main", clock=clock, entropy=entropy)


@pytest.fixture
def elsewhere(database: Database, clock: ManualClock, entropy: SeededEntropy) -> Identity:
    """A second process's view of the same book."""
    return Identity(engine=database.engine(), book="main", clock=clock, entropy=entropy)
