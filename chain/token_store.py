"""Rows of what was accepted of tokens, of where they differ, and of what arrived: the only SQL about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.tokens import TokenState

_tokens = tables.tokens
_findings = tables.token_findings
_arrivals = tables.arrivals
_seen = tables.observations


@dataclass(frozen=True, slots=True)
class TokenFinding:
    """Why a token is stopped. `found` is its state as last seen; heights are block numbers."""

    seq: int
    network: str
    contract: str
    found: TokenState
    problems: tuple[str, ...]
    upgraded_height: int | None
    block_number: int
    block_hash: str
    last_height: int
    last_hash: str
    first_seen_at: datetime
    last_seen_at: datetime

    def __str__(self) -> str:
        return "; ".join(self.problems)


@dataclass(frozen=True, slots=True)
class KnownToken:
    """What was accepted of a token, by whom (None: as it was first seen), and what stops it now."""

    network: str
    contract: str
    accepted: TokenState | None
    accepted_height: int | None
    accepted_at: datetime | None
    accepted_by: str | None
    events_through: int
    finding: TokenFinding | None

    @property
    def trusted(self) -> bool:
        """Whether it may be credited and paid."""
        return self.accepted is not None and self.finding is None

    @property
    def doubt(self) -> str | None:
        """Why it may not; None if it may."""
        if self.finding is not None:
            return str(self.finding)
        return "its contract wasn't looked at yet" if self.accepted is None else None


async def load_tokens(connection: AsyncConnection, network: str, contracts: Sequence[str]) -> dict[str, KnownToken]:
    """Each of these contracts as it is known, by contract; also those never looked at."""
    rows = await connection.execute(
        select(_tokens).where(_tokens.c.network == network, _tokens.c.contract.in_(contracts))
    )
    accepted = {row.contract: row for row in rows}
    open_ = await connection.execute(
        select(_findings).where(
            _findings.c.network == network, _findings.c.contract.in_(contracts), _findings.c.closed_at.is_(None)
        )
    )
    findings = {row.contract: _finding(row) for row in open_}
    return {
        contract: _known(network, contract, accepted.get(contract), findings.get(contract)) for contract in contracts
    }


async def lock(connection: AsyncConnection, network: str) -> None:
    """Until the tx ends nobody else who asks so writes what tokens of this network are."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"tokens:{network}", 0))))


async def doubt(connection: AsyncConnection, network: str, contract: str | None) -> str | None:
    """Why this token may not be credited or paid now; None if it may, and for the native coin."""
    if contract is None:
        return None
    return (await load_tokens(connection, network, [contract]))[contract].doubt


def trusted(network: ColumnElement[str], contract: ColumnElement[str]) -> ColumnElement[bool]:
    """In a query: the row's contract may be credited and paid; so may the native coin."""
    accepted = exists().where(_tokens.c.network == network, _tokens.c.contract == contract)
    stopped = exists().where(
        _findings.c.network == network, _findings.c.contract == contract, _findings.c.closed_at.is_(None)
    )
    return or_(contract.is_(None), and_(accepted, ~stopped))


async def accept(
    connection: AsyncConnection,
    network: str,
    contract: str,
    state: TokenState,
    *,
    height: int,
    block_hash: str,
    by: str | None,
    now: datetime,
) -> None:
    """This state is what is expected from now on; what it told up to `height` is settled with it."""
    told = {
        "accepted": state.to_json(),
        "accepted_height": height,
        "accepted_hash": block_hash,
        "accepted_at": now,
        "accepted_by": by,
        "events_through": height,
    }
    await connection.execute(
        insert(_tokens)
        .values(network=network, contract=contract, **told)
        .on_conflict_do_update(index_elements=[_tokens.c.network, _tokens.c.contract], set_=told)
    )


async def raise_events(connection: AsyncConnection, network: str, contracts: Sequence[str], *, through: int) -> None:
    """What these told up to a block was looked at. Never falls."""
    await connection.execute(
        update(_tokens)
        .where(_tokens.c.network == network, _tokens.c.contract.in_(contracts), _tokens.c.events_through < through)
        .values(events_through=through)
    )


async def write_finding(
    connection: AsyncConnection,
    known: KnownToken,
    found: TokenState,
    problems: Sequence[str],
    *,
    upgraded_height: int | None,
    height: int,
    block_hash: str,
    now: datetime,
) -> None:
    """Open a finding, or renew the open one: it keeps where it was first seen, and problems once told of."""
    earlier = known.finding
    told: dict[str, Any] = {
        "found": found.to_json(),
        "problems": list(problems),
        "upgraded_height": upgraded_height,
        "last_height": height,
        "last_hash": block_hash,
        "last_seen_at": now,
    }
    if earlier is None:
        first = {"block_number": height, "block_hash": block_hash, "first_seen_at": now}
        row = insert(_findings).values(network=known.network, contract=known.contract, **first, **told)
        await connection.execute(row.on_conflict_do_nothing())
    else:
        still = (_findings.c.seq == earlier.seq) & _findings.c.closed_at.is_(None)
        await connection.execute(update(_findings).where(still).values(**told))


