"""Rows of own transactions, attempts and nonces: the only SQL about them.

A transaction's row is changed by compare-and-set on its state, so that of two workers at one transaction the second
writes nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Row, Select, Text, any_, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.errors import LeadershipLost
from chain.fees import Bid
from chain.orders import claims_map, claims_of, order_map, order_of
from chain.payments import Attempt, Mined, OnChain, OwnTransaction, Payment, Stalled
from chain.signing import OwnAddress, OwnKey, Role, Signed
from chain.transaction_states import OPEN, WITHOUT_NONCE, Kind, State, WaitingFor
from db.given import given

_transactions = tables.transactions
_attempts = tables.attempts
_nonces = tables.nonces
_outgoing = tables.outgoing


async def lock_nonces(connection: AsyncConnection, *, network: str, sender: str) -> int:
    """The sender's next nonce, its row locked until the tx ends; 0 for a sender never heard of."""
    await begin_nonces(connection, network=network, sender=sender, first=0)
    mine = (_nonces.c.network == network) & (_nonces.c.sender == sender)
    locked = await connection.execute(select(_nonces.c.next_nonce).where(mine).with_for_update())
    return int(locked.scalar_one())


async def set_next_nonce(connection: AsyncConnection, *, network: str, sender: str, nonce: int) -> None:
    """Let `nonce` be the next to reserve; only under `lock_nonces`."""
    mine = (_nonces.c.network == network) & (_nonces.c.sender == sender)
    await connection.execute(update(_nonces).where(mine).values(next_nonce=nonce))


async def begin_nonces(connection: AsyncConnection, *, network: str, sender: str, first: int) -> None:
    """Let the sender's nonces begin at `first`, unless they have begun."""
    await connection.execute(
        insert(_nonces).values(network=network, sender=sender, next_nonce=first).on_conflict_do_nothing()
    )


async def insert_transactions(
    connection: AsyncConnection, reserved: Sequence[tuple[str, Payment, int]], *, now: datetime
) -> None:
    """Reserved transactions: (id, what it pays, nonce) of each."""
    if reserved:
        await connection.execute(insert(_transactions), [_reserved(*one, now) for one in reserved])


def _reserved(id: str, payment: Payment, nonce: int, now: datetime) -> dict[str, object]:
    recipient_key = payment.to.key if isinstance(payment.to, OwnAddress) else None
    return {
        "id": id,
        "network": payment.network,
        "kind": payment.kind,
        "book": payment.book,
        "subject": payment.subject,
        "state": State.RESERVED,
        "sender_role": payment.sender.key.role,
        "sender_generation": payment.sender.key.generation,
        "sender_index": payment.sender.key.index,
        "sender": payment.sender.address,
        "nonce": nonce,
        "contract": payment.contract,
        "recipient": payment.recipient,
        "recipient_role": recipient_key.role if recipient_key else None,
        "recipient_generation": recipient_key.generation if recipient_key else None,
        "recipient_index": recipient_key.index if recipient_key else None,
        "amount": payment.amount,
        "gas_limit": payment.gas_limit,
        "fee_wei_max": payment.fee_wei_max,
        "order": None if payment.order is None else order_map(payment.order),
        "claims": None if payment.claims is None else claims_map(payment.claims),
        "created_at": now,
        "updated_at": now,
    }


async def live_of_subject(connection: AsyncConnection, *, book: str, subject: str) -> OwnTransaction | None:
    """The transaction of `subject` that has a nonce; there is at most one."""
    return (await live_of_subjects(connection, book=book, subjects=[subject])).get(subject)


async def live_of_subjects(
    connection: AsyncConnection, *, book: str, subjects: Sequence[str]
) -> dict[str, OwnTransaction]:
    """The transactions of these subjects that have nonces, by subject."""
    mine = (_transactions.c.book == book) & (_transactions.c.subject == any_(literal(list(subjects), ARRAY(Text))))
    rows = await connection.execute(select(_transactions).where(mine, _transactions.c.state.not_in(WITHOUT_NONCE)))
    return {row.subject: transaction_of(row) for row in rows}


