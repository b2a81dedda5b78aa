"""Hardhat nodes that serve one test after the other: one takes seconds of CPU to start, and going back takes none.

Whoever borrows one finds it at its genesis block, at the present time, and the tokens are made anew. Only the chain's
id and its genesis block are those of the borrower before. One that doesn't go back, or was ended, isn't lent again.
"""

import atexit
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from base.children import stop_child
from base.entropy import SystemEntropy
from base.files import write_atomically
from chain import local
from chain.local import LocalChain, LocalNodeDown, LocalNodeRefused, NodeKind
from chain.local_blocks import head_time, set_next_time


@dataclass(slots=True)
class _Node:
    """A running node. `origin`: its snapshot of the genesis block."""

    process: subprocess.Popen[bytes]
    url: str
    chain_id: int
    origin: str


_spare: list[_Node] = []


@contextmanager
def lent_hardhat(folder: Path) -> Iterator[LocalChain]:
    """A Hardhat chain with our tokens on it, `chain.json` in `folder`, as `LocalChain.start` makes one."""
    folder.mkdir(parents=True, exist_ok=True)
    node = _spare.pop() if _spare else _started()
    try:
        set_next_time(node.url, max(int(time.time()), head_time(node.url) + 1))  # going back shifts a node's clock
        record = local._furnish(NodeKind.HARDHAT, node.url, chain_id=node.chain_id, pid=node.process.pid)
        write_atomically(folder / local.RECORD, json.dumps(record.to_json(), indent=2).encode() + b"\n", mode=0o644)
        yield LocalChain(record, folder, node.process)
    finally:
        (folder / local.RECORD).unlink(missing_ok=True)
        if _is_back(node):
            _spare.append(node)
        else:
            stop_child(node.process, seconds=5)


def _started() -> _Node:
    home = Path(tempfile.mkdtemp(prefix="lent-hardhat-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    chain_id = local.CHAIN_IDS[int.from_bytes(SystemEntropy().draw(8)) % len(local.CHAIN_IDS)]
    process, url = local._launch(
        NodeKind.HARDHAT,
        home,
        port=None,
        chain_id=chain_id,
        mnemonic=local.PUBLIC_TEST_MNEMONIC,
        epoch_slots=None,
    )
    atexit.register(stop_child, process, seconds=2)  # runs before the one above
    return _Node(process, url, chain_id, _origin(url))


def _origin(url: str) -> str:
    return str(local.rpc(url, "evm_snapshot"))


def _is_back(node: _Node) -> bool:
    """Bring the node back to its genesis block; False if it can't be lent again."""
    if node.process.poll() is not None:
        return False
    try:
        if local.rpc(node.url, "evm_revert", node.origin) is not True:
            return False
        local.mine_at_once(node.url)
        node.origin = _origin(node.url)
        return local.height(node.url) == 0
    except (LocalNodeDown, LocalNodeRefused):
        return False
