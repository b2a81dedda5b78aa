"""Making proofs of entries from the database: the canonical text of a command, and its path under its seal."""

from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import driver_of, tx
from ledger.canonical import command_row, id_key, instant_text, leaf_hash, line_row
from ledger.copying import copied, rows_of
from ledger.errors import BookCorrupt, EntryUnknown, NotSealed
from ledger.merkle import inclusion_path
from ledger.proofs import EntryProof, Metadata
from ledger.reading import book_number
from ledger.sealing import LEAVES, seal_over
from ledger.tables import commands

_LINES = text(
    "SELECT l.kind, d.name AS debit, c.name AS credit, l.amount::text, l.debit_balance::text, l.credit_balance::text,"
    " l.hold::text, l.hold_posting::text FROM ledger_lines l"
    " JOIN ledger_accounts d ON d.book = l.book AND d.account = l.debit"
    " JOIN ledger_accounts c ON c.book = l.book AND c.account = l.credit"
    " WHERE l.book = :book AND l.seq = :seq ORDER BY l.line"
)
_METADATA = text("SELECT salt, metadata FROM ledger_metadata WHERE book = :book AND seq = :seq")


async def prove_entry(engine: AsyncEngine, book: str, entry: str | int, *, with_metadata: bool = True) -> EntryProof:
    """The proof of a command, by its seq or its id.

    Raises EntryUnknown; NotSealed while the worker hasn't sealed it; BookCorrupt when its rows aren't what was sealed.
    """
    async with tx(engine) as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        number = await book_number(connection, book)
        row = await _command(connection, number, entry)
        if row is None:
            raise EntryUnknown(f"book {book} has no entry {str(entry)[:100]!r}", param="entry")
        signed = await seal_over(connection, book, row.seq)
        if signed is None:
            raise NotSealed(f"entry {row.seq} isn't sealed yet: the worker seals what waits every ten minutes")
        preimage = await _preimage(connection, number, book, row)
        if leaf_hash(preimage) != row.leaf:
            raise BookCorrupt(f"the rows of entry {row.seq} aren't what was booked: run `onebook audit`", seq=row.seq)
        seal = signed.seal
        found = await copied(await driver_of(connection), LEAVES, number, seal.first_seq, seal.last_seq)
        leaves = [bytes.fromhex(leaf.decode()) for _, leaf in (line.split(b"\t") for line in rows_of(found))]
        if len(leaves) != seal.size:
            raise BookCorrupt(f"commands under seal {seal.number} are missing: run `onebook audit`", seal=seal.number)
        path = tuple(inclusion_path(leaves, row.seq - seal.first_seq))
        shown = (await connection.execute(_METADATA, {"book": number, "seq": row.seq})).first()
    metadata = None if shown is None or not with_metadata else Metadata(shown.salt, shown.metadata)
    return EntryProof(preimage, path, signed, metadata)


async def _command(connection: AsyncConnection, number: int, entry: str | int) -> Row[Any] | None:
    seq: int | None = entry if isinstance(entry, int) else None
    if isinstance(entry, str):
        wanted = text("SELECT seq FROM ledger_ids WHERE book = :book AND key = :key")
        seq = await connection.scalar(wanted, {"book": number, "key": id_key(entry)})
    if seq is None or not 0 < seq < 2**63:
        return None
    query = select(commands).where(commands.c.book == number, commands.c.seq == seq)
    return (await connection.execute(query)).first()


async def _preimage(connection: AsyncConnection, number: int, book: str, row: Row[Any]) -> str:
    first = command_row(
        book=book,
        seq=row.seq,
        command_id=row.id,
        kind=row.kind,
        subject=row.subject,
        content=row.content,
        booked_at=instant_text(row.booked_at),
        refusal=row.refusal,
        detail=row.detail,
        effective_at=None if row.effective_at is None else instant_text(row.effective_at),
        metadata=row.metadata_hash,
    )
    rows = await connection.execute(_LINES, {"book": number, "seq": row.seq})
    return first + "".join(line_row(*(field for field in line if field is not None)) for line in rows)
