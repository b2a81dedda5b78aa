"""The wallet's only SQL: rows of its own tables, and its reads of the chain's.

Lists are keyset: newest first, or oldest first when `after` is given; keys are ids, which sort by time.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    Row,
    Select,
    Table,
    Text,
    and_,
    any_,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import coin_store, screening_store, token_store
from chain import tables as chain
from chain.errors import NotYetFollowed
from chain.networks import Network
from chain.payments import Lack, OwnTransaction, Stalled
from chain.signing import Role
from chain.status import NetworkStatus, network_status
from chain.transaction_states import INTERNAL, WITHOUT_NONCE, State
from chain.transaction_states import WaitingFor as ChainWaitingFor
from chain.transaction_store import transaction_of
from chain.transactions import Mined
from db.given import given
from db.types import Amount
from wallet.batch_results import LegResult
from wallet.rates import Price, Ratio
from wallet.recipients import WarningCode
from wallet.resources import (
    DOUBTFUL,
    KEPT_BACK,
    SET_ASIDE,
    Conversion,
    Deposit,
    DepositState,
    Quote,
    QuoteState,
    Withdrawal,
)
from wallet.tables import batch_legs, cancellations, conversions, deposits, quotes, withdrawals
from wallet.withdrawal_states import CANCELLABLE, ENDED, WaitingFor, WithdrawalState

LIMIT_MAX = 500
"""Rows of one page at most."""


# Quotes and conversions


async def insert_quote(connection: AsyncConnection, book: str, quote: Quote) -> None:
    await connection.execute(
        insert(quotes).values(
            book=book,
            id=quote.id,
            owner=quote.owner,
            state=quote.state,
            sell=quote.sell,
            buy=quote.buy,
            sold=quote.sold,
            spread=quote.spread,
            bought=quote.bought,
            price=f"{ratio_text(quote.price.ratio)}/{quote.price.spread_basis_points}",
            rates_as_of=quote.rates_as_of,
            created_at=quote.created_at,
            expires_at=quote.expires_at,
        )
    )


async def load_quote(connection: AsyncConnection, book: str, quote: str) -> Quote | None:
    row = await _one(connection, quotes, book, quote)
    if row is None:
        return None
    num, den, spread = row.price.split("/")
    return Quote(
        id=row.id,
        owner=row.owner,
        state=QuoteState(row.state),
        sell=row.sell,
        buy=row.buy,
        sold=row.sold,
        spread=row.spread,
        bought=row.bought,
        price=Price(Ratio(int(num), int(den)), int(spread)),
        rates_as_of=row.rates_as_of,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


async def load_conversion(connection: AsyncConnection, book: str, conversion: str) -> Conversion | None:
    row = await _one(connection, conversions, book, conversion)
    return None if row is None else _conversion(row)


async def list_conversions(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Conversion]:
    query = _page(conversions, book, owner, before=before, after=after, limit=limit)
    return [_conversion(row) for row in await connection.execute(query)]


# Deposits


async def lock_owner(connection: AsyncConnection, book: str, owner: str) -> None:
    """Let one tx at a time make addresses for `owner`; until the tx ends."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"address:{book}:{owner}", 0))))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A live transfer to a user's address that no live deposit stands for; `version` is what the next one gets."""

    network: str
    block_number: int
    block_hash: str
    tx_hash: str
    place: str
    contract: str | None
    sender: str
    address: str
    chain_amount: int
    owner: str
    version: int
    believed: bool
    """Its token may be credited, it was measured what arrived, and its sender was screened where that is asked for."""
    came: int | None
    """Chain units that arrived, at most `chain_amount`; None: not measured, or nobody can tell any more."""
    objection: str | None
    """What screening has against its sender."""


async def load_status(connection: AsyncConnection, network: Network) -> NetworkStatus | None:
    """How far `network` was taken in; None if it never was followed."""
    try:
        return await network_status(connection, network)
    except NotYetFollowed:
        return None


