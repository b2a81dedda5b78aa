"""SQL of what reconciliation compares: the journal's sums, own addresses, what is booked and what is under way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Numeric,
    Row,
    Select,
    Text,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    type_coerce,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store
from chain import tables as chain
from chain.networks import Deployment, Network
from db.types import Amount
from ledger import tables as ledger
from ledger.outcomes import LineKind
from treasury.comparison import COUNTERS, Counters
from treasury.records import InFlight

GAS = "gas"
"""The place of what a transaction cost its sender."""


async def load_counters(connection: AsyncConnection, book: str) -> list[Counters]:
    """Every account of a book: what is stored, and what its lines add up to."""
    line, amount = ledger.lines.c, _number(ledger.lines.c.amount)
    number = select(ledger.books.c.number).where(ledger.books.c.book == book).scalar_subquery()
    posted = case((line.kind == LineKind.POSTED, amount), else_=0)
    pending = case(
        (line.kind == LineKind.HELD, amount),
        (or_(line.kind == LineKind.RELEASED, line.hold.is_not(None)), -amount),
        else_=0,
    )
    sides = []
    for side, other in ((line.debit, False), (line.credit, True)):
        zero = literal(0)
        columns = (zero, posted, zero, pending) if other else (posted, zero, pending, zero)
        named = [column.label(name) for name, column in zip(COUNTERS, columns, strict=True)]
        sides.append(select(side.label("account"), *named).where(line.book == number))
    both = union_all(*sides).subquery()
    sums = [func.sum(both.c[name]).label(f"journal_{name}") for name in COUNTERS]
    journal = select(both.c.account, *sums).group_by(both.c.account).subquery()
    query = (
        select(ledger.accounts, *(journal.c[f"journal_{name}"] for name in COUNTERS))
        .join(journal, journal.c.account == ledger.accounts.c.account, isouter=True)
        .where(ledger.accounts.c.book == number)
        .order_by(ledger.accounts.c.name)
    )
    return [
        Counters(
            account=row.name,
            asset=row.asset,
            stored=_four(row, ""),
            journal=_four(row, "journal_"),
        )
        for row in await connection.execute(query)
    ]


def _number(amount: ColumnElement[int]) -> ColumnElement[Any]:
    """An amount to compute with: plain numeric, exact at any length and free to be negative."""
    return type_coerce(amount, Numeric())


def _four(row: Row[Any], prefix: str) -> tuple[int, int, int, int]:
    first, second, third, fourth = (int(getattr(row, prefix + name) or 0) for name in COUNTERS)
    return first, second, third, fourth


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """An own address (lower-case hex) and its role."""

    role: str
    address: str


async def load_own_addresses(connection: AsyncConnection, network: Network) -> list[OwnedBy]:
    """Every own address of the network's family, in order of issue."""
    own = chain.addresses.c
    query = select(own.role, own.address).where(own.family == network.family)
    ordered = query.order_by(own.role, own.generation, own.key_index)
    return [OwnedBy(row.role, row.address) for row in await connection.execute(ordered)]


async def load_block_hash(connection: AsyncConnection, network: str, number: int) -> str | None:
    """The hash of the live block at a height."""
    block = chain.blocks.c
    query = select(block.block_hash).where(block.network == network, block.number == number, ~block.orphaned)
    return (await connection.execute(query)).scalar_one_or_none()


async def sum_through(
    connection: AsyncConnection, network: str, *, accounts: Sequence[str], through: int
) -> dict[str, int]:
    """Per account, credits less debits of posted lines, over all books, through block `through` of `network`.

    Entries of later blocks aren't counted, nor those of blocks that left the chain (their compensation carries the
    same block, so it isn't either). Entries without a block of this network always are.
    """
    said, line, own = ledger.evidences.c, ledger.lines.c, ledger.accounts.c
    live = exists().where(
        chain.blocks.c.network == said.network,
        chain.blocks.c.block_hash == said.block_hash,
        ~chain.blocks.c.orphaned,
    )
    counted = or_(said.network.is_distinct_from(network), and_(said.block_number <= through, live))
    sides = [
        select(own.name.label("account"), (_number(line.amount) * sign).label("amount"))
        .select_from(ledger.accounts)
        .join(ledger.lines, and_(line.book == own.book, side == own.account))
        .join(ledger.evidences, and_(said.book == line.book, said.seq == line.seq), isouter=True)
        .where(line.kind == LineKind.POSTED, own.name.in_(accounts), counted)
        for side, sign in ((line.debit, -1), (line.credit, 1))
    ]
    both = union_all(*sides).subquery()
    rows = await connection.execute(select(both.c.account, func.sum(both.c.amount)).group_by(both.c.account))
    return dict.fromkeys(accounts, 0) | {account: int(total) for account, total in rows}


