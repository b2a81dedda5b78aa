"""What a follower would have recorded, block by block: the chain's own store writes it, only the node is left out."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import ManualClock
from chain import store, tables, token_store
from chain.networks import Network
from chain.observations import BlockRef, Observation, Outgoing, SeenBlock
from chain.signing import OwnKey
from chain.tokens import TokenState
from db.engine import tx

GENESIS = "0x" + "00" * 32


def digest(*parts: object) -> str:
    """A hash in the form of a block's or a transaction's."""
    return "0x" + hashlib.sha256(repr(parts).encode()).hexdigest()


class DerivedAddresses:
    """Addresses from a hash of the key's name: nobody holds them."""

    can_derive = True

    def address(self, key: OwnKey) -> str:
        return digest("address", str(key))[:42]


@dataclass
class ScriptedChain:
    """A network whose blocks the test writes. Heights begin at 0, at the network's start height."""

    engine: AsyncEngine
    network: Network
    clock: ManualClock
    hashes: list[str] = field(default_factory=list)
    branch: int = 0

    @property
    def height(self) -> int:
        return len(self.hashes) - 1

    async def begin(self, **tokens: int) -> None:
        """The first block, with `tokens` accepted: decimals by contract."""
        async with tx(self.engine) as connection:
            await store.make_known(connection, self.network, genesis_hash=GENESIS, now=self.clock.now())
            await store.begin_epoch(connection, self.network.name, leader="script")
            for contract, decimals in tokens.items():
                state = TokenState(code_hash=digest("code"), decimals=decimals)
                await token_store.accept(
                    connection,
                    self.network.name,
                    contract,
                    state,
                    height=0,
                    block_hash=GENESIS,
                    by=None,
                    now=self.clock.now(),
                )
        await self.mine()

    async def mine(self, *seen: Observation, sent: tuple[Outgoing, ...] = (), final: bool = True) -> str:
        """Add a block with these transfers, of which all arrived; its hash. Finality follows at the final depth.

        `sent` are transactions that own addresses sent in it.

        A transfer without transaction is the block's own.
        """
        number = len(self.hashes)
        parent = self.hashes[-1] if self.hashes else GENESIS
        told = [(transfer.tx_hash, transfer.place) for transfer in seen]
        block_hash = digest(number, parent, self.branch, told, [one.tx_hash for one in sent])
        seen = tuple(transfer if transfer.tx_hash else replace(transfer, tx_hash=block_hash) for transfer in seen)
        self.clock.advance(timedelta(seconds=1))
        block = SeenBlock(
            BlockRef(number, block_hash, parent), self.clock.now(), 10**9, True, observations=seen, outgoing=sent
        )
        async with tx(self.engine) as connection:
            at, now = await self._at(connection), self.clock.now()
            await store.add_blocks(connection, at, [block], head_height=number, now=now)
            rows = [
                {
                    "network": self.network.name,
                    "block_hash": block_hash,
                    "tx_hash": transfer.tx_hash,
                    "place": transfer.place,
                    "amount": transfer.amount,
                    "balance_before": 0,
                    "balance_after": transfer.amount,
                    "measured_at": self.clock.now(),
                }
                for transfer in seen
                if transfer.contract is not None
            ]
            await token_store.insert_arrivals(connection, rows)
            depth = self.network.final_depth
            assert depth is not None
            if final and number - depth + 1 >= 0:
                await store.raise_final_height(connection, await self._at(connection), number - depth + 1)
        self.hashes.append(block_hash)
        return block_hash

    async def mine_empty(self, count: int) -> None:
        for _ in range(count):
            await self.mine()

    async def reorg(self, depth: int, *, halted: str | None = None) -> None:
        """Take back the last `depth` blocks; what is mined next is another branch."""
        self.hashes = self.hashes[:-depth]
        self.branch += 1
        async with tx(self.engine) as connection:
            before = await self._at(connection)
            height, block_hash = self.height, self.hashes[-1]
            await store.go_back(
                connection, before, height=height, block_hash=block_hash, halted=halted, now=self.clock.now()
            )

    async def set_transaction(self, subject: str, **columns: object) -> None:
        """What the broadcaster would have written to an own transaction's row."""
        async with tx(self.engine) as connection:
            own = tables.transactions
            changed = await connection.execute(update(own).where(own.c.subject == subject).values(**columns))
            assert changed.rowcount == 1

    async def _at(self, connection):
        at = await store.followed(connection, self.network.name)
        assert at is not None
        return at


def paid(to: str, amount: int, *, contract: str | None, tx_hash: str, place: str = "log:0", sender: str | None = None):
    """A transfer to `to`, from a stranger unless `sender` is given."""
    return Observation(
        tx_hash=tx_hash,
        place=place,
        contract=contract,
        sender=sender or digest("stranger")[:42],
        recipient=to,
        amount=amount,
    )