async def load_arrivals(
    connection: AsyncConnection, book: str, network: str, *, above: int, late_above: int, screened: bool, limit: int
) -> list[Arrival]:
    """Live transfers in blocks above `above`, or recorded later than their blocks with a number above `late_above`, to
    this book's deposit addresses that no live deposit stands for.

    Our own sweeps, top-ups and refills aren't deposits, told by transaction hash; a withdrawal that lands here is one.
    Nor is what a surplus counts already. `screened`: senders are asked about on this network, and what wasn't asked
    about isn't believed.
    """
    seen, own = chain.observations.c, chain.addresses.c
    same = _same_transfer(book)
    earlier = select(func.coalesce(func.max(deposits.c.version), 0)).where(same).scalar_subquery()
    live = exists().where(same, _live())
    query = (
        select(
            chain.observations,
            own.owner,
            (earlier + 1).label("version"),
            _believed(screened=screened).label("believed"),
            chain.arrivals.c.amount.label("came"),
            chain.screenings.c.objection,
        )
        .join(chain.addresses, own.address == seen.recipient)
        .outerjoin(chain.arrivals, _measured())
        .outerjoin(chain.screenings, screening_store.of_transfer())
        .where(
            seen.network == network,
            or_(seen.block_number > above, seen.late > late_above),
            ~seen.orphaned,
            coin_store.counts(),
            own.role == Role.DEPOSIT,
            own.book == book,
            ~live,
            ~_internal(),
        )
        .order_by(seen.block_number, seen.seq)
        .limit(limit)
    )
    return [
        Arrival(
            network=row.network,
            block_number=row.block_number,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            place=row.place,
            contract=row.contract,
            sender=row.sender,
            address=row.recipient,
            chain_amount=row.amount,
            owner=row.owner,
            version=row.version,
            believed=row.believed,
            came=row.amount if row.contract is None else row.came,
            objection=row.objection,
        )
        for row in await connection.execute(query)
    ]


def _same_transfer(book: str) -> Any:
    """Whether a deposit stands for an observation's transfer, in this or an earlier block."""
    seen = chain.observations.c
    return and_(
        deposits.c.book == book,
        deposits.c.network == seen.network,
        deposits.c.tx_hash == seen.tx_hash,
        deposits.c.place == seen.place,
    )


def _live() -> Any:
    return deposits.c.state.not_in([DepositState.ORPHANED, DepositState.REVERSED])


async def load_kept_back(connection: AsyncConnection, book: str, network: str) -> dict[tuple[str, str | None], int]:
    """Chain units by (deposit address, contract or None) that must stay there.

    What is under review, what listed senders sent, and what isn't looked at yet.
    """
    seen, own = chain.observations.c, chain.addresses.c
    same = _same_transfer(book)
    settled = exists().where(same, _live(), deposits.c.state.not_in(KEPT_BACK))
    query = (
        select(seen.recipient, seen.contract, func.sum(seen.amount, type_=Amount()))
        .join(chain.addresses, own.address == seen.recipient)
        .where(
            seen.network == network,
            ~seen.orphaned,
            coin_store.counts(),
            own.role == Role.DEPOSIT,
            own.book == book,
            ~settled,
            ~_internal(),
        )
        .group_by(seen.recipient, seen.contract)
    )
    return {(address, contract): int(amount) for address, contract, amount in await connection.execute(query)}


async def load_reviewed(
    connection: AsyncConnection,
    book: str,
    network: str,
    *,
    contracts: Sequence[str],
    unsaid: Sequence[str],
    screened: bool,
    limit: int,
) -> list[tuple[Deposit, Arrival]]:
    """Deposits under review that nothing stops any more, oldest first, each with what is known of its arrival now.

    Of the native coin and the tokens `contracts`; of the tokens `unsaid` only those of which is known what arrived.
    """
    seen, contract = chain.observations.c, deposits.c.contract
    query = (
        select(deposits, chain.arrivals.c.amount.label("came"), chain.screenings.c.objection)
        .join(chain.observations, and_(*(seen[name] == deposits.c[name] for name in _TRANSFER)))
        .outerjoin(chain.arrivals, _measured())
        .outerjoin(chain.screenings, screening_store.of_transfer())
        .where(
            deposits.c.book == book,
            deposits.c.network == network,
            deposits.c.state == DepositState.UNDER_REVIEW,
            or_(contract.is_(None), contract.in_(contracts)),
            ~seen.orphaned,
            _believed(screened=screened),
            or_(contract.is_(None), chain.arrivals.c.amount.is_not(None), contract.not_in(unsaid)),
        )
        .order_by(deposits.c.id)
        .limit(limit)
    )
    found = []
    for row in await connection.execute(query):
        deposit = _deposit(row)
        found.append((deposit, _arrival(deposit, came=row.came, objection=row.objection)))
    return found


