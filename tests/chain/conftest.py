"""Local chains, followers on them, and what pays there."""

from collections.abc import AsyncIterator, Iterator

import pytest

from chain.local import NodeKind
from tests.chain.paying import Paying, start_paying
from tests.chain.support import Following, follow
from tests.support.chain import RunningChain, start_local_chain
from tests.support.signer import RunningSigner, generous_policy, start_signer


@pytest.fixture
def anvil(tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path, NodeKind.ANVIL) as chain:
        yield chain


@pytest.fixture(params=list(NodeKind))
def either_node(request, tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path, request.param) as chain:
        yield chain


@pytest.fixture
async def following(anvil, database, clock) -> AsyncIterator[Following]:
    """A follower on a fresh anvil chain."""
    found = follow(anvil, database.engine(), clock)
    yield found
    await found.follower.close()


@pytest.fixture
async def either(either_node, database, clock) -> AsyncIterator[Following]:
    """A follower on each kind of node in turn."""
    found = follow(either_node, database.engine(), clock)
    yield found
    await found.follower.close()


@pytest.fixture
def signer(anvil, tmp_path) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path / "signer", generous_policy(anvil.chain_id, anvil.token("USDC").lower()))
    yield running
    running.stop()


@pytest.fixture
async def paying(anvil, signer, following) -> Paying:
    return await start_paying(anvil, signer, following)
