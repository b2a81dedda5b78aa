"""Proofs of control of own addresses: stored, signed by the signer, and stored with their signature.

What is asked for is committed before the signer is asked and never changes, so that who is killed in between asks for
the same again, and gets the same. A no of the policy is kept as well: the same is never asked for twice in vain.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from chain import control_store as store
from chain.control_store import Control
from chain.errors import SignerConflict, SignerRefused
from chain.networks import Network
from chain.signing import ControlIntent, ControlSigner
from chain.transaction_store import journal_head
from db.engine import tx

__all__ = ["Control", "Controls"]


class Controls:
    """Has proofs of control signed."""

    def __init__(self, engine: AsyncEngine, *, signer: ControlSigner, clock: Clock) -> None:
        self._engine = engine
        self._signer = signer
        self._clock = clock

    async def obtain(self, network: Network, wanted: Sequence[Control]) -> int:
        """Have all of them signed that weren't asked for yet; how many were. One at a time, each kept at once.

        Raises SignerUnavailable: what is signed by then stays, and the next call goes on.
        """
        if not wanted:
            return 0
        async with tx(self._engine) as connection:
            await store.insert(connection, wanted, now=self._clock.now())
            subjects = {one.subject for one in wanted}
            known = await store.load(connection, wanted[0].book, wanted[0].epoch)
        waiting = [one for one in known if one.subject in subjects and one.signature is None and one.refusal is None]
        for control in waiting:
            await self._ask(network, control)
        return len(waiting)

    async def _ask(self, network: Network, control: Control) -> None:
        intent = ControlIntent(
            subject=control.subject,
            chain_id=network.chain_id,
            owner=control.owner.key,
            epoch=control.epoch,
            root=control.root,
        )
        async with tx(self._engine) as connection:
            highest = await journal_head(connection)
        try:
            signed = await self._signer.prove(intent, highest=highest)
        except (SignerRefused, SignerConflict) as no:
            journal = no.journal if isinstance(no, SignerRefused) else None
            async with tx(self._engine) as connection:
                await store.store_refusal(connection, control, f"{no.code}: {no.message}", journal)
            return
        async with tx(self._engine) as connection:
            await store.store_signature(connection, control, signed, now=self._clock.now())
