"""A true chain, and one on another fork of it."""

from collections.abc import Iterator

import pytest

from tests.support.chain import RunningChain, start_local_chain


@pytest.fixture
def anvil(tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as chain:
        yield chain


@pytest.fixture
def forked(anvil, tmp_path) -> Iterator[RunningChain]:
    """Has the true chain's blocks up to now, then two of its own."""
    with start_local_chain(tmp_path / "fork", chain_id=anvil.chain_id) as other:
        other.rpc("anvil_loadState", anvil.rpc("anvil_dumpState", False))
        other.transfer("USDC", other.accounts[7], 666)
        other.mine()
        yield other