async def close_finding(
    connection: AsyncConnection,
    finding: TokenFinding,
    *,
    now: datetime,
    by: str | None = None,
    reason: str | None = None,
) -> bool:
    """End it, by whom and why; False if its state isn't the one given any more, or it was ended before."""
    same = and_(
        _findings.c.seq == finding.seq,
        _findings.c.closed_at.is_(None),
        _findings.c.found == finding.found.to_json(),
        _findings.c.upgraded_height.is_not_distinct_from(finding.upgraded_height),
    )
    done = await connection.execute(update(_findings).where(same).values(closed_at=now, closed_by=by, reason=reason))
    return done.rowcount == 1


async def is_orphaned(connection: AsyncConnection, network: str, block_hash: str) -> bool:
    """Whether that block left the chain."""
    blocks = tables.blocks.c
    asked = select(blocks.orphaned).where(blocks.network == network, blocks.block_hash == block_hash)
    return bool((await connection.execute(asked)).scalar_one_or_none())


@dataclass(frozen=True, slots=True)
class Told:
    """A token transfer as its event tells it, in chain units, and the hashes of its block and that one's parent."""

    block_hash: str
    parent_hash: str
    block_number: int
    tx_hash: str
    place: str
    contract: str
    sender: str
    recipient: str
    amount: int


async def load_unmeasured(
    connection: AsyncConnection, network: str, contracts: Sequence[str], *, limit: int
) -> list[Told]:
    """Live transfers of these tokens to own addresses of which isn't known what arrived, with all that moved there in
    the same blocks; at most `limit` of the former, the oldest first."""
    own, blocks = tables.addresses.c, tables.blocks.c
    missing = ~exists().where(*(_arrivals.c[column.name] == _seen.c[column.name] for column in _arrivals.primary_key))
    to_do = (
        select(_seen.c.block_hash, _seen.c.contract, _seen.c.recipient.label("address"))
        .join(tables.addresses, own.address == _seen.c.recipient)
        .where(_seen.c.network == network, ~_seen.c.orphaned, _seen.c.contract.in_(contracts), missing)
        .order_by(_seen.c.seq)
        .limit(limit)
        .cte("to_do")
    )
    moving = (
        select(_seen, blocks.parent_hash)
        .join(tables.blocks, and_(blocks.network == _seen.c.network, blocks.block_hash == _seen.c.block_hash))
        .where(
            _seen.c.network == network,
            exists().where(
                to_do.c.block_hash == _seen.c.block_hash,
                to_do.c.contract == _seen.c.contract,
                or_(to_do.c.address == _seen.c.recipient, to_do.c.address == _seen.c.sender),
            ),
        )
        .order_by(_seen.c.seq)
    )
    return [
        Told(
            block_hash=row.block_hash,
            parent_hash=row.parent_hash,
            block_number=row.block_number,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
            recipient=row.recipient,
            amount=row.amount,
        )
        for row in await connection.execute(moving)
    ]


async def own_addresses(connection: AsyncConnection, asked: Sequence[str]) -> frozenset[str]:
    """Those of these addresses that are ours."""
    own = tables.addresses.c
    return frozenset((await connection.execute(select(own.address).where(own.address.in_(asked)))).scalars())


async def insert_arrivals(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Keep what was measured; what another worker kept before stays. Returns how many rows were asked for."""
    if rows:
        await connection.execute(insert(_arrivals).on_conflict_do_nothing(), [dict(row) for row in rows])
    return len(rows)


def _known(network: str, contract: str, row: Row[Any] | None, finding: TokenFinding | None) -> KnownToken:
    if row is None:
        return KnownToken(network, contract, None, None, None, None, -1, finding)
    return KnownToken(
        network,
        contract,
        TokenState.from_json(row.accepted),
        row.accepted_height,
        row.accepted_at,
        row.accepted_by,
        row.events_through,
        finding,
    )


def _finding(row: Row[Any]) -> TokenFinding:
    return TokenFinding(
        seq=row.seq,
        network=row.network,
        contract=row.contract,
        found=TokenState.from_json(row.found),
        problems=tuple(row.problems),
        upgraded_height=row.upgraded_height,
        block_number=row.block_number,
        block_hash=row.block_hash,
        last_height=row.last_height,
        last_hash=row.last_hash,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
    )


async def load_kept(
    connection: AsyncConnection,
    network: str,
    *,
    block_hash: str,
    tx_hash: str,
    contract: str | None,
    sender: str,
    besides: str,
) -> list[tuple[str, int]]:
    """What else of a token left its sender in a live transaction, beside the payment at a place: where, and how much.

    Tokens that keep a part of each transfer tell of that part so, or not at all.
    """
    query = (
        select(_seen.c.place, _seen.c.amount)
        .where(
            _seen.c.network == network,
            _seen.c.block_hash == block_hash,
            _seen.c.tx_hash == tx_hash,
            _seen.c.contract.is_not_distinct_from(contract),
            _seen.c.sender == sender,
            _seen.c.place != besides,
            _seen.c.amount > 0,
            ~_seen.c.orphaned,
        )
        .order_by(_seen.c.place)
    )
    return [(row.place, int(row.amount)) for row in await connection.execute(query)]
