"""The audit of signatures' only SQL: what the chain's tables have of attempts and of what own addresses sent."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.signing import OwnKey, Role


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """An attempt that the signer answered: `raw` None when it refused. `key` is written `hot:0`."""

    network: str
    subject: str
    attempt: int
    key: str
    nonce: int
    raw: bytes | None
    sequence: int | None
    head: bytes | None
    signed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A live transaction on chain that an own address sent. `key` is written `hot:0`."""

    network: str
    tx_hash: str
    sender: str
    key: str
    nonce: int
    block_number: int


async def load_chain_ids(connection: AsyncConnection) -> dict[str, int]:
    """The chain id of every network on record, those of lost chains too, which attempts may name."""
    rows = await connection.execute(select(chain.networks.c.network, chain.networks.c.chain_id))
    return {row.network: row.chain_id for row in rows}


async def load_attempts(connection: AsyncConnection) -> list[StoredAttempt]:
    """Every attempt that the signer has answered, in the order of its journal."""
    own, made = chain.attempts.c, chain.transactions.c
    query = (
        select(chain.attempts, made.subject, made.sender_role, made.sender_generation, made.sender_index)
        .join(chain.transactions, made.id == own.transaction_id)
        .where(own.raw.is_not(None) | own.signer_sequence.is_not(None))
        .order_by(own.signer_sequence, own.transaction_id, own.attempt)
    )
    return [
        StoredAttempt(
            network=row.network,
            subject=row.subject,
            attempt=row.attempt,
            key=str(OwnKey(Role(row.sender_role), row.sender_index, row.sender_generation)),
            nonce=row.nonce,
            raw=None if row.raw is None else bytes(row.raw),
            sequence=row.signer_sequence,
            head=None if row.signer_head is None else bytes(row.signer_head),
            signed_at=row.signed_at,
        )
        for row in await connection.execute(query)
    ]


async def load_unanswered(connection: AsyncConnection) -> set[tuple[str, int]]:
    """Attempts by subject and number that were stored, and to which no answer of the signer is."""
    query = (
        select(chain.transactions.c.subject, chain.attempts.c.attempt)
        .join(chain.transactions, chain.transactions.c.id == chain.attempts.c.transaction_id)
        .where(chain.attempts.c.raw.is_(None), chain.attempts.c.signer_sequence.is_(None))
    )
    return {(row.subject, row.attempt) for row in await connection.execute(query)}


async def load_sent(connection: AsyncConnection) -> list[Sent]:
    """Every live transaction of an own address in blocks that were taken in."""
    seen, own = chain.outgoing.c, chain.addresses.c
    query = (
        select(chain.outgoing, own.role, own.generation, own.key_index)
        .join(chain.addresses, own.address == seen.sender)
        .where(~seen.orphaned)
        .order_by(seen.network, seen.sender, seen.nonce)
    )
    return [
        Sent(
            row.network,
            row.tx_hash,
            row.sender,
            str(OwnKey(Role(row.role), row.key_index, row.generation)),
            row.nonce,
            row.block_number,
        )
        for row in await connection.execute(query)
    ]