_TRANSFER = ("network", "block_hash", "tx_hash", "place")
"""What names a transfer in a block."""


def _arrival(deposit: Deposit, *, came: int | None, objection: str | None) -> Arrival:
    return Arrival(
        network=deposit.network,
        block_number=deposit.block_number,
        block_hash=deposit.block_hash,
        tx_hash=deposit.tx_hash,
        place=deposit.place,
        contract=deposit.contract,
        sender=deposit.sender,
        address=deposit.address,
        chain_amount=deposit.chain_amount,
        owner=deposit.owner,
        version=deposit.version,
        believed=True,
        came=deposit.chain_amount if deposit.contract is None else came,
        objection=objection,
    )


def _measured() -> Any:
    """The arrival of an observation, in a join."""
    return and_(*(chain.arrivals.c[name] == chain.observations.c[name] for name in _TRANSFER))


def _believed(*, screened: bool) -> Any:
    """Whether an observation's token may be credited and it was measured what arrived (the native coin always), and,
    where senders are `screened`, its own was."""
    seen = chain.observations.c
    known = and_(chain.arrivals.c.measured_at.is_not(None), token_store.trusted(seen.network, seen.contract))
    known = or_(seen.contract.is_(None), known)
    return and_(known, chain.screenings.c.screened_at.is_not(None)) if screened else known


def _internal() -> Any:
    """Whether an observation stands in a transaction of ours that moves what is ours: by its hash, whoever sent it."""
    tried, own = chain.attempts.c, chain.transactions.c
    return exists().where(
        tried.network == chain.observations.c.network,
        tried.tx_hash == chain.observations.c.tx_hash,
        own.id == tried.transaction_id,
        own.kind.in_(INTERNAL),
    )


