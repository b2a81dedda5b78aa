"""SQL of epochs' anchors: own transactions, found by the hash that they write."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Text, any_, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.payments import OwnTransaction
from chain.transaction_states import Kind
from chain.transaction_store import transaction_of
from treasury.tables import solvency_epochs


@dataclass(frozen=True, slots=True)
class SealedEpoch:
    """An epoch that a seal covers: its number, and its hash in 64 hex digits."""

    number: int
    digest: str


async def load_anchors(
    connection: AsyncConnection, book: str, digests: Sequence[str]
) -> dict[str, list[OwnTransaction]]:
    """The transactions that write, or were to write, each of these hashes, the oldest first."""
    own = chain.transactions.c
    root = own.order["root"].astext
    wanted = root == any_(literal(list(digests), ARRAY(Text)))
    query = select(chain.transactions).where(own.book == book, own.kind == Kind.ANCHOR, wanted).order_by(own.id)
    found: dict[str, list[OwnTransaction]] = {}
    for row in await connection.execute(query):
        found.setdefault(row.order["root"], []).append(transaction_of(row))
    return found


async def load_sealed(connection: AsyncConnection, book: str, *, limit: int) -> list[SealedEpoch]:
    """Sealed epochs, the latest first."""
    own = solvency_epochs.c
    query = select(own.number, own.digest).where(own.book == book, own.seal.is_not(None))
    rows = await connection.execute(query.order_by(own.number.desc()).limit(limit))
    return [SealedEpoch(row.number, row.digest) for row in rows]


async def lock_epoch(connection: AsyncConnection, book: str, number: int) -> None:
    """Let nobody else begin to anchor this epoch until the tx ends."""
    own = solvency_epochs.c
    await connection.execute(select(own.number).where(own.book == book, own.number == number).with_for_update())
