"""Nothing here runs without real processes: a whole installation per module, or the demo itself."""

from collections.abc import Iterator

import pytest

from tests.support.installation import Installation, start_installation
from tests.support.killable_worker import KillableWorker


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on anvil that no worker serves yet."""
    with start_installation(tmp_path_factory.mktemp("journey")) as running:
        yield running


@pytest.fixture(scope="module")
def worker(house: Installation) -> Iterator[KillableWorker]:
    """Its worker, running, with stock of 10,000 USDC and 10 ETH taken in."""
    killable = KillableWorker(house.config, house.config.parent)
    killable.start()
    try:
        house.fund_house(usdc=10_000, ether=10)
        yield killable
    finally:
        if killable.runs:
            killable.kill()
