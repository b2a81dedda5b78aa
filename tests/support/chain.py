"""Starts real local chains for tests and turns their knobs: blocks, reorganisations, strangers' payments.

with start_local_chain(tmp_path) as chain:
    chain.transfer("USDC", address, 2_500_000)
    chain.mine(12)
    chain.reorg(3)
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from chain import local
from chain.local import RECEIPT_SECONDS, LocalChain, NodeKind
from chain.local_blocks import Snapshot, reorganise, take_snapshot
from tests.support.lent_hardhat import lent_hardhat

PREPARE = local.hardhat_project() / "prepare.py"

PREPARE_SECONDS = 300
"""How long npm and the compiler may take on a machine that has neither packages nor artifacts yet."""


@dataclass(slots=True)
class RunningChain:
    """A local chain under a test's control. Amounts are in smallest units; `asset` is ETH, USDC or DAI."""

    node: LocalChain
    marks: dict[int, Snapshot] = field(default_factory=dict)
    """Hardhat only: the snapshot taken at a height, with which a reorganisation can go back to it."""

    @property
    def url(self) -> str:
        return self.node.url

    @property
    def chain_id(self) -> int:
        return self.node.chain_id

    @property
    def kind(self) -> NodeKind:
        return self.node.kind

    @property
    def pid(self) -> int:
        return self.node.pid

    @property
    def genesis_hash(self) -> str:
        return self.node.record.genesis_hash

    @property
    def accounts(self) -> tuple[str, ...]:
        """The unlocked development accounts: 0 is the faucet, 1 and 2 own tokens too, all own ETH."""
        return self.node.record.accounts

    def token(self, asset: str) -> str:
        """The checksummed address of a token here."""
        return self.node.tokens[asset].address

    def rpc(self, method: str, *params: object) -> Any:
        """One JSON-RPC call to the node."""
        return local.rpc(self.url, method, *params)

    def height(self) -> int:
        return local.height(self.url)

    def block_hash(self, height: int) -> str:
        return str(self.rpc("eth_getBlockByNumber", hex(height), False)["hash"])

    def balance(self, asset: str, address: str) -> int:
        return local.balance(self.url, asset, address)

    def mine(self, blocks: int = 1) -> int:
        """Mine so many blocks now; the new height."""
        return local.mine(self.url, blocks)

    def set_automine(self, on: bool) -> None:
        """Mine each transaction when it comes; off: only `mine` makes blocks."""
        local.mine_at_once(self.url, on)

    def set_interval(self, seconds: int) -> None:
        """A block every `seconds` seconds instead of one per transaction."""
        local.mine_every(self.url, seconds)

    def faucet(self, to: str, amount: int, asset: str = "ETH", *, seconds: float | None = RECEIPT_SECONDS) -> str:
        """Give `amount` to `to`; the hash, once mined (at once with `seconds=None`)."""
        return local.faucet(self.url, to, amount, asset, seconds=seconds)

    def transfer(
        self,
        asset: str,
        to: str,
        amount: int,
        *,
        sender: int = 1,
        gas: int | None = None,
        seconds: float | None = RECEIPT_SECONDS,
    ) -> str:
        """Pay as a stranger would; the hash, once mined. With `gas` given a reverting transfer is mined as such."""
        return local.transfer(self.url, asset, to, amount, sender=sender, gas=gas, seconds=seconds)

    def as_token_owner(self, asset: str, function: str, *arguments: object) -> str:
        """Call for example `pause()` or `blacklist(address)` as the owner of `asset`; the hash, once mined."""
        return local.send(self.url, to=self.token(asset), call=local.encode_call(function, *arguments))

    def receipt(self, tx_hash: str, *, seconds: float = RECEIPT_SECONDS) -> dict[str, Any]:
        """The receipt, waited for."""
        return local.await_receipt(self.url, tx_hash, seconds=seconds)

    def snapshot(self) -> str:
        """Remember the whole state of the chain; what `revert` takes, once."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Go back to `snapshot`: its blocks' successors never happened. It and later ones are used up."""
        assert self.rpc("evm_revert", snapshot) is True
        self._forget_marks(below=self.height())

    def mark(self) -> int:
        """Let a later `reorg` go back to the present head (Hardhat needs it, anvil doesn't mind); its height."""
        head = self.height()
        if self.kind is NodeKind.HARDHAT:
            self.marks[head] = take_snapshot(self.url)
        return head

    def reorg(self, depth: int, *, longer: int = 0) -> int:
        """Replace the last `depth` blocks by as many empty ones plus `longer`; the new height.

        The transactions in them are forgotten by the node. On Hardhat there must be a `mark` at the common ancestor.
        """
        reorganise(self.url, depth, keep=False, marks=tuple(self.marks.values()))
        self._forget_marks(below=self.height() - depth)
        return self.mine(longer) if longer else self.height()

    def _forget_marks(self, *, below: int) -> None:
        self.marks = {height: mark for height, mark in self.marks.items() if height < below}


@cache
def prepare_hardhat() -> None:
    """npm packages and compiled contracts, if they aren't there yet. Looked at once in each test process."""
    subprocess.run([sys.executable, str(PREPARE)], check=True, timeout=PREPARE_SECONDS)


@contextmanager
def start_local_chain(
    folder: Path,
    kind: NodeKind | str = NodeKind.ANVIL,
    *,
    port: int | None = None,
    chain_id: int | None = None,
    block_seconds: int | None = None,
    epoch_slots: int | None = None,
    afresh: bool = False,
) -> Iterator[RunningChain]:
    """A fresh chain on a free port with our tokens on it, ended on leaving. Options as in `LocalChain.start`.

    `folder` gets `chain.json` and `node.log`; a second chain in the same test takes a folder of its own.
    A Hardhat without options is one that an earlier test gave back, if there is one (`tests.support.lent_hardhat`);
    `afresh`: never.
    """
    prepare_hardhat()
    options = (port, chain_id, block_seconds, epoch_slots)
    if NodeKind(kind) is NodeKind.HARDHAT and not afresh and options == (None,) * len(options):
        with lent_hardhat(folder / "local-chain") as node:
            yield RunningChain(node)
        return
    with LocalChain.start(
        kind,
        folder / "local-chain",
        port=port,
        chain_id=chain_id,
        block_seconds=block_seconds,
        epoch_slots=epoch_slots,
    ) as node:
        yield RunningChain(node)
