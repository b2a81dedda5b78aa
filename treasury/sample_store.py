"""SQL of samples: what own addresses are, what was seen of them, and what nodes said that they hold."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Numeric,
    Row,
    Text,
    delete,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    text,
    union,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ColumnElement

from chain import coin_store
from chain import tables as chain
from chain.networks import Network
from treasury.comparison_store import Seen, arrived, later, of_transfer
from treasury.samples import Deviation, Sample
from treasury.tables import samples


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """An own address (lower-case hex) and its role."""

    role: str
    address: str


@dataclass(frozen=True, slots=True)
class At:
    """A live block."""

    number: int
    block_hash: str
    mined_at: datetime


async def load_block(connection: AsyncConnection, network: str, number: int) -> At | None:
    """The live block at a height."""
    block = chain.blocks.c
    query = select(block.number, block.block_hash, block.mined_at).where(
        block.network == network, block.number == number, ~block.orphaned
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else At(row.number, row.block_hash, row.mined_at)


async def is_live(connection: AsyncConnection, network: str, block_hash: str) -> bool:
    """Whether the block is on the chain, as far as that was followed."""
    block = chain.blocks.c
    query = select(block.block_hash).where(block.network == network, block.block_hash == block_hash, ~block.orphaned)
    return (await connection.execute(query)).first() is not None


# Own addresses


async def fingerprint(connection: AsyncConnection, network: Network) -> tuple[int, int]:
    """How many own addresses there are, and a digest of them: it changes when they do."""
    own = chain.addresses.c
    hashed = func.hashtextextended(own.role.concat(own.address), literal(0))
    query = select(func.count(), func.coalesce(func.bit_xor(hashed), 0)).where(own.family == network.family)
    count, digest = (await connection.execute(query)).one()
    return int(count), int(digest)


async def load_own_addresses(connection: AsyncConnection, network: Network) -> list[OwnedBy]:
    """Every own address of the network's family, in order of issue."""
    own = chain.addresses.c
    query = select(own.role, own.address).where(own.family == network.family)
    ordered = query.order_by(own.role, own.generation, own.key_index)
    return [OwnedBy(role, address) for role, address in await connection.execute(ordered)]


async def last_seen(connection: AsyncConnection, network: str) -> int:
    """The number of the transfer that was recorded last. Recording takes turns, so none comes later below it."""
    query = select(func.max(chain.observations.c.seq)).where(chain.observations.c.network == network)
    return int(await connection.scalar(query) or 0)


async def anything_since(connection: AsyncConnection, network: str, seen: Seen) -> bool:
    """Whether a transfer or an own transaction was recorded since."""
    row, sent = chain.observations.c, chain.outgoing.c
    query = select(
        or_(
            exists().where(row.network == network, *later(seen)),
            exists().where(sent.network == network, sent.block_number > seen.block_number),
        )
    )
    return bool(await connection.scalar(query))


async def load_touched(connection: AsyncConnection, network: Network, seen: Seen) -> set[str]:
    """Own addresses of which something was seen since, and senders of own transactions."""
    row, sent, own = chain.observations.c, chain.outgoing.c, chain.addresses.c
    sides = [select(side.label("address")).where(row.network == network.name, *later(seen)) for side in
             (row.recipient, row.sender)]  # fmt: skip
    sides.append(
        select(sent.sender.label("address")).where(sent.network == network.name, sent.block_number > seen.block_number)
    )
    touched = union(*sides).subquery()
    query = select(own.address).where(own.family == network.family, own.address == touched.c.address)
    return set(await connection.scalars(query))


