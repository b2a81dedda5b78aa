"""Treasury's only SQL: its own tables, and what it compares of the chain's and the ledger's."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Numeric,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, token_store
from chain import tables as chain
from chain.coins import SURPLUS
from chain.errors import NotYetFollowed
from chain.networks import Deployment, Network
from chain.signing import Role
from chain.status import NetworkStatus, network_status
from chain.transaction_states import INTERNAL, Kind
from db.types import Amount
from ledger import tables as ledger
from ledger.outcomes import LineKind
from treasury.comparison import COUNTERS, Counters
from treasury.records import (
    Adjustment,
    Break,
    BreakReason,
    Finding,
    InFlight,
    Inflow,
    InflowState,
    JudgedNetwork,
    Reconciliation,
)
from treasury.sweep_states import Method, SweepState
from treasury.tables import adjustments, breaks, inflows, reconciliations, sweeps

GAS = "gas"
"""The place of what a transaction cost its sender."""

# Inflows


async def load_status(connection: AsyncConnection, network: Network) -> NetworkStatus | None:
    """How far `network` was taken in; None if it never was followed."""
    try:
        return await network_status(connection, network)
    except NotYetFollowed:
        return None


@dataclass(frozen=True, slots=True)
class HouseArrival:
    """A live transfer to a house address that no transaction of ours explains and no inflow stands for."""

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    sender: str
    address: str
    role: str
    chain_amount: int
    version: int


async def load_house_arrivals(
    connection: AsyncConnection, book: str, network: str, *, contracts: Sequence[str | None], through: int, limit: int
) -> list[HouseArrival]:
    """Live transfers of known assets in blocks up to `through` to hot or gas addresses, oldest first.

    Of tokens what arrived, once that was measured and while nothing stops the token. Not what our own sweeps, top-ups
    and refills move, nor what the payout contract gives back of a batch.
    """
    seen, own, came = chain.observations.c, chain.addresses.c, chain.arrivals.c
    same = and_(
        inflows.c.book == book,
        inflows.c.network == seen.network,
        inflows.c.tx_hash == seen.tx_hash,
        inflows.c.place == seen.place,
    )
    version = select(func.coalesce(func.max(inflows.c.version), 0) + 1).where(same).scalar_subquery()
    ours = exists().where(
        chain.attempts.c.network == seen.network,
        chain.attempts.c.tx_hash == seen.tx_hash,
        chain.transactions.c.id == chain.attempts.c.transaction_id,
        or_(
            chain.transactions.c.kind.in_(INTERNAL),
            and_(chain.transactions.c.kind == Kind.BATCH, chain.transactions.c.recipient == seen.sender),
        ),
    )
    query = (
        select(chain.observations, own.role, version.label("version"), _arrived())
        .join(chain.addresses, own.address == seen.recipient)
        .outerjoin(chain.arrivals, _of_transfer())
        .where(
            seen.network == network,
            seen.block_number <= through,
            ~seen.orphaned,
            own.owner.is_(None),
            or_(*(seen.contract.is_not_distinct_from(contract) for contract in contracts)),
            ~exists().where(same, inflows.c.state == InflowState.BOOKED),
            ~ours,
            ~_swept(book),
            coin_store.counts(),
            or_(seen.contract.is_(None), came.measured_at.is_not(None)),
            token_store.trusted(seen.network, seen.contract),
            _arrived() > 0,
        )
        .order_by(seen.seq)
        .limit(limit)
    )
    return [
        HouseArrival(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
            address=row.recipient,
            role=row.role,
            chain_amount=row.arrived,
            version=row.version,
        )
        for row in await connection.execute(query)
    ]


def _swept(book: str) -> ColumnElement[bool]:
    """Whether an observation may be an authorised sweep of ours, which anybody can carry: booked so, or not judged yet.

    Only its owner could have signed it, so no stranger's money is taken for it.
    """
    seen, own = chain.observations.c, sweeps.c
    return exists().where(
        own.book == book,
        own.method == Method.AUTHORISATION,
        own.network == seen.network,
        own.address == seen.sender,
        own.contract == seen.contract,
        or_(
            and_(own.tx_hash == seen.tx_hash, own.place == seen.place),
            and_(
                own.chain_amount == seen.amount,
                or_(own.valid_before.is_not(None), own.state == SweepState.NEEDS_REVIEW),
                own.state.not_in([SweepState.FINAL, SweepState.DROPPED]),
            ),
        ),
    )


async def load_vanished_inflows(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Inflow]:
    """Booked inflows whose observation is orphaned: a reorganisation went below final."""
    seen = chain.observations.c
    gone = exists().where(
        seen.network == inflows.c.network,
        seen.block_hash == inflows.c.block_hash,
        seen.tx_hash == inflows.c.tx_hash,
        seen.place == inflows.c.place,
        seen.orphaned,
    )
    query = select(inflows).where(
        inflows.c.book == book, inflows.c.network == network, inflows.c.state == InflowState.BOOKED, gone
    )
    return [inflow_of(row) for row in await connection.execute(query.limit(limit))]


async def load_open_surpluses(connection: AsyncConnection, book: str, *, limit: int) -> list[Inflow]:
    """Booked surpluses of the house's that no adjustment names and traces don't tell all of, oldest first."""
    seen = chain.observations.c
    same = and_(*(seen[name] == inflows.c[name] for name in ("network", "block_hash", "tx_hash", "place")))
    named = exists().where(adjustments.c.book == inflows.c.book, adjustments.c.evidence == inflows.c.id)
    query = (
        select(inflows)
        .join(chain.observations, same)
        .where(
            inflows.c.book == book,
            inflows.c.state == InflowState.BOOKED,
            inflows.c.place.startswith(SURPLUS),
            ~named,
            coin_store.explained() < seen.amount,
        )
    )
    return [inflow_of(row) for row in await connection.execute(query.order_by(inflows.c.id).limit(limit))]


async def count_booked_inflows(connection: AsyncConnection, book: str, network: str) -> int:
    """How many inflows of `network` are booked."""
    mine = (inflows.c.book == book) & (inflows.c.network == network) & (inflows.c.state == InflowState.BOOKED)
    return int((await connection.execute(select(func.count()).select_from(inflows).where(mine))).scalar_one())


async def list_inflows(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Inflow]:
    """Inflows, newest first, those older than the id `before`."""
    query = select(inflows).where(inflows.c.book == book).order_by(inflows.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(inflows.c.id < before)
    return [inflow_of(row) for row in await connection.execute(query)]


def inflow_key(book: str, inflow: Inflow) -> dict[str, object]:
    """The columns that a rider finds this inflow's row by."""
    return {
        "book": book,
        "network": inflow.network,
        "tx_hash": inflow.tx_hash,
        "place": inflow.place,
        "version": inflow.version,
    }


