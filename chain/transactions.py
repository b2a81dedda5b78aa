"""Own transactions as the layers above ask for them: reserve one beside a change of one's own, find it again.

What then happens to it is the broadcaster's work.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from base.clock import Clock
from base.entropy import Entropy
from base.errors import BrokenInvariant
from base.ids import new_id
from chain import transaction_store as store
from chain.payments import Mined, OwnTransaction, Payment

__all__ = ["Mined", "OwnTransaction", "Payment", "Reserved", "find", "reserve"]


@dataclass(frozen=True, slots=True)
class Reserved:
    """A transaction that has its nonce. `replayed`: the subject had one already, and this is it."""

    id: str
    nonce: int | None
    replayed: bool


async def reserve(connection: AsyncConnection, payment: Payment, *, clock: Clock, entropy: Entropy) -> Reserved:
    """Give `payment` its nonce, in the caller's tx, beside the caller's own change of state.

    Locks the sender's nonces until the tx ends. Asked again for the same subject it gives the same transaction; for
    other terms it raises BrokenInvariant. A subject whose transaction the signer refused may be reserved anew.
    """
    nonce = await store.lock_nonces(connection, network=payment.network, sender=payment.sender.address)
    known = await store.live_of_subject(connection, book=payment.book, subject=payment.subject)
    if known is not None:
        if known.payment != payment:
            raise BrokenInvariant(f"{payment.subject} is being paid already, on other terms", code="other_terms")
        return Reserved(known.id, known.nonce, replayed=True)
    id = new_id("txn", clock, entropy)
    await store.insert_transaction(connection, id=id, payment=payment, nonce=nonce, now=clock.now())
    await store.set_next_nonce(connection, network=payment.network, sender=payment.sender.address, nonce=nonce + 1)
    return Reserved(id, nonce, replayed=False)


async def find(connection: AsyncConnection, *, book: str, subject: str) -> OwnTransaction | None:
    """The transaction that carries out `subject`: the live one, or None when there is none or it was refused."""
    return await store.live_of_subject(connection, book=book, subject=subject)
