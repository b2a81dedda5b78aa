"""SQL of what reconciliation compares: the journal's sums, own addresses, what is booked and what is under way."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Numeric,
    Select,
    Text,
    and_,
    func,
    literal,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store
from chain import tables as chain
from chain.networks import Deployment
from db.types import Amount
from ledger import tables as ledger
from ledger.outcomes import LineKind
from treasury.records import InFlight

GAS = "gas"
"""The place of what a transaction cost its sender."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far what was seen on a network was taken into account: blocks, and the order of recording."""

    block_number: int
    seq: int


def later(seen: Seen | None) -> list[ColumnElement[bool]]:
    """In a query of `chain_observations`: those that weren't taken into account; all, without `seen`."""
    row = chain.observations.c
    return [] if seen is None else [or_(row.block_number > seen.block_number, row.seq > seen.seq)]


def _number(amount: ColumnElement[int]) -> ColumnElement[Any]:
    """An amount to compute with: plain numeric, exact at any length and free to be negative."""
    return type_coerce(amount, Numeric())


async def load_in_flight(
    connection: AsyncConnection, deployment: Deployment, *, through: int, since: Seen | None
) -> list[InFlight]:
    """Live transfers of one asset through a block to or from own addresses that no entry accounts for on that side.

    `since`: what was recorded up to there is known to be booked; the book never takes an entry away.

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
                *later(since),
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


async def load_unbooked_gas(
    connection: AsyncConnection, native: Deployment, *, through: int, since: Seen | None
) -> list[InFlight]:
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
            *([] if since is None else [sent.block_number > since.block_number]),
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
