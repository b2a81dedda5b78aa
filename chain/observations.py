"""What is seen in a block: where it stands in the chain, transfers of ours, transactions that we sent. Pure.

Addresses and hashes are lower-case hex; amounts are chain units; prices and fees are wei.
"""

from dataclasses import dataclass
from datetime import datetime

NOBODY = "0x0000000000000000000000000000000000000000"
"""The sender of what the block itself pays, and of a surplus. Their `tx_hash` is the block's hash, for want of one."""


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block's place in the chain."""

    number: int
    block_hash: str
    parent_hash: str


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Nodes of one network tell different blocks at `height`; `told`: (node, block hash), by node.

    `stops`: too few tell the same for one of the blocks to be believed.
    """

    height: int
    told: tuple[tuple[str, str], ...]
    stops: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """A transfer to or from an own address. `place` says where it is told (`chain.coins` names the native coin's).

    `tx_hash` is the block's own hash where no transaction did it: see `NOBODY`.
    """

    tx_hash: str
    place: str
    contract: str | None
    sender: str
    recipient: str
    amount: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A transaction that an own address sent, whoever made it. `recipient` None: it made a contract."""

    tx_hash: str
    sender: str
    nonce: int
    recipient: str | None
    succeeded: bool
    gas_used: int
    effective_gas_price: int

    @property
    def fee_wei(self) -> int:
        """What the sender paid the network."""
        return self.gas_used * self.effective_gas_price


@dataclass(frozen=True, slots=True)
class SeenBlock:
    """What one block says about us. `verified`: its hash and roots were recomputed."""

    ref: BlockRef
    mined_at: datetime
    base_fee_per_gas: int
    verified: bool
    observations: tuple[Observation, ...]
    outgoing: tuple[Outgoing, ...]