def inflow_values(inflow: Inflow) -> dict[str, object]:
    """The columns of an inflow's row besides its key."""
    key = inflow_key("", inflow)
    return {column.name: getattr(inflow, column.name) for column in inflows.columns if column.name not in key}


# Adjustments


async def load_adjustment(connection: AsyncConnection, book: str, adjustment: str) -> Adjustment | None:
    query = select(adjustments).where(adjustments.c.book == book, adjustments.c.id == adjustment)
    row = (await connection.execute(query)).first()
    return None if row is None else _adjustment(row)


async def list_adjustments(
    connection: AsyncConnection, book: str, *, before: str | None, limit: int
) -> list[Adjustment]:
    """Adjustments, newest first, those older than the id `before`."""
    query = select(adjustments).where(adjustments.c.book == book).order_by(adjustments.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(adjustments.c.id < before)
    return [_adjustment(row) for row in await connection.execute(query)]


# What the journal adds up to


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


# What the chain and the book say of own addresses


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
                chain.observations, account.label("account"), _arrived() if receives else seen.amount.label("arrived")
            )
            .join(chain.addresses, own.address == address)
            .outerjoin(chain.arrivals, _of_transfer())
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


def _of_transfer() -> Any:
    """The arrival of an observation, in a join."""
    columns = chain.arrivals.primary_key
    return and_(*(chain.arrivals.c[column.name] == chain.observations.c[column.name] for column in columns))


def _arrived() -> Any:
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


# Runs and breaks


