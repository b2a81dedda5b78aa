"""Rows of what own addresses did without us, and of what they were when last looked at: the only SQL about them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Text,
    and_,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, tables
from chain.foreign import (
    AccountState,
    Departure,
    Finding,
    Kind,
    KnownState,
    OpenFinding,
    Sent,
    foreign_outflow,
    foreign_transaction,
)
from chain.networks import Family
from chain.observations import BlockRef
from chain.signing import Role
from chain.transaction_states import Kind as Purpose

_seen = tables.observations
_outgoing = tables.outgoing
_own = tables.addresses
_attempts = tables.attempts
_transactions = tables.transactions
_findings = tables.sender_findings
_states = tables.sender_states
_blocks = tables.blocks


def ours(network: ColumnElement[str], tx_hash: ColumnElement[str], sender: ColumnElement[str]) -> ColumnElement[bool]:
    """In a query of what left `sender` in a transaction: it is one of our own, which explains it.

    A withdrawal, or a batch of them, explains what leaves the address that pays it, and nothing else: its recipient, a
    contract, could draw on allowances of our other addresses meanwhile. What we move between our own may leave others
    than its sender.
    """
    return exists().where(
        _attempts.c.network == network,
        _attempts.c.tx_hash == tx_hash,
        _transactions.c.id == _attempts.c.transaction_id,
        or_(_transactions.c.kind.not_in((Purpose.WITHDRAWAL, Purpose.BATCH)), _transactions.c.sender == sender),
    )


def authorised() -> ColumnElement[bool]:
    """In a query of observations: a transfer that our signature allows (EIP-3009), whoever carried it to the token.

    It brings the very amount that was signed for to the very address of ours, so it's a sweep.
    """
    seen, signed = _seen.c, tables.authorisations.c
    return exists().where(
        signed.network == seen.network,
        signed.contract == seen.contract,
        signed.owner == seen.sender,
        signed.recipient == seen.recipient,
        signed.amount == seen.amount,
        signed.signature.is_not(None),
    )


def told_by(network: str) -> Select[tuple[str]]:
    """The transactions that findings on `network` tell of, and the blocks in which others were made: a few at most."""
    f = _findings.c
    return select(func.coalesce(f.tx_hash, f.block_hash)).where(f.network == network)


async def halted_senders(connection: AsyncConnection, network: str) -> dict[str, str]:
    """The addresses for which nothing may be reserved or signed on `network`, and why: the first thing found."""
    f = _findings.c
    asked = select(f.address, f.words).where(f.network == network, f.closed_at.is_(None)).order_by(f.seq.desc())
    return {row.address: row.words for row in await connection.execute(asked)}


async def load_open(connection: AsyncConnection, network: str, *, address: str | None = None) -> list[OpenFinding]:
    """What nobody has accepted yet on `network`, at one address or all, the oldest first."""
    f = _findings.c
    asked = select(_findings).where(f.network == network, f.closed_at.is_(None))
    if address is not None:
        asked = asked.where(f.address == address)
    return [_open(row) for row in await connection.execute(asked.order_by(f.seq))]


async def load_roles(connection: AsyncConnection, family: Family, addresses: Collection[str]) -> dict[str, str]:
    """The roles of these own addresses."""
    mine = (_own.c.family == family) & _own.c.address.in_(sorted(addresses))
    asked = select(_own.c.address, _own.c.role).where(mine)
    return {row.address: row.role for row in await connection.execute(asked)}


async def load_foreign_transactions(
    connection: AsyncConnection, network: str, *, above: int, limit: int
) -> list[Finding]:
    """Live transactions above a height that own addresses sent and we didn't, none that was found before."""
    sent = _outgoing.c
    asked = select(_outgoing).where(
        sent.network == network,
        sent.block_number > above,
        ~sent.orphaned,
        ~ours(sent.network, sent.tx_hash, sent.sender),
        ~_found(sent.network, sent.sender, [Kind.TRANSACTION], sent.tx_hash),
    )
    rows = await connection.execute(asked.order_by(sent.block_number, sent.sender, sent.nonce).limit(limit))
    return [
        foreign_transaction(row.sender, row.tx_hash, row.nonce, BlockRef(row.block_number, row.block_hash, ""))
        for row in rows
    ]


