"""Own transactions as the signer's journal has them, put back into a database that has forgotten them.

The journal is right about what was signed: its subjects get their nonces, attempts and bytes; what was refused is
refused again; and what this database had reserved without its being signed moves up behind all that. One tx per sender,
under the lock of its nonces. Done again it changes nothing. Not here: why something was paid, and how it's booked.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ARRAY, Text, any_, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock
from base.entropy import Entropy
from base.errors import BrokenInvariant
from base.ids import new_id
from chain import tables
from chain import transaction_store as store
from chain.fees import Bid
from chain.payments import Attempt, OwnTransaction, Payment
from chain.signing import OwnAddress, OwnKey, Role, Signed
from chain.transaction_states import State

_transactions = tables.transactions
_attempts = tables.attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalAttempt:
    """One attempt as the journal has it; `raw` and `tx_hash` None: journalled, but not signed yet.

    `sequence` and `head` are the row with which the bytes were answered.
    """

    attempt: int
    kind: str
    gas_limit: int
    bid: Bid
    raw: bytes | None
    tx_hash: str | None
    sequence: int
    head: bytes
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPayment:
    """A payment as the journal has it: its terms, its nonce, and its attempts in order."""

    payment: Payment
    nonce: int
    attempts: tuple[JournalAttempt, ...]

    @property
    def subject(self) -> str:
        """What it carries out."""
        return self.payment.subject

    @property
    def tx_hash(self) -> str | None:
        """The hash of the latest bytes."""
        return next((one.tx_hash for one in reversed(self.attempts) if one.tx_hash is not None), None)


@dataclass(frozen=True, slots=True)
class JournalRefusal:
    """The signer's no to a subject for which it signed nothing, and the journal's row of it."""

    words: str
    sequence: int
    head: bytes


@dataclass(slots=True)
class Rebuilt:
    """What was changed: whole transactions, further attempts, refusals, and reservations that got other nonces."""

    transactions: int = 0
    attempts: int = 0
    refused: int = 0
    moved: int = 0

    def __iadd__(self, other: "Rebuilt") -> "Rebuilt":
        self.transactions += other.transactions
        self.attempts += other.attempts
        self.refused += other.refused
        self.moved += other.moved
        return self


async def rebuild_sender(
    connection: AsyncConnection,
    sender: OwnAddress,
    *,
    network: str,
    signed: Sequence[JournalPayment],
    next_nonce: int | None,
    refusals: Mapping[str, JournalRefusal],
    clock: Clock,
    entropy: Entropy,
) -> Rebuilt:
    """Make the sender's transactions on `network` what the journal says, in the caller's tx.

    `next_nonce` is the one after the journal's highest of this sender, None if it has none. Locks the sender's nonces.
    Raises BrokenInvariant where this database has other bytes than the journal for one attempt.
    """
    done, now = Rebuilt(), clock.now()
    before = await store.lock_nonces(connection, network=network, sender=sender.address)
    known = await _known(connection, network, sender)
    by_subject = {one.payment.subject: one for one in known if one.state is not State.REFUSED}
    reserved = [
        one for one in known if one.state is State.RESERVED and one.payment.subject not in {it.subject for it in signed}
    ]
    refused = [one for one in reserved if one.payment.subject in refusals]
    unsigned = [one for one in reserved if one.payment.subject not in refusals]
    for one in refused:
        await _refuse(connection, one, refusals[one.payment.subject], now=now)
    done.refused += len(refused)
    first = next_nonce
    if first is None:
        first = min((one.nonce for one in reserved if one.nonce is not None), default=before)
    places = {one.subject: one.nonce for one in signed}
    places |= {one.payment.subject: first + count for count, one in enumerate(unsigned)}
    displaced = [one for one in by_subject.values() if places.get(one.payment.subject, one.nonce) != one.nonce]
    displaced = [one for one in displaced if one not in refused]
    await _set_aside(connection, displaced)
    done.moved += len(displaced)
    for one in displaced:
        await _move(connection, one, places[one.payment.subject])
    for payment in signed:
        done += await _rebuild(connection, payment, by_subject.get(payment.subject), now=now, id=_id(clock, entropy))
    following = first + len(unsigned)
    if following != before:
        await store.set_next_nonce(connection, network=network, sender=sender.address, nonce=following)
    return done


async def give_back_elsewhere(
    connection: AsyncConnection, network: str, signed: Mapping[str, str], *, now: datetime
) -> int:
    """Give up what is reserved here and was signed otherwise; how many there were.

    `signed`: by subject, the address that the journal's attempts are from, or the subject of the batch that it was
    signed in. The nonces behind move down by one.
    """
    made, named = _transactions.c, any_(literal(list(signed), ARRAY(Text)))
    mine = (made.network == network) & (made.subject == named) & (made.state == State.RESERVED)
    rows = await connection.execute(select(_transactions).where(mine).order_by(made.sender, made.nonce.desc()))
    found = [store.transaction_of(row) for row in rows]
    elsewhere = [one for one in found if one.payment.sender.address != signed[one.payment.subject]]
    for one in elsewhere:
        sender = one.payment.sender.address
        following = await store.lock_nonces(connection, network=network, sender=sender)
        words = f"the signer's journal has it from {signed[one.payment.subject]}"
        given_back = replace(one, state=State.GIVEN_BACK, nonce=None, waiting_for=None, refusal=words)
        later = await store.above(connection, one)
        await store.save(connection, [(one, given_back)], now=now)
        for other in later:
            if other.state is State.RESERVED:
                await store.lower_nonce(connection, other, now=now)
        await store.set_next_nonce(connection, network=network, sender=sender, nonce=following - 1)
    return len(elsewhere)


async def senders_of(connection: AsyncConnection, network: str) -> list[OwnAddress]:
    """Whoever has reserved a nonce on `network`."""
    made = _transactions.c
    key = (made.sender_role, made.sender_index, made.sender_generation, made.sender)
    rows = await connection.execute(select(*key).distinct().where(made.network == network).order_by(made.sender))
    return [OwnAddress(OwnKey(Role(role), index, generation), address) for role, index, generation, address in rows]


async def subjects_in(connection: AsyncConnection, book: str, subjects: Sequence[str]) -> set[str]:
    """Those of these subjects that have a transaction in `book`."""
    made, named = _transactions.c, any_(literal(list(subjects), ARRAY(Text)))
    rows = await connection.execute(select(made.subject).where(made.book == book, made.subject == named))
    return set(rows.scalars())


async def reserved_by(connection: AsyncConnection, network: str, sender: OwnAddress) -> list[OwnTransaction]:
    """What the sender has a nonce for and, as far as this database knows, no signature."""
    return [one for one in await _known(connection, network, sender) if one.state is State.RESERVED]


async def unsigned_subjects(connection: AsyncConnection, subjects: Iterable[str]) -> set[str]:
    """Subjects of transactions that have a nonce here, and of which the journal (`subjects`) has signed nothing."""
    made = _transactions.c
    rows = await connection.execute(select(made.subject).where(made.state == State.RESERVED))
    return set(rows.scalars()) - set(subjects)


async def _known(connection: AsyncConnection, network: str, sender: OwnAddress) -> list[OwnTransaction]:
    made = _transactions.c
    mine = (made.network == network) & (made.sender == sender.address) & made.nonce.is_not(None)
    rows = await connection.execute(select(_transactions).where(mine).order_by(made.nonce).with_for_update())
    return [store.transaction_of(row) for row in rows]


async def _refuse(
    connection: AsyncConnection, transaction: OwnTransaction, refusal: JournalRefusal, *, now: datetime
) -> None:
    """As the broadcaster writes a refusal down: the nonce is free."""
    await connection.execute(
        update(_attempts)
        .where(_attempts.c.transaction_id == transaction.id, _attempts.c.raw.is_(None))
        .values(signer_sequence=refusal.sequence, signer_head=refusal.head)
    )
    refused = replace(transaction, state=State.REFUSED, nonce=None, waiting_for=None, refusal=refusal.words)
    await store.save(connection, [(transaction, refused)], now=now)


async def _set_aside(connection: AsyncConnection, transactions: Sequence[OwnTransaction]) -> None:
    """Nonces below zero, which no others have: two that change places must not meet."""
    for count, one in enumerate(transactions, start=1):
        await _move(connection, one, -count)


async def _move(connection: AsyncConnection, transaction: OwnTransaction, nonce: int) -> None:
    """Another nonce for what was reserved, and for the attempts that the signer never signed."""
    mine, tried = _transactions.c.id == transaction.id, _attempts.c.transaction_id == transaction.id
    await connection.execute(update(_transactions).where(mine).values(nonce=nonce))
    await connection.execute(update(_attempts).where(tried, _attempts.c.raw.is_(None)).values(nonce=nonce))


async def _rebuild(
    connection: AsyncConnection, signed: JournalPayment, known: OwnTransaction | None, *, now: datetime, id: str
) -> Rebuilt:
    done = Rebuilt()
    network = signed.payment.network
    if known is None:
        await store.insert_transactions(connection, [(id, signed.payment, signed.nonce)], now=now)
        known = await store.by_id(connection, id)
        done.transactions += 1
    assert known is not None
    here = {one.attempt: one for one in (await store.attempts_of(connection, [known.id]))[known.id]}
    for attempt in signed.attempts:
        stored = here.get(attempt.attempt)
        if stored is None:
            stored = _attempt(known.id, signed.nonce, attempt)
            await store.insert_attempts(connection, [stored], network=network, now=attempt.at)
            done.attempts += 1
        if stored.raw is not None and attempt.raw is not None and stored.raw != attempt.raw:
            raise BrokenInvariant(
                f"attempt {attempt.attempt} of {signed.subject} has other bytes here than in the signer's journal:"
                " `onebook signer audit` says more",
                code="bytes_differ",
            )
        if stored.raw is None and attempt.raw is not None and attempt.tx_hash is not None:
            with_bytes = replace(stored, raw=attempt.raw, tx_hash=attempt.tx_hash)
            answer = Signed(attempt.raw, attempt.sequence, attempt.head)
            await store.store_signed(connection, [(with_bytes, answer)], now=attempt.at)
            done.attempts += attempt.attempt in here
    state = _state(known.state, signed.attempts)
    if state is not known.state:
        after = replace(known, state=state, nonce=signed.nonce, waiting_for=None, refusal=None)
        await store.save(connection, [(known, after)], now=now)
    return done


def _state(state: State, attempts: Sequence[JournalAttempt]) -> State:
    """Where a transaction stands that has these attempts. What more than one was signed for has been sent."""
    if state not in (State.RESERVED, State.SIGNED) or not any(one.raw is not None for one in attempts):
        return state
    return State.SIGNED if len(attempts) == 1 else State.BROADCAST


def _attempt(transaction: str, nonce: int, attempt: JournalAttempt) -> Attempt:
    return Attempt(
        transaction=transaction,
        attempt=attempt.attempt,
        kind=attempt.kind,
        nonce=nonce,
        gas_limit=attempt.gas_limit,
        bid=attempt.bid,
        tx_hash=None,
        raw=None,
        sent_at=None,
        last_sent_at=None,
    )


def _id(clock: Clock, entropy: Entropy) -> str:
    return new_id("txn", clock, entropy)