async def lock_runs(connection: AsyncConnection, book: str) -> None:
    """Let one run at a time record its findings; until the tx ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"reconcile:{book}", 0))))


async def load_breaks(connection: AsyncConnection, book: str, *, open_only: bool, limit: int) -> list[Break]:
    """Breaks, the oldest open ones first, then the ended ones."""
    query = select(breaks).where(breaks.c.book == book)
    if open_only:
        query = query.where(breaks.c.resolved_at.is_(None))
    ordered = query.order_by(breaks.c.resolved_at.is_not(None), breaks.c.id).limit(limit)
    return [_break(row) for row in await connection.execute(ordered)]


async def insert_break(
    connection: AsyncConnection, book: str, *, id: str, finding: Finding, run: str, now: datetime
) -> None:
    await connection.execute(
        insert(breaks).values(
            book=book,
            id=id,
            reason=finding.reason,
            network=finding.network,
            account=finding.account,
            asset=finding.asset,
            detail=finding.detail,
            expected=finding.expected,
            found=finding.found,
            first_run=run,
            last_run=run,
            first_seen_at=now,
            last_seen_at=now,
        )
    )


async def see_break_again(
    connection: AsyncConnection, book: str, *, id: str, finding: Finding, run: str, now: datetime
) -> None:
    await connection.execute(
        update(breaks)
        .where(breaks.c.book == book, breaks.c.id == id)
        .values(expected=finding.expected, found=finding.found, last_run=run, last_seen_at=now)
    )


async def resolve_breaks(connection: AsyncConnection, book: str, ids: Iterable[str], *, now: datetime) -> None:
    await connection.execute(
        update(breaks).where(breaks.c.book == book, breaks.c.id == bindparam("ended")).values(resolved_at=now),
        [{"ended": id} for id in ids],
    )


async def insert_run(connection: AsyncConnection, book: str, run: Reconciliation) -> None:
    await connection.execute(
        insert(reconciliations).values(
            book=book,
            id=run.id,
            started_at=run.started_at,
            finished_at=run.finished_at,
            checks=run.checks,
            breaks=run.open_breaks,
            networks=[asdict(network) for network in run.networks],
            in_flight=[
                asdict(item) | {"amount": str(item.amount), "seen_at": item.seen_at.isoformat()}
                for item in run.in_flight
            ],
        )
    )


async def load_runs(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Reconciliation]:
    """Runs, newest first. Breaks aren't kept per run, so only the newest one carries those that are open."""
    query = select(reconciliations).where(reconciliations.c.book == book)
    if before is not None:
        query = query.where(reconciliations.c.id < before)
    rows = await connection.execute(query.order_by(reconciliations.c.id.desc()).limit(limit))
    return [_run(row) for row in rows]


# Rows to types


def inflow_of(row: Row[Any]) -> Inflow:
    return Inflow(
        id=row.id,
        state=InflowState(row.state),
        asset=row.asset,
        amount=row.amount,
        network=row.network,
        role=Role(row.role),
        sender=row.sender,
        address=row.address,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        place=row.place,
        version=row.version,
        source=row.source,
        booked_at=row.booked_at,
    )


def _adjustment(row: Row[Any]) -> Adjustment:
    return Adjustment(
        id=row.id,
        treasurer=row.treasurer,
        source=row.source,
        target=row.target,
        asset=row.asset,
        amount=row.amount,
        reason=row.reason,
        evidence=row.evidence,
        created_at=row.created_at,
    )


def _break(row: Row[Any]) -> Break:
    return Break(
        id=row.id,
        reason=BreakReason(row.reason),
        account=row.account,
        asset=row.asset,
        expected=row.expected,
        found=row.found,
        network=row.network,
        detail=row.detail,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        resolved_at=row.resolved_at,
    )


def _run(row: Row[Any]) -> Reconciliation:
    return Reconciliation(
        id=row.id,
        started_at=row.started_at,
        finished_at=row.finished_at,
        checks=row.checks,
        open_breaks=row.breaks,
        breaks=(),
        networks=tuple(JudgedNetwork(**network) for network in row.networks),
        in_flight=tuple(
            InFlight(**item | {"amount": int(item["amount"]), "seen_at": datetime.fromisoformat(item["seen_at"])})
            for item in row.in_flight
        ),
    )
