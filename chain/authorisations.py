"""Authorisations (EIP-3009) of deposit keys: stored, signed by the signer, checked, and stored with their signature.

The terms are committed before the signer is asked and never change, so that who is killed in between asks for the same
again. Not here: who carries an authorisation to its token (`chain.orders.Carry`), and what came of it.
"""

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.errors import BrokenInvariant
from chain import authorisation_store as store
from chain.checkpoints import Checkpoint, NoCheckpoint
from chain.errors import SignerRefused
from chain.evm.authorisations import check_authorisation
from chain.payments import Authorisation
from chain.signing import Signer
from chain.transaction_store import journal_head
from db.engine import tx

__all__ = ["Authorisation", "Authorisations"]


class Authorisations:
    """Has authorisations signed."""

    def __init__(
        self, engine: AsyncEngine, *, signer: Signer, clock: Clock, checkpoint: Checkpoint | None = None
    ) -> None:
        self._engine = engine
        self._signer = signer
        self._clock = clock
        self._checkpoint = checkpoint or NoCheckpoint()

    async def obtain(self, wanted: Authorisation) -> Authorisation:
        """The authorisation with its signature. Of a subject that was asked for before, the terms of then.

        Raises SignerRefused (nothing was signed), SignerConflict, SignerUnavailable; BrokenInvariant where the subject
        was asked for other terms than time.
        """
        async with tx(self._engine) as connection:
            await store.insert(connection, wanted, now=self._clock.now())
            known = await store.load(connection, wanted)
            highest = await journal_head(connection)
        if _terms(known) != _terms(wanted):
            raise BrokenInvariant(f"{wanted.subject} was authorised on other terms", code="other_terms")
        if known.signature is not None:
            return known
        self._checkpoint.reached("authorising.before")
        try:
            signed = await self._signer.authorise(known.intent, highest=highest)
        except SignerRefused as refused:
            if refused.journal is not None:
                async with tx(self._engine) as connection:
                    await store.note_journal(connection, known, refused.journal)
            raise
        check_authorisation(signed.raw, known.intent, owner=known.owner.address, recipient=known.to.address)
        self._checkpoint.reached("authorising.after")
        async with tx(self._engine) as connection:
            await store.store_signature(connection, known, signed, now=self._clock.now())
            return await store.load(connection, wanted)


def _terms(one: Authorisation) -> tuple[object, ...]:
    domain = (one.domain_name, one.domain_version)
    return one.network, one.chain_id, one.owner, one.contract, domain, one.to, one.amount
