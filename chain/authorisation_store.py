"""Rows of authorisations: the only SQL about them."""

from datetime import datetime

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_nothing
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.payments import Authorisation
from chain.signing import OwnAddress, OwnKey, Role, Signed

_own = tables.authorisations


async def insert(connection: AsyncConnection, wanted: Authorisation, *, now: datetime) -> None:
    """What the signer is about to be asked, unless its subject is on record."""
    values = {
        "book": wanted.book,
        "subject": wanted.subject,
        "network": wanted.network,
        "contract": wanted.contract,
        "domain_name": wanted.domain_name,
        "domain_version": wanted.domain_version,
        "owner_generation": wanted.owner.key.generation,
        "owner_index": wanted.owner.key.index,
        "owner": wanted.owner.address,
        "recipient_role": wanted.to.key.role,
        "recipient_generation": wanted.to.key.generation,
        "recipient_index": wanted.to.key.index,
        "recipient": wanted.to.address,
        "amount": wanted.amount,
        "nonce": wanted.nonce.hex(),
        "valid_before": wanted.valid_before,
        "created_at": now,
    }
    await connection.execute(
        insert_or_nothing(_own).values(values).on_conflict_do_nothing(index_elements=["book", "subject"])
    )


async def load(connection: AsyncConnection, wanted: Authorisation) -> Authorisation:
    """The authorisation that is on record under this subject; it must be."""
    row = (await connection.execute(select(_own).where(_this(wanted)))).one()
    to = OwnKey(Role(row.recipient_role), row.recipient_index, row.recipient_generation)
    return Authorisation(
        network=row.network,
        chain_id=wanted.chain_id,
        book=row.book,
        subject=row.subject,
        owner=OwnAddress(OwnKey(Role.DEPOSIT, row.owner_index, row.owner_generation), row.owner),
        contract=row.contract,
        domain_name=row.domain_name,
        domain_version=row.domain_version,
        to=OwnAddress(to, row.recipient),
        amount=row.amount,
        valid_before=row.valid_before,
        signature=None if row.signature is None else bytes(row.signature),
    )


async def store_signature(connection: AsyncConnection, known: Authorisation, signed: Signed, *, now: datetime) -> None:
    """The signer's answer, before anybody gets it."""
    change = {
        "signature": signed.raw,
        "signer_sequence": signed.sequence,
        "signer_head": signed.head,
        "signed_at": now,
    }
    await connection.execute(update(_own).where(_this(known), _own.c.signature.is_(None)).values(change))


async def note_journal(connection: AsyncConnection, known: Authorisation, journal: tuple[int, bytes]) -> None:
    """Where the signer's journal stood after it refused."""
    change = {"signer_sequence": journal[0], "signer_head": journal[1]}
    await connection.execute(update(_own).where(_this(known)).values(change))


def _this(one: Authorisation) -> ColumnElement[bool]:
    return (_own.c.book == one.book) & (_own.c.subject == one.subject)