async def by_id(connection: AsyncConnection, id: str) -> OwnTransaction | None:
    """The transaction with this id."""
    return await _one(connection, select(_transactions).where(_transactions.c.id == id))


async def payout_contracts(
    connection: AsyncConnection, network: str, places: Sequence[tuple[str, int]]
) -> frozenset[str]:
    """The contracts that our batches with these senders and nonces on `network` pay through."""
    if not places:
        return frozenset()
    own = _transactions.c
    mine = (own.network == network) & tuple_(own.sender, own.nonce).in_(places)
    rows = await connection.execute(select(own.recipient).where(mine, own.kind == Kind.BATCH))
    return frozenset(rows.scalars())


async def open_ones(connection: AsyncConnection, *, network: str, limit: int) -> list[OwnTransaction]:
    """What isn't finished on `network`, by sender and nonce, at most `limit`."""
    asked = select(_transactions).where(_transactions.c.network == network, _transactions.c.state.in_(OPEN))
    rows = await connection.execute(asked.order_by(_transactions.c.sender, _transactions.c.nonce).limit(limit))
    return [transaction_of(row) for row in rows]


async def stalled(connection: AsyncConnection) -> list[Stalled]:
    """What own transactions wait for that doesn't come by itself: lower fees, gas, funds."""
    lacks = (WaitingFor.FEE, WaitingFor.GAS, WaitingFor.FUNDS)
    own = _transactions.c
    asked = (
        select(own.network, own.waiting_for, func.count(), func.min(own.updated_at), func.min(own.refusal))
        .where(own.state.in_(OPEN), own.waiting_for.in_(lacks))
        .group_by(own.network, own.waiting_for)
    )
    return [
        Stalled(network=network, waiting_for=WaitingFor(lack), count=count, since=since, words=words)
        for network, lack, count, since, words in await connection.execute(asked)
    ]


async def in_review(connection: AsyncConnection, *, limit: int) -> list[OwnTransaction]:
    """Own transactions whose nonce was used up by others, oldest first: only a person can end what they carry out."""
    asked = select(_transactions).where(_transactions.c.state == State.NEEDS_REVIEW)
    return [transaction_of(row) for row in await connection.execute(asked.order_by(_transactions.c.id).limit(limit))]