async def load_in_flight(connection: AsyncConnection, deployment: Deployment, *, through: int) -> list[InFlight]:
    """Live transfers of one asset through a block to or from own addresses that no entry accounts for on that side.

    Amounts are the chain's units, positive where an own address received. A transfer between two roles has two sides.
    """
    seen, own = chain.observations.c, chain.addresses.c
    found = []
    for address, receives in ((seen.recipient, True), (seen.sender, False)):
        account = _custody_text(deployment, own.role)
        booked = _booked(account, receives=receives).where(
            ledger.evidences.c.network == seen.network,
            ledger.evidences.c.block_number == seen.block_number,
            ledger.evidences.c.block_hash == seen.block_hash,
            ledger.evidences.c.tx_hash == seen.tx_hash,
            ledger.evidences.c.place == seen.place,
        )
        query = (
            select(
                chain.observations, account.label("account"), arrived() if receives else seen.amount.label("arrived")
            )
            .join(chain.addresses, own.address == address)
            .outerjoin(chain.arrivals, of_transfer())
            .where(
                seen.network == deployment.network,
                seen.block_number <= through,
                ~seen.orphaned,
                seen.contract.is_not_distinct_from(deployment.contract),
                coin_store.counts() if receives else coin_store.leaves(),
                ~booked.exists(),
            )
        )
        found += [
            InFlight(
                network=row.network,
                account=row.account,
                asset=deployment.asset,
                amount=row.arrived if receives else -row.arrived,
                block_number=row.block_number,
                tx_hash=row.tx_hash,
                place=row.place,
                seen_at=row.seen_at,
            )
            for row in await connection.execute(query)
            if row.arrived
        ]
    return found


def of_transfer() -> Any:
    """The arrival of an observation, in a join."""
    columns = chain.arrivals.primary_key
    return and_(*(chain.arrivals.c[column.name] == chain.observations.c[column.name] for column in columns))


def arrived() -> Any:
    """What arrived of an observation, as far as it was measured, else what was told."""
    return func.coalesce(chain.arrivals.c.amount, chain.observations.c.amount, type_=Amount()).label("arrived")


async def load_unbooked_gas(connection: AsyncConnection, native: Deployment, *, through: int) -> list[InFlight]:
    """Live transactions that own addresses sent through a block, whose gas isn't booked; amounts in wei, negative."""
    sent, own = chain.outgoing.c, chain.addresses.c
    account = _custody_text(native, own.role)
    payer = ledger.accounts.alias()
    booked = (
        _booked(account, receives=False)
        .join(payer, and_(payer.c.book == ledger.lines.c.book, payer.c.account == ledger.lines.c.debit))
        .where(
            or_(
                payer.c.name == f"house/network-fees/{native.asset}",
                and_(payer.c.name == f"house/suspense/{native.asset}", ledger.evidences.c.place == GAS),  # not ours
            ),
            ledger.evidences.c.network == sent.network,
            ledger.evidences.c.block_number == sent.block_number,
            ledger.evidences.c.block_hash == sent.block_hash,
            ledger.evidences.c.tx_hash == sent.tx_hash,
        )
    )
    query = (
        select(chain.outgoing, account.label("account"))
        .join(chain.addresses, own.address == sent.sender)
        .where(
            sent.network == native.network,
            sent.block_number <= through,
            ~sent.orphaned,
            sent.fee_wei > 0,
            ~booked.exists(),
        )
    )
    return [
        InFlight(
            network=row.network,
            account=row.account,
            asset=native.asset,
            amount=-row.fee_wei,
            block_number=row.block_number,
            tx_hash=row.tx_hash,
            place=GAS,
            seen_at=row.seen_at,
        )
        for row in await connection.execute(query)
    ]


def _custody_text(deployment: Deployment, role: ColumnElement[str]) -> ColumnElement[str]:
    before, after = f"house/custody:{deployment.network}:", f"/{deployment.asset}"
    return literal(before, Text).concat(role).concat(literal(after, Text))


def _booked(account: ColumnElement[str], *, receives: bool) -> Select[Any]:
    """Posted lines on one side of an account, with their evidence; custody is an asset: what arrives debits it."""
    line, said, own = ledger.lines.c, ledger.evidences.c, ledger.accounts.c
    side = line.debit if receives else line.credit
    return (
        select(literal(1))
        .select_from(ledger.evidences)
        .join(ledger.lines, and_(line.book == said.book, line.seq == said.seq))
        .join(ledger.accounts, and_(own.book == line.book, own.account == side))
        .where(line.kind == LineKind.POSTED, own.name == account)
        .correlate(chain.observations, chain.outgoing, chain.addresses)
    )
