"""SQL of proofs of control that were made elsewhere and handed in."""

from datetime import datetime
from typing import Literal, cast

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from treasury.solvency_statements import ControlTold
from treasury.tables import handed_controls


async def load(connection: AsyncConnection, book: str, number: int) -> list[ControlTold]:
    """All of an epoch, by network and address."""
    own = handed_controls.c
    query = select(handed_controls).where(own.book == book, own.number == number).order_by(own.network, own.address)
    return [
        ControlTold(
            network=row.network,
            address=row.address,
            signature=bytes(row.signature).hex(),
            kind=cast("Literal['key', 'contract']", row.kind),
            block_number=row.block_number,
            block_hash=row.block_hash,
        )
        for row in await connection.execute(query)
    ]


async def store(connection: AsyncConnection, book: str, number: int, control: ControlTold, *, now: datetime) -> bool:
    """Keep one; False where there is one of this address already."""
    row = {
        "book": book,
        "number": number,
        "network": control.network,
        "address": control.address,
        "kind": control.kind,
        "signature": bytes.fromhex(control.signature),
        "block_number": control.block_number,
        "block_hash": control.block_hash,
        "handed_at": now,
    }
    kept = await connection.execute(insert(handed_controls).values(row).on_conflict_do_nothing())
    return bool(kept.rowcount)