async def load_foreign_outflows(
    connection: AsyncConnection,
    network: str,
    family: Family,
    *,
    contracts: Sequence[str],
    above: int,
    late: int,
    limit: int,
) -> list[Finding]:
    """What left own addresses in transactions of others in live blocks above a height, or was told since `late`.

    Of the native coin and the tokens `contracts`: any contract can write that a token of its own left us. None that was
    found before, or that a transaction of that very address did, which is found as such.
    """
    seen, sent = _seen.c, _outgoing.c
    by_itself = exists().where(
        sent.network == seen.network,
        sent.block_hash == seen.block_hash,
        sent.tx_hash == seen.tx_hash,
        sent.sender == seen.sender,
    )
    what = seen.tx_hash.concat(literal("/", Text)).concat(seen.place)
    asked = (
        select(_seen)
        .join(_own, and_(_own.c.family == family, _own.c.address == seen.sender))
        .where(
            seen.network == network,
            or_(seen.block_number > above, seen.late > late),
            ~seen.orphaned,
            or_(seen.contract.is_(None), seen.contract.in_(contracts)),
            coin_store.leaves(),
            ~by_itself,
            ~ours(seen.network, seen.tx_hash, seen.sender),
            ~authorised(),
            ~_found(seen.network, seen.sender, [Kind.OUTFLOW, Kind.BALANCE], what),
        )
    )
    return [
        foreign_outflow(
            Departure(
                address=row.sender,
                tx_hash=row.tx_hash,
                place=row.place,
                contract=row.contract,
                recipient=row.recipient,
                amount=row.amount,
                block_number=row.block_number,
                block_hash=row.block_hash,
            )
        )
        for row in await connection.execute(asked.order_by(seen.seq).limit(limit))
    ]


async def add_findings(connection: AsyncConnection, network: str, found: Sequence[Finding], *, now: datetime) -> int:
    """Record findings, each once for good; how many are new."""
    if not found:
        return 0
    rows = [
        {
            "network": network,
            "address": one.address,
            "kind": one.kind,
            "what": one.what,
            "tx_hash": one.tx_hash,
            "block_number": one.block_number,
            "block_hash": one.block_hash,
            "words": one.words,
            "found_at": now,
        }
        for one in found
    ]
    added = await connection.execute(insert(_findings).values(rows).on_conflict_do_nothing().returning(_findings.c.seq))
    return len(added.all())


async def close_findings(
    connection: AsyncConnection, seqs: Sequence[int], *, by: str, reason: str, now: datetime
) -> int:
    """A person accepts these; how many were still open."""
    still = _findings.c.seq.in_(seqs) & _findings.c.closed_at.is_(None)
    closed = await connection.execute(
        update(_findings).where(still).values(closed_at=now, closed_by=by, reason=reason).returning(_findings.c.seq)
    )
    return len(closed.all())


async def close_explained(connection: AsyncConnection, network: str, *, now: datetime) -> int:
    """Close what a transaction of ours explains by now: a database that was put back had forgotten it."""
    f = _findings.c
    known = ours(f.network, f.tx_hash, f.address)
    closed = await connection.execute(
        update(_findings)
        .where(f.network == network, f.closed_at.is_(None), f.tx_hash.is_not(None), known)
        .values(closed_at=now)
        .returning(f.seq)
    )
    return len(closed.all())


# What addresses are


async def load_watched(
    connection: AsyncConnection,
    network: str,
    family: Family,
    *,
    contracts: Sequence[str],
    after: str,
    page: int,
) -> tuple[list[str], str]:
    """The house's addresses, and of the next `page` deposit addresses those that hold something; where it ended.

    Deposit addresses come in the order of their text after `after`; the end is empty when these were the last ones.
    """
    a = _own.c
    house = select(a.address).where(a.family == family, a.owner.is_(None)).order_by(a.address)
    found = [row.address for row in await connection.execute(house)]
    deposits = select(a.address).where(a.family == family, a.owner.is_not(None), a.address > after)
    asked = [row.address for row in await connection.execute(deposits.order_by(a.address).limit(page))]
    rows = await connection.execute(_HOLDING, {"network": network, "addresses": asked, "contracts": list(contracts)})
    end = asked[-1] if len(asked) == page else ""
    return found + [row.address for row in rows], end


_HOLDING = text(
    """
SELECT a.address FROM unnest(CAST(:addresses AS text[])) AS a(address)
WHERE EXISTS (
    SELECT 1 FROM (
        SELECT o.contract, CAST(o.amount AS numeric) AS amount FROM chain_observations o
        WHERE o.network = :network AND o.recipient = a.address AND NOT o.orphaned
        UNION ALL
        SELECT o.contract, - CAST(o.amount AS numeric) FROM chain_observations o
        WHERE o.network = :network AND o.sender = a.address AND NOT o.orphaned
    ) AS moved
    WHERE moved.contract IS NULL OR moved.contract = ANY(CAST(:contracts AS text[]))
    GROUP BY moved.contract HAVING sum(moved.amount) > 0
)
ORDER BY a.address
"""
)