async def load_vanished(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Deposit]:
    """Live deposits whose observation is orphaned."""
    query = select(deposits).where(
        deposits.c.book == book,
        deposits.c.network == network,
        deposits.c.state.not_in([DepositState.ORPHANED, DepositState.REVERSED]),
        _gone(),
    )
    return [_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


def _gone() -> Any:
    """Whether a deposit's transfer has left the chain."""
    seen = chain.observations.c
    return exists().where(
        seen.network == deposits.c.network,
        seen.block_hash == deposits.c.block_hash,
        seen.tx_hash == deposits.c.tx_hash,
        seen.place == deposits.c.place,
        seen.orphaned,
    )


async def load_ripe(
    connection: AsyncConnection, book: str, network: str, *, states: Collection[DepositState], through: int, limit: int
) -> list[Deposit]:
    """Deposits in `states` in live blocks up to `through` that still have something to be booked, oldest first.

    Not those of a token that is stopped.
    """
    query = select(deposits).where(
        deposits.c.book == book,
        deposits.c.network == network,
        deposits.c.state.in_(states),
        deposits.c.block_number <= through,
        ~_gone(),
        or_(deposits.c.state.not_in(SET_ASIDE), deposits.c.entry.is_(None)),
        token_store.trusted(deposits.c.network, deposits.c.contract),
    )
    return [_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


async def load_explained(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Deposit]:
    """Surpluses in suspense all of which traces tell of by now, oldest first."""
    seen = chain.observations.c
    query = (
        select(deposits)
        .join(chain.observations, and_(*(seen[name] == deposits.c[name] for name in _TRANSFER)))
        .where(
            deposits.c.book == book,
            deposits.c.network == network,
            deposits.c.state == DepositState.SURPLUS,
            deposits.c.entry.is_not(None),
            ~seen.orphaned,
            coin_store.explained() == seen.amount,
        )
    )
    return [_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(limit))]


async def mark_final(connection: AsyncConnection, book: str, network: str, *, through: int, now: datetime) -> int:
    """Credited deposits in live blocks up to `through` become final; returns how many."""
    found = await connection.execute(
        update(deposits)
        .where(
            deposits.c.book == book,
            deposits.c.network == network,
            deposits.c.state == DepositState.CREDITED,
            deposits.c.block_number <= through,
            ~_gone(),
        )
        .values(state=DepositState.FINAL, updated_at=now)
    )
    return found.rowcount


async def insert_deposits(connection: AsyncConnection, book: str, found: Sequence[Deposit]) -> None:
    """Record deposits for which nothing is booked; those recorded already stay as they are."""
    for deposit in found:
        row = deposit_key(book, deposit) | deposit_values(deposit)
        await connection.execute(postgresql.insert(deposits).values(row).on_conflict_do_nothing())


async def judge_deposits(connection: AsyncConnection, book: str, judged: Sequence[Deposit]) -> None:
    """Deposits that were under review are what they are found to be, where nothing is to be booked."""
    for deposit in judged:
        change = {"state": deposit.state, "asset": deposit.asset, "amount": deposit.amount}
        await connection.execute(
            update(deposits)
            .where(deposits.c.book == book, deposits.c.id == deposit.id, deposits.c.state == DepositState.UNDER_REVIEW)
            .values(**change, updated_at=deposit.updated_at)
        )


async def mark_orphaned(connection: AsyncConnection, book: str, gone: Sequence[Deposit], *, now: datetime) -> None:
    """Deposits for which nothing was booked have left the chain."""
    ids = [deposit.id for deposit in gone]
    await connection.execute(
        update(deposits)
        .where(deposits.c.book == book, deposits.c.id.in_(ids), deposits.c.entry.is_(None))
        .values(state=DepositState.ORPHANED, updated_at=now)
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """How many deposits, or withdrawals, of an asset are in a state, and their sum in its smallest units."""

    state: str
    asset: str | None
    count: int
    amount: int


async def load_standing(connection: AsyncConnection, book: str, network: str) -> tuple[list[Standing], list[Standing]]:
    """What stands on `network`: live deposits, and withdrawals under way or final, by state and asset."""
    dead = (DepositState.ORPHANED, DepositState.REVERSED)
    over = ENDED - {WithdrawalState.FINAL}
    found = []
    for table, ended in ((deposits, dead), (withdrawals, over)):
        c = table.c
        amount = func.coalesce(func.sum(c.amount), 0)
        query = select(c.state, c.asset, func.count(), amount).where(
            c.book == book, c.network == network, c.state.not_in(ended)
        )
        rows = await connection.execute(query.group_by(c.state, c.asset).order_by(c.state, c.asset))
        found.append([Standing(state, asset, count, int(total)) for state, asset, count, total in rows])
    return found[0], found[1]


async def load_deposit(connection: AsyncConnection, book: str, deposit: str) -> Deposit | None:
    row = await _one(connection, deposits, book, deposit)
    return None if row is None else _deposit(row)


async def list_doubtful(connection: AsyncConnection, book: str, *, before: str | None, limit: int) -> list[Deposit]:
    """Deposits that aren't credited by themselves, newest first."""
    query = _with_objection().where(deposits.c.book == book, deposits.c.state.in_(DOUBTFUL))
    if before is not None:
        query = query.where(deposits.c.id < before)
    query = query.order_by(deposits.c.id.desc()).limit(max(1, min(limit, LIMIT_MAX)))
    return [_judged(row) for row in await connection.execute(query)]


async def list_surpluses(connection: AsyncConnection, book: str) -> list[Deposit]:
    """Surpluses that are nobody's yet, oldest first."""
    query = select(deposits).where(deposits.c.book == book, deposits.c.state == DepositState.SURPLUS)
    return [_deposit(row) for row in await connection.execute(query.order_by(deposits.c.id).limit(LIMIT_MAX))]


async def load_doubtful(connection: AsyncConnection, book: str, deposit: str) -> Deposit | None:
    """The deposit with this id, in whatever state, with what screening has against its sender."""
    query = _with_objection().where(deposits.c.book == book, deposits.c.id == deposit)
    row = (await connection.execute(query)).first()
    return None if row is None else _judged(row)


def _with_objection() -> Any:
    told = chain.screenings.c
    same = and_(*(told[name] == deposits.c[name] for name in _TRANSFER))
    return select(deposits, told.objection).outerjoin(chain.screenings, same)


def _judged(row: Row[Any]) -> Deposit:
    return replace(_deposit(row), objection=row.objection)


async def load_arrival(connection: AsyncConnection, deposit: Deposit, *, screened: bool) -> Arrival | None:
    """What is known of what arrived.

    None while it wasn't measured or (where senders are `screened`) nobody was asked about its sender, and once its
    block left the chain.
    """
    seen, asked = chain.observations.c, chain.screenings.c
    query = (
        select(chain.arrivals.c.amount, asked.objection)
        .select_from(chain.observations)
        .outerjoin(chain.arrivals, _measured())
        .outerjoin(chain.screenings, screening_store.of_transfer())
        .where(
            *(seen[name] == getattr(deposit, name) for name in _TRANSFER),
            ~seen.orphaned,
            or_(seen.contract.is_(None), chain.arrivals.c.measured_at.is_not(None)),
            asked.screened_at.is_not(None) if screened else true(),
        )
    )
    row = (await connection.execute(query)).first()
    return None if row is None else _arrival(deposit, came=row.amount, objection=row.objection)


async def list_deposits(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Deposit]:
    query = _page(deposits, book, owner, before=before, after=after, limit=limit)
    return [_deposit(row) for row in await connection.execute(query)]


def deposit_key(book: str, deposit: Deposit | Arrival) -> dict[str, object]:
    """The columns that a rider finds this deposit's row by."""
    return {
        "book": book,
        "network": deposit.network,
        "tx_hash": deposit.tx_hash,
        "place": deposit.place,
        "version": deposit.version,
    }


def deposit_values(deposit: Deposit) -> dict[str, object]:
    """The columns of a deposit's row besides its key."""
    key = deposit_key("", deposit)
    return {column.name: getattr(deposit, column.name) for column in deposits.columns if column.name not in key}


# Withdrawals


async def load_withdrawal(connection: AsyncConnection, book: str, withdrawal: str) -> Withdrawal | None:
    row = await _one(connection, withdrawals, book, withdrawal)
    return None if row is None else read_withdrawal(row)


async def list_withdrawals(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Withdrawal]:
    query = _page(withdrawals, book, owner, before=before, after=after, limit=limit)
    return [read_withdrawal(row) for row in await connection.execute(query)]


async def load_open_withdrawals(
    connection: AsyncConnection, book: str, *, after: str | None, limit: int
) -> list[Withdrawal]:
    """Withdrawals that haven't ended and that no batch carries, oldest first, those after the id `after`."""
    query = select(withdrawals).where(withdrawals.c.book == book, withdrawals.c.state.not_in(ENDED), ~_in_a_batch())
    if after is not None:
        query = query.where(withdrawals.c.id > after)
    return [read_withdrawal(row) for row in await connection.execute(query.order_by(withdrawals.c.id).limit(limit))]


async def load_withdrawal_ids(connection: AsyncConnection, book: str, named: Sequence[str]) -> set[str]:
    """Those of these ids that there is a withdrawal with."""
    asked = any_(literal(list(named), ARRAY(Text)))
    query = select(withdrawals.c.id).where(withdrawals.c.book == book, withdrawals.c.id == asked)
    return set((await connection.execute(query)).scalars())


async def load_early(connection: AsyncConnection, book: str) -> set[str]:
    """The ids of withdrawals that no nonce was reserved for yet."""
    early = (WithdrawalState.REQUESTED, *CANCELLABLE)
    query = select(withdrawals.c.id).where(withdrawals.c.book == book, withdrawals.c.state.in_(early))
    return set((await connection.execute(query)).scalars())


async def load_open_on(connection: AsyncConnection, book: str, network: str, *, limit: int) -> list[Withdrawal]:
    """Withdrawals on `network` that haven't ended, oldest first."""
    query = select(withdrawals).where(
        withdrawals.c.book == book, withdrawals.c.network == network, withdrawals.c.state.not_in(ENDED)
    )
    return [read_withdrawal(row) for row in await connection.execute(query.order_by(withdrawals.c.id).limit(limit))]


async def change_withdrawals(
    connection: AsyncConnection,
    book: str,
    ids: Sequence[str],
    *,
    expect: WithdrawalState,
    change: Mapping[str, Any],
    unless_cancelling: bool = False,
) -> set[str]:
    """Compare and set, in the caller's tx; the ids of those that were still in `expect`.

    `unless_cancelling`: those that a treasurer wants given up stay.
    """
    table = withdrawals.c
    mine = (table.book == book) & (table.id == any_(literal(list(ids), ARRAY(Text)))) & (table.state == expect)
    if unless_cancelling:
        mine &= table.cancelling.is_(None)
    rows = await connection.execute(update(withdrawals).where(mine).values(**change).returning(table.id))
    return set(rows.scalars())


async def save_withdrawals(
    connection: AsyncConnection, book: str, changes: Sequence[tuple[Withdrawal, Mapping[str, Any]]]
) -> int:
    """Compare and set each withdrawal, in the caller's tx, to its columns; how many were still as they were read.

    One for which something is on its way by now doesn't go back to `approved`, where its owner could cancel it: a
    worker that read it long ago finds its state as it was, after others have taken it there and on again.
    """
    names = ("state", "cancellable", "waiting_for", "reason", "tx_hash", "block_number", "block_hash", "fee_wei")
    rows = [
        {
            "id": withdrawal.id,
            "unmoved": withdrawal.state,
            **{name: change.get(name, getattr(withdrawal, name)) for name in names},
            "updated_at": change["updated_at"],
        }
        for withdrawal, change in changes
    ]
    told = given(withdrawals, rows, also={"unmoved": "state"})
    same = (withdrawals.c.id == told.c.id) & (withdrawals.c.state == told.c.unmoved)
    own = chain.transactions.c
    live = own.state.not_in(WITHOUT_NONCE)
    on_its_way = exists().where(own.book == withdrawals.c.book, own.subject == withdrawals.c.id, live)
    free = or_(told.c.state != WithdrawalState.APPROVED, ~or_(on_its_way, _in_a_batch()))
    columns = {name: told.c[name] for name in (*names, "updated_at")}
    mine = (withdrawals.c.book == book) & same & free
    changed = await connection.execute(update(withdrawals).where(mine).values(columns))
    return changed.rowcount


async def load_unassigned(connection: AsyncConnection, book: str) -> list[Stalled]:
    """What approved withdrawals wait for because no sender has it."""
    table, lacks = withdrawals.c, (WaitingFor.FUNDS, WaitingFor.GAS)
    query = (
        select(table.network, table.waiting_for, func.count(), func.min(table.updated_at))
        .where(table.book == book, table.state == WithdrawalState.APPROVED, table.waiting_for.in_(lacks))
        .group_by(table.network, table.waiting_for)
    )
    return [
        Stalled(network=network, waiting_for=ChainWaitingFor(lack), count=count, since=since, words=None)
        for network, lack, count, since in await connection.execute(query)
    ]


async def load_lacking(connection: AsyncConnection, book: str) -> list[Lack]:
    """What approved withdrawals lack because no sender has it, by network and asset."""
    table = withdrawals.c
    amount = func.sum(table.amount, type_=Amount()).filter(table.waiting_for == WaitingFor.FUNDS)
    gas = func.sum(table.fee_wei_max, type_=Amount()).filter(table.waiting_for == WaitingFor.GAS)
    query = (
        select(table.network, table.asset, amount, gas)
        .where(table.book == book, table.state == WithdrawalState.APPROVED)
        .where(table.waiting_for.in_((WaitingFor.FUNDS, WaitingFor.GAS)))
        .group_by(table.network, table.asset)
    )
    rows = await connection.execute(query)
    return [Lack(network, asset, short or 0, wei or 0) for network, asset, short, wei in rows]


async def load_past(connection: AsyncConnection, book: str, ids: Sequence[str]) -> dict[str, tuple[State, str]]:
    """How the latest transaction of each of these withdrawals ended without a signature, and the words for it."""
    if not ids:
        return {}
    own = chain.transactions.c
    query = (
        select(own.subject, own.state, own.refusal)
        .ext(postgresql.distinct_on(own.subject))
        .where(own.book == book, own.subject == any_(literal(list(ids), ARRAY(Text))))
        .order_by(own.subject, own.created_at.desc(), own.id.desc())
    )
    rows = await connection.execute(query)
    return {row.subject: (State(row.state), row.refusal or row.state) for row in rows if row.state in WITHOUT_NONCE}


async def load_refused(
    connection: AsyncConnection, book: str, ids: Sequence[str], *, codes: Collection[str]
) -> dict[str, OwnTransaction]:
    """The latest transaction of each of these withdrawals that the signer refused with one of the codes."""
    own = chain.transactions.c
    query = (
        select(chain.transactions)
        .ext(postgresql.distinct_on(own.subject))
        .where(own.book == book, own.subject == any_(literal(list(ids), ARRAY(Text))))
        .order_by(own.subject, own.created_at.desc(), own.id.desc())
    )
    found = [transaction_of(row) for row in await connection.execute(query)]
    return {one.payment.subject: one for one in found if one.state is State.REFUSED and one.refusal_code in codes}


async def load_sent(connection: AsyncConnection, book: str, ids: Sequence[str]) -> dict[str, str]:
    """The hash of the attempt that was last sent for each of these withdrawals; none of one of which none was."""
    own, tried = chain.transactions.c, chain.attempts.c
    query = (
        select(own.subject, tried.tx_hash)
        .ext(postgresql.distinct_on(own.subject))
        .join(chain.transactions, own.id == tried.transaction_id)
        .where(own.book == book, own.subject == any_(literal(list(ids), ARRAY(Text))), tried.sent_at.is_not(None))
        .order_by(own.subject, own.created_at.desc(), tried.attempt.desc())
    )
    return {row.subject: row.tx_hash for row in await connection.execute(query)}


async def load_places(
    connection: AsyncConnection,
    paid: Sequence[tuple[Withdrawal, str | None, Mined]],
    *,
    lossy: Collection[tuple[str, str | None]] = (),
) -> dict[str, str]:
    """Where in its transaction each payment (with its contract) was seen; none of one whose transaction paid nothing.

    By the withdrawal's id. `lossy`: (network, contract) of tokens that keep a part of each transfer, so that less than
    was sent is told to have come.
    """
    if not paid:
        return {}
    seen = chain.observations.c
    hashes = any_(literal(sorted({mined.tx_hash for _, _, mined in paid}), ARRAY(Text)))
    networks = sorted({withdrawal.network for withdrawal, _, _ in paid})
    rows = await connection.execute(
        select(seen.network, seen.block_hash, seen.tx_hash, seen.contract, seen.recipient, seen.amount, seen.place)
        .where(seen.network.in_(networks), seen.tx_hash == hashes, ~seen.orphaned)
        .order_by(seen.amount, seen.place.desc())
    )
    told: dict[tuple[object, ...], dict[int, str]] = {}
    for *transfer, amount, place in rows:
        told.setdefault(tuple(transfer), {})[amount] = place  # of several the first place stays
    found = {}
    for withdrawal, contract, mined in paid:
        here = told.get((withdrawal.network, mined.block_hash, mined.tx_hash, contract, withdrawal.address), {})
        place = here.get(withdrawal.chain_amount)
        if place is None and (withdrawal.network, contract) in lossy:
            place = next((here[amount] for amount in reversed(here) if 0 < amount <= withdrawal.chain_amount), None)
        if place is not None:
            found[withdrawal.id] = place
    return found


async def load_cancellation(connection: AsyncConnection, book: str, *, key: str) -> Row[Any] | None:
    """The request to give a withdrawal up that came under this key."""
    mine = (cancellations.c.book == book) & (cancellations.c.key == key)
    return (await connection.execute(select(cancellations).where(mine))).first()


async def cancellation_of(connection: AsyncConnection, book: str, withdrawal: str) -> Row[Any] | None:
    """The request to give this withdrawal up."""
    mine = (cancellations.c.book == book) & (cancellations.c.withdrawal == withdrawal)
    return (await connection.execute(select(cancellations).where(mine))).first()


async def lock_withdrawal(connection: AsyncConnection, book: str, withdrawal: str) -> Withdrawal | None:
    """The withdrawal, its row locked until the tx ends."""
    mine = (withdrawals.c.book == book) & (withdrawals.c.id == withdrawal)
    row = (await connection.execute(select(withdrawals).where(mine).with_for_update())).first()
    return None if row is None else read_withdrawal(row)


async def want_given_up(
    connection: AsyncConnection, book: str, withdrawal: str, *, reason: str, now: datetime, request: Mapping[str, Any]
) -> None:
    """Write down that a treasurer wants it given up, and the request itself; only under `lock_withdrawal`."""
    mine = (withdrawals.c.book == book) & (withdrawals.c.id == withdrawal)
    await connection.execute(update(withdrawals).where(mine).values(cancelling=reason, updated_at=now))
    await connection.execute(insert(cancellations).values(book=book, withdrawal=withdrawal, **request))


async def is_in_a_batch(connection: AsyncConnection, book: str, withdrawal: str) -> bool:
    """Whether a batch carries this withdrawal."""
    mine = (withdrawals.c.book == book) & (withdrawals.c.id == withdrawal)
    found = await connection.execute(select(withdrawals.c.id).where(mine, _in_a_batch()))
    return found.first() is not None


def _in_a_batch() -> Any:
    leg, mine = batch_legs.c, withdrawals.c
    carried = leg.result.in_((LegResult.OPEN, LegResult.UNCLEAR))
    return exists().where(leg.book == mine.book, leg.withdrawal == mine.id, carried)


def withdrawal_values(withdrawal: Withdrawal) -> dict[str, object]:
    """The columns of a withdrawal's row besides its key."""
    written = ("fee_price", "accepted")
    names = [column.name for column in withdrawals.columns if column.name not in ("book", "id", *written)]
    values: dict[str, object] = {name: getattr(withdrawal, name) for name in names}
    return values | {"fee_price": ratio_text(withdrawal.fee_price), "accepted": " ".join(withdrawal.accepted)}


def ratio_text(ratio: Ratio) -> str:
    """A ratio as it's stored: exact at any length."""
    return f"{ratio.num}/{ratio.den}"


# Rows to types


async def _one(connection: AsyncConnection, table: Table, book: str, row_id: str) -> Row[Any] | None:
    return (await connection.execute(select(table).where(table.c.book == book, table.c.id == row_id))).first()


def _page(
    table: Table, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> Select[tuple[Any, ...]]:
    query = select(table).where(table.c.book == book, table.c.owner == owner)
    if before is not None:
        query = query.where(table.c.id < before)
    if after is not None:
        query = query.where(table.c.id > after)
    order = table.c.id.asc() if after is not None else table.c.id.desc()
    return query.order_by(order).limit(max(1, min(limit, LIMIT_MAX)))


def _conversion(row: Row[Any]) -> Conversion:
    return Conversion(
        id=row.id,
        owner=row.owner,
        quote=row.quote,
        sell=row.sell,
        buy=row.buy,
        sold=row.sold,
        spread=row.spread,
        bought=row.bought,
        created_at=row.created_at,
    )


def _deposit(row: Row[Any]) -> Deposit:
    return Deposit(
        id=row.id,
        owner=row.owner,
        state=DepositState(row.state),
        asset=row.asset,
        amount=row.amount,
        network=row.network,
        contract=row.contract,
        chain_amount=row.chain_amount,
        sender=row.sender,
        address=row.address,
        block_number=row.block_number,
        block_hash=row.block_hash,
        tx_hash=row.tx_hash,
        place=row.place,
        version=row.version,
        entry=row.entry,
        seen_at=row.seen_at,
        updated_at=row.updated_at,
    )


def read_withdrawal(row: Row[Any]) -> Withdrawal:
    """A row of withdrawals as a value."""
    num, den = row.fee_price.split("/")
    return Withdrawal(
        id=row.id,
        owner=row.owner,
        state=WithdrawalState(row.state),
        cancellable=row.cancellable,
        waiting_for=None if row.waiting_for is None else WaitingFor(row.waiting_for),
        reason=row.reason,
        asset=row.asset,
        network=row.network,
        address=row.address,
        amount=row.amount,
        chain_amount=row.chain_amount,
        fee_highest=row.fee_highest,
        fee=row.fee,
        fee_price=Ratio(int(num), int(den)),
        gas_limit=row.gas_limit,
        fee_wei_max=row.fee_wei_max,
        hold=row.hold,
        tx_hash=row.tx_hash,
        block_number=row.block_number,
        block_hash=row.block_hash,
        fee_wei=row.fee_wei,
        created_at=row.created_at,
        updated_at=row.updated_at,
        cancelling=row.cancelling,
        recipient=row.recipient,
        accepted=tuple(WarningCode(code) for code in row.accepted.split()),
    )
