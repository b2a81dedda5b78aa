"""Local chains and followers on them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from chain.local import NodeKind
from tests.chain.support import Following, follow
from tests.support.chain import RunningChain, start_local_chain


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
