"""SQL of withdrawals: rows, steps of many at once, and what the chain has of them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Row, Text, any_, exists, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables as chain
from chain.payments import Lack, OwnTransaction, Stalled
from chain.transaction_states import WITHOUT_NONCE, State
from chain.transaction_states import WaitingFor as ChainWaitingFor
from chain.transaction_store import transaction_of
from chain.transactions import Mined
from db.given import given
from db.types import Amount
from exchange.ratios import Ratio, stored
from wallet.batch_results import LegResult
from wallet.recipients import WarningCode
from wallet.resources import Withdrawal
from wallet.rows import page_of, row_of
from wallet.tables import batch_legs, cancellations, withdrawals
from wallet.withdrawal_states import CANCELLABLE, ENDED, WaitingFor, WithdrawalState


async def load_withdrawal(connection: AsyncConnection, book: str, withdrawal: str) -> Withdrawal | None:
    row = await row_of(connection, withdrawals, book, withdrawal)
    return None if row is None else read_withdrawal(row)


async def list_withdrawals(
    connection: AsyncConnection, book: str, owner: str, *, before: str | None, after: str | None, limit: int
) -> list[Withdrawal]:
    query = page_of(withdrawals, book, owner, before=before, after=after, limit=limit)
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
    return values | {"fee_price": stored(withdrawal.fee_price), "accepted": " ".join(withdrawal.accepted)}


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
        service_fee=row.service_fee,
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