async def load_expected(
    connection: AsyncConnection, network: Network, *, through: int, only: Collection[str] | None = None
) -> dict[tuple[str | None, str], int]:
    """What was seen through a block comes to, in the chain's units, by (contract, own address): what arrived, less
    what left and what own transactions cost. `only`: of these addresses; what nothing was seen of is left out."""
    row, sent, own = chain.observations.c, chain.outgoing.c, chain.addresses.c
    live = (row.network == network.name, row.block_number <= through, ~row.orphaned)
    came = (
        select(row.contract, row.recipient.label("address"), _number(arrived()).label("amount"))
        .outerjoin(chain.arrivals, of_transfer())
        .where(*live, coin_store.counts(), *_among(row.recipient, only))
    )
    left = select(row.contract, row.sender.label("address"), (-_number(row.amount)).label("amount")).where(
        *live, coin_store.leaves(), *_among(row.sender, only)
    )
    paid = select(
        null().cast(Text).label("contract"), sent.sender.label("address"), (-_number(sent.fee_wei)).label("amount")
    ).where(sent.network == network.name, sent.block_number <= through, ~sent.orphaned, *_among(sent.sender, only))
    moved = union_all(came, left, paid).subquery()
    query = (
        select(moved.c.contract, moved.c.address, func.sum(moved.c.amount).label("amount"))
        .join(chain.addresses, (own.family == network.family) & (own.address == moved.c.address))
        .group_by(moved.c.contract, moved.c.address)
    )
    return {(found.contract, found.address): int(found.amount) for found in await connection.execute(query)}


def _number(amount: ColumnElement[Any]) -> ColumnElement[Any]:
    """An amount to compute with: plain numeric, free to be negative."""
    return amount.cast(Numeric)