async def attempts_of(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """The attempts of each of these transactions, in order."""
    asked = select(_attempts).where(_attempts.c.transaction_id.in_(ids))
    found: dict[str, list[Attempt]] = {id: [] for id in ids}
    for row in await connection.execute(asked.order_by(_attempts.c.transaction_id, _attempts.c.attempt)):
        found[row.transaction_id].append(_attempt(row))
    return found


async def evidence(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, OnChain]:
    """For each of these transactions the live transaction on chain that has its sender and nonce, if there is one."""
    same = (
        (_outgoing.c.network == _transactions.c.network)
        & (_outgoing.c.sender == _transactions.c.sender)
        & (_outgoing.c.nonce == _transactions.c.nonce)
    )
    asked = select(_transactions.c.id, _outgoing).join(_outgoing, same)
    rows = await connection.execute(asked.where(_transactions.c.id.in_(ids), ~_outgoing.c.orphaned))
    return {row.id: _on_chain(row) for row in rows}


async def journal_head(connection: AsyncConnection) -> tuple[int, bytes] | None:
    """The highest (sequence, head) of the signer's journal that any answer carried."""
    heads = []
    for table in (_attempts, tables.authorisations, tables.controls):
        own = table.c
        asked = select(own.signer_sequence, own.signer_head).where(own.signer_sequence.is_not(None))
        row = (await connection.execute(asked.order_by(own.signer_sequence.desc()).limit(1))).first()
        heads += [(row.signer_sequence, row.signer_head)] if row else []
    return max(heads, default=None)


async def save(
    connection: AsyncConnection, moves: Sequence[tuple[OwnTransaction, OwnTransaction]], *, now: datetime
) -> None:
    """Let each transaction stand as the second of a pair says, if it still is in the state in which the first was read.

    Raises LeadershipLost if another worker moved one of them on: then nothing of it may be kept. What somebody asks of
    it meanwhile (`cancelling`) isn't touched.
    """
    if not moves:
        return
    rows = [
        {
            "id": before.id,
            "unmoved": before.state,
            "state": after.state,
            "nonce": after.nonce,
            "waiting_for": after.waiting_for,
            "refusal": after.refusal,
            "refusal_code": after.refusal_code,
            **_mined_columns(after.mined),
        }
        for before, after in moves
    ]
    told = given(_transactions, rows, also={"unmoved": "state"})
    same = (_transactions.c.id == told.c.id) & (_transactions.c.state == told.c.unmoved)
    columns = {name: told.c[name] for name in rows[0] if name not in ("id", "unmoved")}
    changed = await connection.execute(update(_transactions).where(same).values({**columns, "updated_at": now}))
    if changed.rowcount != len(moves):
        names = ", ".join(before.id for before, _ in moves)
        raise LeadershipLost(f"another worker moved one of these on: {names}", transactions=len(moves))


async def ask_to_cancel(connection: AsyncConnection, *, book: str, subject: str, reason: str) -> bool:
    """Want the nonce of this subject's transaction used up without a payment; False if it has none under way.

    One that is mined is past that, unless a reorganisation takes it back.
    """
    mine = (_transactions.c.book == book) & (_transactions.c.subject == subject)
    under_way = _transactions.c.state.in_((State.RESERVED, State.SIGNED, State.BROADCAST))
    asked = await connection.execute(update(_transactions).where(mine, under_way).values(cancelling=reason))
    return asked.rowcount == 1


def _mined_columns(mined: Mined | None) -> dict[str, object]:
    """The columns that say where a transaction is mined, or (None) that it isn't."""
    return {
        "mined_attempt": mined.attempt if mined else None,
        "tx_hash": mined.tx_hash if mined else None,
        "block_number": mined.block_number if mined else None,
        "block_hash": mined.block_hash if mined else None,
        "succeeded": mined.succeeded if mined else None,
        "gas_used": mined.gas_used if mined else None,
        "effective_gas_price": mined.effective_gas_price if mined else None,
        "fee_wei": mined.fee_wei if mined else None,
    }


async def insert_attempts(
    connection: AsyncConnection, attempts: Sequence[Attempt], *, network: str, now: datetime
) -> None:
    """What the signer is about to be asked. Raises LeadershipLost if a transaction has another nonce by now."""
    await _lock_unmoved(connection, {attempt.transaction: attempt.nonce for attempt in attempts})
    rows = [
        {
            "transaction_id": attempt.transaction,
            "attempt": attempt.attempt,
            "network": network,
            "kind": attempt.kind,
            "nonce": attempt.nonce,
            "gas_limit": attempt.gas_limit,
            "max_fee_per_gas": attempt.bid.max_fee_per_gas,
            "max_priority_fee_per_gas": attempt.bid.tip,
            "created_at": now,
        }
        for attempt in attempts
    ]
    if rows:
        await connection.execute(insert(_attempts), rows)


async def require_unasked(
    connection: AsyncConnection, transaction: OwnTransaction, *, but: Attempt | None = None
) -> None:
    """Raise LeadershipLost unless the signer was asked for nothing of this transaction, `but` the attempt it refused.

    Locks its row until the tx ends, as `insert_attempts` does.
    """
    await _lock_unmoved(connection, {transaction.id: transaction.nonce})
    others = _attempts.c.transaction_id == transaction.id
    if but is not None:
        others &= _attempts.c.attempt != but.attempt
    if (await connection.execute(select(_attempts.c.attempt).where(others).limit(1))).first() is not None:
        raise LeadershipLost(f"another worker had {transaction.id} signed", transaction=transaction.id)


async def _lock_unmoved(connection: AsyncConnection, nonces: Mapping[str, int | None]) -> None:
    asked = select(_transactions.c.id, _transactions.c.nonce).where(_transactions.c.id.in_(list(nonces)))
    rows = await connection.execute(asked.order_by(_transactions.c.id).with_for_update())
    if {row.id: row.nonce for row in rows} != dict(nonces):
        raise LeadershipLost(f"another worker gave these other nonces: {', '.join(sorted(nonces))}")


async def store_signed(connection: AsyncConnection, signed: Sequence[tuple[Attempt, Signed]], *, now: datetime) -> None:
    """The signer's answers, before anything is sent; each attempt has its bytes and their hash already."""
    if not signed:
        return
    rows = [
        {
            "transaction_id": attempt.transaction,
            "attempt": attempt.attempt,
            "raw": attempt.raw,
            "tx_hash": attempt.tx_hash,
            "signer_sequence": answer.sequence,
            "signer_head": answer.head,
        }
        for attempt, answer in signed
    ]
    told = given(_attempts, rows)
    columns = {name: told.c[name] for name in ("raw", "tx_hash", "signer_sequence", "signer_head")}
    unsigned = _same_attempt(told) & _attempts.c.raw.is_(None)
    await connection.execute(update(_attempts).where(unsigned).values({**columns, "signed_at": now}))


async def note_journal(connection: AsyncConnection, attempt: Attempt, journal: tuple[int, bytes]) -> None:
    """Where the signer's journal stood after it refused `attempt`."""
    await connection.execute(
        update(_attempts).where(_this(attempt)).values(signer_sequence=journal[0], signer_head=journal[1])
    )


async def all_wait(connection: AsyncConnection, *, network: str, waiting_for: WaitingFor) -> None:
    """Everything on `network` that isn't mined and waits for nothing else waits for this."""
    idle = _transactions.c.state.in_((State.RESERVED, State.SIGNED, State.BROADCAST))
    await connection.execute(
        update(_transactions)
        .where(_transactions.c.network == network, idle, _transactions.c.waiting_for.is_(None))
        .values(waiting_for=waiting_for)
    )


async def note_sent(connection: AsyncConnection, attempts: Sequence[Attempt], *, now: datetime) -> None:
    """The attempts' bytes were handed to nodes, or seen there."""
    if not attempts:
        return
    rows = [{"transaction_id": attempt.transaction, "attempt": attempt.attempt} for attempt in attempts]
    told = given(_attempts, rows)
    await connection.execute(
        update(_attempts)
        .where(_same_attempt(told))
        .values(sent_at=func.coalesce(_attempts.c.sent_at, now), last_sent_at=now)
    )


async def forget_sending(connection: AsyncConnection, transactions: Sequence[str]) -> None:
    """The attempts' bytes are to be handed in again at once."""
    if transactions:
        await connection.execute(
            update(_attempts).where(_attempts.c.transaction_id.in_(transactions)).values(last_sent_at=None)
        )


async def lower_nonce(connection: AsyncConnection, transaction: OwnTransaction, *, now: datetime) -> None:
    """A reserved transaction, and what the signer was going to be asked for it, move down by one nonce.

    Only where an earlier nonce of its sender was never signed: then the signer can't have signed this one either.
    """
    mine = (_transactions.c.id == transaction.id) & (_transactions.c.state == State.RESERVED)
    lowered = {"nonce": _transactions.c.nonce - 1, "updated_at": now}
    changed = await connection.execute(update(_transactions).where(mine).values(lowered))
    if changed.rowcount != 1:
        raise LeadershipLost(f"another worker moved {transaction.id} on", transaction=transaction.id)
    unsigned = (_attempts.c.transaction_id == transaction.id) & _attempts.c.raw.is_(None)
    await connection.execute(update(_attempts).where(unsigned).values(nonce=_attempts.c.nonce - 1))


async def above(connection: AsyncConnection, transaction: OwnTransaction) -> list[OwnTransaction]:
    """The same sender's transactions with higher nonces, lowest first."""
    payment = transaction.payment
    higher = (
        (_transactions.c.network == payment.network)
        & (_transactions.c.sender == payment.sender.address)
        & (_transactions.c.nonce > transaction.nonce)
    )
    rows = await connection.execute(select(_transactions).where(higher).order_by(_transactions.c.nonce))
    return [transaction_of(row) for row in rows]


async def _one(connection: AsyncConnection, asked: Select[Any]) -> OwnTransaction | None:
    row = (await connection.execute(asked)).first()
    return transaction_of(row) if row else None


def transaction_of(row: Row[Any]) -> OwnTransaction:
    """A stored transaction."""
    to = row.recipient
    if row.recipient_role is not None:
        to = OwnAddress(OwnKey(Role(row.recipient_role), row.recipient_index, row.recipient_generation), row.recipient)
    payment = Payment(
        network=row.network,
        kind=Kind(row.kind),
        book=row.book,
        subject=row.subject,
        sender=OwnAddress(OwnKey(Role(row.sender_role), row.sender_index, row.sender_generation), row.sender),
        contract=row.contract,
        to=to,
        amount=row.amount,
        gas_limit=row.gas_limit,
        fee_wei_max=row.fee_wei_max,
        order=None if row.order is None else order_of(row.order),
        claims=None if row.claims is None else claims_of(row.claims),
    )
    return OwnTransaction(
        id=row.id,
        payment=payment,
        nonce=row.nonce,
        state=State(row.state),
        waiting_for=WaitingFor(row.waiting_for) if row.waiting_for else None,
        refusal=row.refusal,
        mined=_mined(row) if row.block_hash is not None else None,
        created_at=row.created_at,
        updated_at=row.updated_at,
        cancelling=row.cancelling,
        refusal_code=row.refusal_code,
    )


def _same_attempt(told: Any) -> ColumnElement[bool]:
    same: ColumnElement[bool] = (_attempts.c.transaction_id == told.c.transaction_id) & (
        _attempts.c.attempt == told.c.attempt
    )
    return same


def _this(attempt: Attempt) -> ColumnElement[bool]:
    return (_attempts.c.transaction_id == attempt.transaction) & (_attempts.c.attempt == attempt.attempt)


def _on_chain(row: Row[Any]) -> OnChain:
    return OnChain(
        tx_hash=row.tx_hash,
        block_number=row.block_number,
        block_hash=row.block_hash,
        succeeded=row.succeeded,
        gas_used=row.gas_used,
        effective_gas_price=row.effective_gas_price,
        fee_wei=row.fee_wei,
    )


def _mined(row: Row[Any]) -> Mined:
    return Mined(
        attempt=row.mined_attempt,
        tx_hash=row.tx_hash,
        block_number=row.block_number,
        block_hash=row.block_hash,
        succeeded=row.succeeded,
        gas_used=row.gas_used,
        effective_gas_price=row.effective_gas_price,
        fee_wei=row.fee_wei,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        transaction=row.transaction_id,
        attempt=row.attempt,
        kind=row.kind,
        nonce=row.nonce,
        gas_limit=row.gas_limit,
        bid=Bid(row.max_fee_per_gas, row.max_priority_fee_per_gas),
        tx_hash=row.tx_hash,
        raw=row.raw,
        sent_at=row.sent_at,
        last_sent_at=row.last_sent_at,
        refused=row.raw is None and row.signer_sequence is not None,
    )
