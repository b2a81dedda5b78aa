"""What the ledger's lines say of custody on a chain that is gone: the only SQL about it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Numeric, and_, case, exists, func, literal, or_, select, type_coerce, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from ledger import tables as ledger
from ledger.commands import ChainEvidence
from ledger.outcomes import LineKind


@dataclass(frozen=True, slots=True)
class LostSum:
    """What lines of one custody account come to that name one place on a chain that is gone, or none on any chain.

    `debits` and `credits` are posted smallest units; `evidence` is None for lines without a block of the network.
    """

    account: str
    asset: str
    evidence: ChainEvidence | None
    debits: int
    credits: int


async def load_lost_sums(connection: AsyncConnection, book: str, network: str) -> list[LostSum]:
    """What doesn't come to zero in `network`'s custody of entries whose block isn't live, and of those without one.

    It's what `treasury.comparison_store.sum_through` leaves out for good, and what it counts for ever.
    """
    said, line, own = ledger.evidences.c, ledger.lines.c, ledger.accounts.c
    number = select(ledger.books.c.number).where(ledger.books.c.book == book).scalar_subquery()
    live = exists().where(
        chain.blocks.c.network == said.network,
        chain.blocks.c.block_hash == said.block_hash,
        ~chain.blocks.c.orphaned,
    )
    here = said.network == network
    place = [said.block_number, said.block_hash, said.tx_hash, said.place]
    columns = [case((here, column)).label(column.name) for column in place]
    sides = []
    for side, is_debit in ((line.debit, True), (line.credit, False)):
        amount: ColumnElement[Any] = type_coerce(line.amount, Numeric())  # free to be summed
        zero: ColumnElement[Any] = literal(0)
        both = (amount, zero) if is_debit else (zero, amount)
        named = [column.label(name) for name, column in zip(("debits", "credits"), both, strict=True)]
        sides.append(
            select(own.name.label("account"), own.asset, *columns, *named)
            .select_from(ledger.accounts)
            .join(ledger.lines, and_(line.book == own.book, side == own.account))
            .join(ledger.evidences, and_(said.book == line.book, said.seq == line.seq), isouter=True)
            .where(own.book == number, line.kind == LineKind.POSTED, own.name.startswith(f"house/custody:{network}:"))
            .where(or_(said.network.is_distinct_from(network), ~live))
        )
    lines = union_all(*sides).subquery().c
    names = [lines.account, lines.asset, lines.block_number, lines.block_hash, lines.tx_hash, lines.place]
    debits, credits = func.sum(lines.debits), func.sum(lines.credits)
    query = select(*names, debits.label("debits"), credits.label("credits")).group_by(*names)
    rows = await connection.execute(query.having(debits != credits).order_by(lines.block_number, lines.account))
    return [
        LostSum(
            account=row.account,
            asset=row.asset,
            evidence=None
            if row.block_hash is None
            else ChainEvidence(network, row.block_number, row.block_hash, row.tx_hash, row.place),
            debits=int(row.debits),
            credits=int(row.credits),
        )
        for row in rows
    ]
