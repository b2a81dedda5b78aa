"""Rows of own transactions, attempts and nonces: the only SQL about them.

A transaction's row is changed by compare-and-set on its state, so that of two workers at one transaction the second
writes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import tables
from chain.errors import LeadershipLost
from chain.fees import Bid
from chain.payments import Attempt, Mined, OnChain, OwnTransaction, Payment
from chain.signing import Claims, OwnAddress, OwnKey, Role, Signed
from chain.transaction_states import OPEN, Kind, State, WaitingFor

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


async def insert_transaction(
    connection: AsyncConnection, *, id: str, payment: Payment, nonce: int, now: datetime
) -> None:
    """A reserved transaction."""
    recipient_key = payment.to.key if isinstance(payment.to, OwnAddress) else None
    await connection.execute(
        insert(_transactions).values(
            id=id,
            network=payment.network,
            kind=payment.kind,
            book=payment.book,
            subject=payment.subject,
            state=State.RESERVED,
            sender_role=payment.sender.key.role,
            sender_index=payment.sender.key.index,
            sender=payment.sender.address,
            nonce=nonce,
            contract=payment.contract,
            recipient=payment.recipient,
            recipient_role=recipient_key.role if recipient_key else None,
            recipient_index=recipient_key.index if recipient_key else None,
            amount=payment.amount,
            gas_limit=payment.gas_limit,
            fee_wei_max=payment.fee_wei_max,
            claims=None if payment.claims is None else _claims_map(payment.claims),
            created_at=now,
            updated_at=now,
        )
    )


async def live_of_subject(connection: AsyncConnection, *, book: str, subject: str) -> OwnTransaction | None:
    """The transaction of `subject` that wasn't refused; there is at most one."""
    mine = (_transactions.c.book == book) & (_transactions.c.subject == subject)
    return await _one(connection, select(_transactions).where(mine, _transactions.c.state != State.REFUSED))


async def by_id(connection: AsyncConnection, id: str) -> OwnTransaction | None:
    """The transaction with this id."""
    return await _one(connection, select(_transactions).where(_transactions.c.id == id))


async def open_ones(connection: AsyncConnection, *, network: str, limit: int) -> list[OwnTransaction]:
    """What isn't finished on `network`, by sender and nonce, at most `limit`."""
    asked = select(_transactions).where(_transactions.c.network == network, _transactions.c.state.in_(OPEN))
    rows = await connection.execute(asked.order_by(_transactions.c.sender, _transactions.c.nonce).limit(limit))
    return [_transaction(row) for row in rows]


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
    asked = select(_attempts.c.signer_sequence, _attempts.c.signer_head).where(_attempts.c.signer_sequence.is_not(None))
    row = (await connection.execute(asked.order_by(_attempts.c.signer_sequence.desc()).limit(1))).first()
    return (row.signer_sequence, row.signer_head) if row else None


async def change(
    connection: AsyncConnection, transaction: OwnTransaction, state: State, *, now: datetime, **columns: object
) -> None:
    """Move a transaction on from the state it was read in. Raises LeadershipLost if another worker did so first."""
    unmoved = (_transactions.c.id == transaction.id) & (_transactions.c.state == transaction.state)
    changed = await connection.execute(
        update(_transactions).where(unmoved).values({"state": state, "updated_at": now, **columns})
    )
    if changed.rowcount != 1:
        raise LeadershipLost(f"another worker moved {transaction.id} on", transaction=transaction.id)


def mined_columns(mined: Mined | None) -> dict[str, object]:
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


async def insert_attempt(connection: AsyncConnection, attempt: Attempt, *, network: str, now: datetime) -> None:
    """What the signer is about to be asked."""
    await connection.execute(
        insert(_attempts).values(
            transaction_id=attempt.transaction,
            attempt=attempt.attempt,
            network=network,
            kind=attempt.kind,
            nonce=attempt.nonce,
            gas_limit=attempt.gas_limit,
            max_fee_per_gas=attempt.bid.max_fee_per_gas,
            max_priority_fee_per_gas=attempt.bid.tip,
            created_at=now,
        )
    )


async def store_signed(
    connection: AsyncConnection, attempt: Attempt, signed: Signed, *, tx_hash: str, now: datetime
) -> None:
    """The signer's answer, before anything is sent."""
    await connection.execute(
        update(_attempts)
        .where(_this(attempt), _attempts.c.raw.is_(None))
        .values(
            raw=signed.raw,
            tx_hash=tx_hash,
            signer_sequence=signed.sequence,
            signer_head=signed.head,
            signed_at=now,
        )
    )


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


async def note_sent(connection: AsyncConnection, attempt: Attempt, *, now: datetime) -> None:
    """The attempt's bytes were handed to a node, or seen there."""
    await connection.execute(
        update(_attempts)
        .where(_this(attempt))
        .values(sent_at=func.coalesce(_attempts.c.sent_at, now), last_sent_at=now)
    )


async def forget_sending(connection: AsyncConnection, transaction: str) -> None:
    """The attempts' bytes are to be handed in again at once."""
    await connection.execute(
        update(_attempts).where(_attempts.c.transaction_id == transaction).values(last_sent_at=None)
    )


async def above(connection: AsyncConnection, transaction: OwnTransaction) -> list[OwnTransaction]:
    """The same sender's transactions with higher nonces, lowest first."""
    payment = transaction.payment
    higher = (
        (_transactions.c.network == payment.network)
        & (_transactions.c.sender == payment.sender.address)
        & (_transactions.c.nonce > transaction.nonce)
    )
    rows = await connection.execute(select(_transactions).where(higher).order_by(_transactions.c.nonce))
    return [_transaction(row) for row in rows]


async def _one(connection: AsyncConnection, asked: Select[Any]) -> OwnTransaction | None:
    row = (await connection.execute(asked)).first()
    return _transaction(row) if row else None


def _transaction(row: Row[Any]) -> OwnTransaction:
    to = row.recipient
    if row.recipient_role is not None:
        to = OwnAddress(OwnKey(Role(row.recipient_role), row.recipient_index), row.recipient)
    payment = Payment(
        network=row.network,
        kind=Kind(row.kind),
        book=row.book,
        subject=row.subject,
        sender=OwnAddress(OwnKey(Role(row.sender_role), row.sender_index), row.sender),
        contract=row.contract,
        to=to,
        amount=row.amount,
        gas_limit=row.gas_limit,
        fee_wei_max=row.fee_wei_max,
        claims=None if row.claims is None else _claims(row.claims),
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
    )


def _claims_map(claims: Claims) -> dict[str, str | None]:
    key_hash = None if claims.key_hash is None else claims.key_hash.hex()
    return {"account": claims.account, "asset": claims.asset, "amount": str(claims.amount), "key_hash": key_hash}


def _claims(told: dict[str, Any]) -> Claims:
    key_hash = None if told["key_hash"] is None else bytes.fromhex(told["key_hash"])
    return Claims(told["account"], told["asset"], int(told["amount"]), key_hash)


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