async def load_states(
    connection: AsyncConnection, network: str, family: Family, addresses: Sequence[str]
) -> dict[str, KnownState]:
    """What these own addresses were when last looked at. What was seen in a block that left the chain isn't believed.

    Of those that aren't ours there is none.
    """
    page = select(func.unnest(cast(list(addresses), ARRAY(Text))).label("address")).subquery()
    live = and_(_blocks.c.network == network, _blocks.c.block_hash == _states.c.block_hash, ~_blocks.c.orphaned)
    query = (
        select(page.c.address, _own.c.role, _states.c.nonce, _states.c.code_hash, _blocks.c.number)
        .select_from(page)
        .join(_own, and_(_own.c.family == family, _own.c.address == page.c.address))
        .outerjoin(_states, and_(_states.c.network == network, _states.c.address == page.c.address))
        .outerjoin(_blocks, live)
    )
    return {
        row.address: KnownState(row.address, Role(row.role))
        if row.number is None
        else KnownState(row.address, Role(row.role), row.number, row.nonce, row.code_hash)
        for row in await connection.execute(query)
    }


async def load_sent(
    connection: AsyncConnection, network: str, known: Mapping[str, KnownState], *, through: int
) -> dict[str, Sent]:
    """What is recorded of each address up to a block: transactions since it was looked at, and the last one's nonce."""
    sent = _outgoing.c
    since = cast([one.block_number for one in known.values()], ARRAY(BigInteger))
    page = select(
        func.unnest(cast(list(known), ARRAY(Text))).label("address"), func.unnest(since).label("since")
    ).subquery()
    new = func.count().filter(sent.block_number > page.c.since)
    query = (
        select(page.c.address, new.label("sent"), func.max(sent.nonce).label("last"))
        .join(_outgoing, and_(sent.network == network, sent.sender == page.c.address))
        .where(~sent.orphaned, sent.block_number <= through)
        .group_by(page.c.address)
    )
    found = {row.address: Sent(row.sent, row.last) for row in await connection.execute(query)}
    return {address: found.get(address, Sent()) for address in known}


async def write_states(
    connection: AsyncConnection, network: str, block: BlockRef, told: Mapping[str, AccountState]
) -> None:
    """What own addresses are at a final block."""
    rows = [
        {
            "network": network,
            "address": address,
            "block_number": block.number,
            "block_hash": block.block_hash,
            "nonce": one.nonce,
            "code_hash": one.code_hash,
        }
        for address, one in told.items()
    ]
    if rows:
        statement = insert(_states)
        fresh = {name: statement.excluded[name] for name in ("block_number", "block_hash", "nonce", "code_hash")}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=[_states.c.network, _states.c.address], set_=fresh), rows
        )


async def final_nonces(
    connection: AsyncConnection, network: str, senders: Collection[str]
) -> dict[str, tuple[int, BlockRef]]:
    """The nonce that each of these addresses has at the final block in which it was last looked at, and that block."""
    live = and_(_blocks.c.network == _states.c.network, _blocks.c.block_hash == _states.c.block_hash)
    asked = select(_states.c.address, _states.c.nonce, _blocks).join(_blocks, live)
    rows = await connection.execute(
        asked.where(_states.c.network == network, _states.c.address.in_(sorted(senders)), ~_blocks.c.orphaned)
    )
    return {row.address: (row.nonce, BlockRef(row.number, row.block_hash, row.parent_hash)) for row in rows}


def _found(
    network: ColumnElement[str], address: ColumnElement[str], kinds: Sequence[Kind], what: ColumnElement[str]
) -> ColumnElement[bool]:
    f = _findings.c
    return exists().where(f.network == network, f.address == address, f.kind.in_(kinds), f.what == what)


def _open(row: Row[Any]) -> OpenFinding:
    finding = Finding(
        address=row.address,
        kind=Kind(row.kind),
        what=row.what,
        block_number=row.block_number,
        block_hash=row.block_hash,
        words=row.words,
        tx_hash=row.tx_hash,
    )
    return OpenFinding(row.seq, row.network, finding, row.found_at)
