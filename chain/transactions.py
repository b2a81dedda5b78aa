"""Own transactions as the layers above ask for them: reserve one beside a change of one's own, find it again.

What then happens to it is the broadcaster's work.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock
from base.entropy import Entropy
from base.errors import BrokenInvariant
from base.ids import new_id
from chain import restores
from chain import transaction_store as store
from chain.payments import Mined, OwnTransaction, Payment

__all__ = ["Mined", "OwnTransaction", "Payment", "Reserved", "cancel", "find", "find_all", "reserve", "reserve_all"]


@dataclass(frozen=True, slots=True)
class Reserved:
    """A transaction that has its nonce. `replayed`: the subject had one already, and this is it."""

    id: str
    nonce: int | None
    replayed: bool


async def reserve(connection: AsyncConnection, payment: Payment, *, clock: Clock, entropy: Entropy) -> Reserved:
    """As `reserve_all`, of one payment."""
    (reserved,) = await reserve_all(connection, [payment], clock=clock, entropy=entropy)
    return reserved


async def reserve_all(
    connection: AsyncConnection, payments: Sequence[Payment], *, clock: Clock, entropy: Entropy
) -> list[Reserved]:
    """Give `payments` of one book and network their nonces, in order, in the caller's tx, beside the caller's change.

    Locks the senders' nonces, in the order of their addresses, until the tx ends. Asked again for the same subject it
    gives the same transaction; for other terms it raises BrokenInvariant. A subject whose transaction the signer
    refused, or that was given back, may be reserved anew. Raises NeedsRecovery in a database that was put back from a
    backup: the nonces may have been signed.
    """
    if not payments:
        return []
    await restores.require(connection)
    network, book = payments[0].network, payments[0].book
    if any((payment.network, payment.book) != (network, book) for payment in payments):
        raise BrokenInvariant("payments of several books or networks are reserved one after another")
    nonces = {
        sender: await store.lock_nonces(connection, network=network, sender=sender)
        for sender in sorted({payment.sender.address for payment in payments})
    }
    begun = dict(nonces)
    known = await store.live_of_subjects(connection, book=book, subjects=[payment.subject for payment in payments])
    reserved, new = [], []
    for payment in payments:
        if (same := known.get(payment.subject)) is not None:
            if same.payment != payment:
                raise BrokenInvariant(f"{payment.subject} is being paid already, on other terms", code="other_terms")
            reserved.append(Reserved(same.id, same.nonce, replayed=True))
            continue
        nonce, id = nonces[payment.sender.address], new_id("txn", clock, entropy)
        nonces[payment.sender.address] += 1
        new.append((id, payment, nonce))
        reserved.append(Reserved(id, nonce, replayed=False))
    await store.insert_transactions(connection, new, now=clock.now())
    for sender, nonce in nonces.items():
        if nonce != begun[sender]:
            await store.set_next_nonce(connection, network=network, sender=sender, nonce=nonce)
    return reserved


async def find(connection: AsyncConnection, *, book: str, subject: str) -> OwnTransaction | None:
    """The transaction that carries out `subject`; None when there is none, or it was refused or given back."""
    return await store.live_of_subject(connection, book=book, subject=subject)


async def find_all(connection: AsyncConnection, *, book: str, subjects: Sequence[str]) -> dict[str, OwnTransaction]:
    """The transactions that carry out these subjects, by subject, as `find` has them."""
    return await store.live_of_subjects(connection, book=book, subjects=subjects)


async def cancel(connection: AsyncConnection, *, book: str, subject: str, reason: str) -> bool:
    """Ask, in the caller's tx, for the nonce of `subject` to be used up without a payment; False: it's too late.

    What becomes of it only the chain decides: the payment may be mined all the same. One that was never signed is given
    back by the broadcaster.
    """
    return await store.ask_to_cancel(connection, book=book, subject=subject, reason=reason)
