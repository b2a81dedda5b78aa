"""What the chain and earlier resolutions show of a withdrawal under review: the only SQL about it."""

from typing import Any

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from chain import foreign_store, transaction_store, transactions
from chain import tables as chain
from chain.payments import OwnTransaction
from chain.signing import Batch as BatchOrder
from wallet import batch_store
from wallet.resolutions import InBatch, OnChainFindings, SeenPayment, UsedUp
from wallet.resources import BatchState, Withdrawal
from wallet.tables import resolutions, withdrawals
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawal_store import read_withdrawal

PAYMENTS_MAX = 50
"""Payments to one recipient that are looked at, the newest first."""


async def list_in_state(
    connection: AsyncConnection, book: str, state: WithdrawalState, *, before: str | None, limit: int
) -> list[Withdrawal]:
    """Withdrawals of all users in one state, newest first, those older than the id `before`."""
    query = select(withdrawals).where(withdrawals.c.book == book, withdrawals.c.state == state)
    if before is not None:
        query = query.where(withdrawals.c.id < before)
    rows = await connection.execute(query.order_by(withdrawals.c.id.desc()).limit(limit))
    return [read_withdrawal(row) for row in rows]


async def list_under_review(connection: AsyncConnection, book: str, *, limit: int) -> list[Withdrawal]:
    """Withdrawals that a person must end, the oldest first."""
    mine = (withdrawals.c.book == book) & (withdrawals.c.state == WithdrawalState.NEEDS_REVIEW)
    rows = await connection.execute(select(withdrawals).where(mine).order_by(withdrawals.c.id).limit(limit))
    return [read_withdrawal(row) for row in rows]


async def load_findings(
    connection: AsyncConnection,
    book: str,
    withdrawal: Withdrawal,
    *,
    contract: str | None,
    final_height: int,
    tx_hash: str | None = None,
) -> tuple[OnChainFindings, OwnTransaction | None]:
    """What the chain shows of it, and its own transaction. `tx_hash`: a transaction that's asked about too."""
    own, leg = await transactions.find(connection, book=book, subject=withdrawal.id), None
    if own is None:
        own, leg = await _as_leg(connection, book, withdrawal.id)
    if own is None:
        payments = await _payments(connection, book, withdrawal, contract, final_height, [tx_hash or ""])
        return OnChainFindings(None, None, None, (), None, payments), None
    attempts = (await transaction_store.attempts_of(connection, [own.id]))[own.id]
    hashes = tuple(attempt.tx_hash for attempt in attempts if attempt.tx_hash is not None)
    used_up = await _used_up(connection, own, hashes, final_height)
    asked = [one for one in (tx_hash, used_up and used_up.tx_hash) if one]
    payments = await _payments(connection, book, withdrawal, contract, final_height, asked)
    sender = own.payment.sender.address
    return OnChainFindings(own.state, sender, own.nonce, hashes, used_up, payments, leg), own


async def claimed_places(connection: AsyncConnection, book: str, network: str, tx_hash: str) -> set[str]:
    """The places of a transaction that resolutions have used."""
    r = resolutions.c
    mine = (r.book == book) & (r.network == network) & (r.tx_hash == tx_hash)
    return set((await connection.execute(select(r.place).where(mine))).scalars())


async def _as_leg(
    connection: AsyncConnection, book: str, withdrawal: str
) -> tuple[OwnTransaction | None, InBatch | None]:
    """The transaction of the batch that pays it, and its place there; without a row, what was signed tells of it."""
    named = await batch_store.load_batch_of(connection, book, withdrawal)
    subject = named or await batch_store.load_signed_in(connection, book, withdrawal)
    own = None if subject is None else await transactions.find(connection, book=book, subject=subject)
    batch = None if subject is None else await batch_store.load_batch(connection, book, subject)
    if own is None or batch is None or not isinstance(own.payment.order, BatchOrder):
        return None, None
    position = [leg.subject for leg in own.payment.order.legs].index(withdrawal)
    return own, InBatch(
        batch=batch.id,
        position=position,
        has_row=named is not None,
        is_booked=batch.state is not BatchState.OPEN,
        is_coin=batch.contract is None,
    )


async def _used_up(
    connection: AsyncConnection, own: OwnTransaction, attempts: tuple[str, ...], final_height: int
) -> UsedUp | None:
    seen = (await transaction_store.evidence(connection, [own.id])).get(own.id)
    if seen is not None:
        is_final = seen.block_number <= final_height
        return UsedUp(seen.tx_hash, seen.block_number, seen.block_hash, seen.tx_hash in attempts) if is_final else None
    sender = own.payment.sender.address
    known = await foreign_store.final_nonces(connection, own.payment.network, [sender])
    if own.nonce is None or sender not in known:
        return None
    next_nonce, block = known[sender]
    return UsedUp(None, block.number, block.block_hash, False) if own.nonce < next_nonce else None


async def _payments(
    connection: AsyncConnection,
    book: str,
    withdrawal: Withdrawal,
    contract: str | None,
    final_height: int,
    asked: list[str],
) -> tuple[SeenPayment, ...]:
    """Transfers from our addresses to the recipient that aren't ours, and of these transactions whosever they are."""
    seen, sent, claim = chain.observations.c, chain.outgoing.c, resolutions.c
    ours = exists().where(chain.attempts.c.network == seen.network, chain.attempts.c.tx_hash == seen.tx_hash)
    subject = (
        select(chain.transactions.c.subject)
        .join(chain.attempts, chain.attempts.c.transaction_id == chain.transactions.c.id)
        .where(chain.attempts.c.network == seen.network, chain.attempts.c.tx_hash == seen.tx_hash)
        .limit(1)
        .scalar_subquery()
    )
    same_transaction = and_(
        sent.network == seen.network, sent.block_hash == seen.block_hash, sent.tx_hash == seen.tx_hash
    )
    claimed = and_(
        claim.book == book, claim.network == seen.network, claim.tx_hash == seen.tx_hash, claim.place == seen.place
    )
    query = (
        select(chain.observations, subject.label("subject"), sent.fee_wei, claim.withdrawal.label("claimed_by"))
        .join(chain.addresses, chain.addresses.c.address == seen.sender)
        .outerjoin(chain.outgoing, same_transaction)
        .outerjoin(resolutions, claimed)
        .where(
            seen.network == withdrawal.network,
            seen.recipient == withdrawal.address,
            seen.contract.is_not_distinct_from(contract),
            ~seen.orphaned,
            or_(~ours, seen.tx_hash.in_(asked)),
        )
        .order_by(seen.block_number.desc(), seen.place)
        .limit(PAYMENTS_MAX)
    )
    return tuple(_payment(row, final_height) for row in await connection.execute(query))


def _payment(row: Any, final_height: int) -> SeenPayment:
    return SeenPayment(
        tx_hash=row.tx_hash,
        place=row.place,
        block_number=row.block_number,
        block_hash=row.block_hash,
        sender=row.sender,
        chain_amount=row.amount,
        seen_at=row.seen_at,
        is_final=row.block_number <= final_height,
        subject=row.subject,
        claimed_by=row.claimed_by,
        fee_wei=row.fee_wei or 0,
    )