def _among(address: ColumnElement[str], only: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if only is None else [address.in_(list(only))]


# Samples


async def keep_sample(connection: AsyncConnection, sample: Sample) -> None:
    """Keep a sample; another one of the same block is replaced."""
    values = {
        "block_number": sample.block_number,
        "mined_at": sample.mined_at,
        "taken_at": sample.taken_at,
        "held": {account: str(amount) for account, amount in sample.held.items()},
        "deviating": [asdict(one) | {"found": str(one.found)} for one in sample.deviating],
    }
    row = insert(samples).values(network=sample.network, block_hash=sample.block_hash, **values)
    await connection.execute(row.on_conflict_do_update(index_elements=["network", "block_hash"], set_=values))


async def newest_sample(
    connection: AsyncConnection,
    network: str,
    *,
    through: int | None = None,
    by: datetime | None = None,
    judged: bool = False,
) -> Sample | None:
    """The newest sample of a live block at most as high as `through`, and mined `by` then; `judged`: of those only."""
    of = samples.c
    live = exists().where(
        chain.blocks.c.network == of.network, chain.blocks.c.block_hash == of.block_hash, ~chain.blocks.c.orphaned
    )
    query = select(samples).where(of.network == network, live)
    if through is not None:
        query = query.where(of.block_number <= through)
    if by is not None:
        query = query.where(of.mined_at <= by)
    if judged:
        query = query.where(of.judged_at.is_not(None))
    row = (await connection.execute(query.order_by(of.block_number.desc()).limit(1))).one_or_none()
    return None if row is None else _sample(row)


async def first_sample_above(connection: AsyncConnection, network: str, number: int) -> int | None:
    """The number of the lowest judged sample's block above a height."""
    of = samples.c
    query = select(func.min(of.block_number)).where(
        of.network == network, of.block_number > number, of.judged_at.is_not(None)
    )
    found: int | None = await connection.scalar(query)
    return found


async def note_judged(connection: AsyncConnection, judged: Mapping[str, str], *, now: datetime) -> None:
    """These samples' blocks (hash by network) are final, and were compared with the book."""
    for network, block_hash in judged.items():
        is_it = (samples.c.network == network) & (samples.c.block_hash == block_hash)
        await connection.execute(update(samples).where(is_it, samples.c.judged_at.is_(None)).values(judged_at=now))


async def prune_samples(
    connection: AsyncConnection, networks: Sequence[str], *, now: datetime, every: timedelta, kept: timedelta
) -> None:
    """Drop samples of blocks that left the chain, those never judged below one that was, and thin out the old ones.

    Of judged ones older than `every` the latest of each hour stays, of those older than `kept` none but the newest.
    """
    of, block = samples.c, chain.blocks.c
    gone = exists().where(block.network == of.network, block.block_hash == of.block_hash, block.orphaned)
    newer = samples.alias("newer")
    passed_by = exists().where(
        newer.c.network == of.network, newer.c.block_number > of.block_number, newer.c.judged_at.is_not(None)
    )
    hourly = exists().where(
        newer.c.network == of.network,
        newer.c.block_number > of.block_number,
        newer.c.judged_at.is_not(None),
        func.date_trunc("hour", newer.c.mined_at) == func.date_trunc("hour", of.mined_at),
    )
    useless = or_(
        gone, of.judged_at.is_(None) & passed_by, (of.mined_at < now - every) & hourly, of.mined_at < now - kept
    )
    await connection.execute(delete(samples).where(of.network.in_(networks), useless, or_(gone, passed_by)))


def _sample(row: Row[Any]) -> Sample:
    return Sample(
        network=row.network,
        block_number=row.block_number,
        block_hash=row.block_hash,
        mined_at=row.mined_at,
        taken_at=row.taken_at,
        held={account: int(amount) for account, amount in row.held.items()},
        deviating=tuple(Deviation(**one | {"found": int(one["found"])}) for one in row.deviating),
        judged_at=row.judged_at,
    )


_BOOKED = text(
    """
    WITH own AS (
        SELECT a.book, a.account, a.name, coalesce(c.seq, 0) AS checked,
               coalesce(k.credits_posted::numeric, 0) - coalesce(k.debits_posted::numeric, 0) AS balance
          FROM ledger_books b JOIN ledger_accounts a ON a.book = b.number AND a.name = ANY(CAST(:accounts AS text[]))
          LEFT JOIN treasury_book_checks c ON c.book = a.book
          LEFT JOIN treasury_book_counters k ON k.book = a.book AND k.account = a.account
    ), elsewhere AS (
        SELECT e.book, e.seq FROM ledger_books b JOIN ledger_evidence e ON e.book = b.number
         WHERE e.network = :network AND e.block_number > :through
         UNION
        SELECT e.book, e.seq
          FROM chain_blocks gone, ledger_books b
          JOIN ledger_evidence e ON e.book = b.number
         WHERE gone.network = :network AND gone.orphaned AND gone.number <= :through
           AND e.network = :network AND e.block_number = gone.number AND e.block_hash = gone.block_hash
    ), moved AS (
        SELECT name, balance AS amount FROM own
         UNION ALL
        SELECT own.name, -l.amount::numeric FROM own JOIN ledger_lines l
            ON l.book = own.book AND l.debit = own.account AND l.seq > own.checked AND l.kind = 'posted'
         UNION ALL
        SELECT own.name, l.amount::numeric FROM own JOIN ledger_lines l
            ON l.book = own.book AND l.credit = own.account AND l.seq > own.checked AND l.kind = 'posted'
         UNION ALL
        SELECT own.name, CASE WHEN l.debit = own.account THEN l.amount::numeric ELSE -l.amount::numeric END
          FROM elsewhere e JOIN ledger_lines l ON l.book = e.book AND l.seq = e.seq AND l.kind = 'posted'
          JOIN own ON own.book = l.book AND own.account IN (l.debit, l.credit)
    )
    SELECT name, sum(amount) AS amount FROM moved GROUP BY name
    """
)


async def sum_through(
    connection: AsyncConnection, network: str, *, accounts: Sequence[str], through: int
) -> dict[str, int]:
    """Per account, credits less debits of posted lines, over all books, through block `through` of `network`.

    Entries of later blocks aren't counted, nor those of blocks that left the chain (their compensation carries the
    same block, so it isn't either). Entries without a block of this network always are. What the lines come to is
    carried on by the checks of each book; lines that none has checked yet are read.
    """
    rows = await connection.execute(_BOOKED, {"accounts": list(accounts), "network": network, "through": through})
    return dict.fromkeys(accounts, 0) | {row.name: int(row.amount) for row in rows}
