"""Rows of proofs of control: the only SQL about them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_nothing
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.networks import Family
from chain.signing import OwnAddress, OwnKey, Role, Signed

_own = tables.controls
_known = tables.addresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What an address's key is to sign, and did: an epoch's number and root. `refusal`: why the signer wouldn't."""

    book: str
    subject: str
    network: str
    owner: OwnAddress
    epoch: int
    root: bytes
    signature: bytes | None = None
    refusal: str | None = None


async def load_owners(connection: AsyncConnection, family: Family, addresses: Collection[str]) -> dict[str, OwnAddress]:
    """The keys of own addresses, by address; what isn't ours to sign for is left out."""
    query = select(_known).where(_known.c.family == family, _known.c.address.in_(addresses))
    return {
        row.address: OwnAddress(OwnKey(Role(row.role), row.key_index, row.generation), row.address)
        for row in await connection.execute(query)
    }


async def insert(connection: AsyncConnection, wanted: Sequence[Control], *, now: datetime) -> None:
    """What the signer is about to be asked, unless its subject is on record."""
    rows = [
        {
            "book": one.book,
            "subject": one.subject,
            "network": one.network,
            "role": one.owner.key.role,
            "generation": one.owner.key.generation,
            "key_index": one.owner.key.index,
            "address": one.owner.address,
            "epoch": one.epoch,
            "root": one.root,
            "created_at": now,
        }
        for one in wanted
    ]
    if rows:
        await connection.execute(
            insert_or_nothing(_own).on_conflict_do_nothing(index_elements=["book", "subject"]), rows
        )


async def load(connection: AsyncConnection, book: str, epoch: int) -> list[Control]:
    """All of an epoch, by network and address."""
    query = select(_own).where(_own.c.book == book, _own.c.epoch == epoch)
    return [
        Control(
            book=row.book,
            subject=row.subject,
            network=row.network,
            owner=OwnAddress(OwnKey(Role(row.role), row.key_index, row.generation), row.address),
            epoch=row.epoch,
            root=bytes(row.root),
            signature=None if row.signature is None else bytes(row.signature),
            refusal=row.refusal,
        )
        for row in await connection.execute(query.order_by(_own.c.network, _own.c.address))
    ]


async def store_signature(connection: AsyncConnection, known: Control, signed: Signed, *, now: datetime) -> None:
    """The signer's answer, before anybody gets it."""
    change = {
        "signature": signed.raw,
        "signer_sequence": signed.sequence,
        "signer_head": signed.head,
        "signed_at": now,
    }
    await connection.execute(update(_own).where(_this(known), _own.c.signature.is_(None)).values(change))


async def store_refusal(
    connection: AsyncConnection, known: Control, why: str, journal: tuple[int, bytes] | None
) -> None:
    """Why the signer wouldn't, and where its journal stood after that."""
    change: dict[str, object] = {"refusal": why}
    if journal is not None:
        change |= {"signer_sequence": journal[0], "signer_head": journal[1]}
    await connection.execute(update(_own).where(_this(known), _own.c.signature.is_(None)).values(change))


def _this(one: Control) -> ColumnElement[bool]:
    return (_own.c.book == one.book) & (_own.c.subject == one.subject)
