"""Refunds that stay unknown, ended by hand: one treasurer says what became of it, another one agrees.

As long as the provider may still say it, its word is waited for; but some forget our id (PayPal, after 45 days), and
then nobody hears of it any more. Two people must have looked at the provider's pages, each with a key of their own.
"""

from collections.abc import Sequence
from dataclasses import replace

from base.errors import NotFound
from db.engine import tx
from fiat.rails import store
from fiat.rails.desk import Desk
from fiat.rails.errors import RefundNotInDoubt
from fiat.rails.records import Ending, Refund
from fiat.rails.refund_states import RefundState
from fiat.rails.refunds import Refunds
from fiat.rails.tables import refunds


class RefundEndings:
    """What treasurers see of all users' refunds, and what they say of those in doubt."""

    def __init__(self, desk: Desk, refunds: Refunds) -> None:
        self._desk = desk
        self._refunds = refunds

    async def find(self, refund: str) -> Refund:
        """Anybody's refund. Raises NotFound."""
        async with tx(self._desk.engine) as connection:
            row = await store.load(connection, refunds, self._desk.book, refund)
        if row is None:
            raise NotFound(f"there is no refund {refund[:40]!r}", param="refund")
        return store.read_refund(row)

    async def list_all(
        self,
        *,
        states: Sequence[RefundState] = (),
        before: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[Refund]:
        """Refunds in these states (all if none is named), newest first (oldest first with `after`)."""
        async with tx(self._desk.engine) as connection:
            return await store.list_any_refunds(
                connection, self._desk.book, states=states, before=before, after=after, limit=limit
            )

    async def say(self, refund: str, *, outcome: Ending, evidence: str, reason: str, by: str) -> Refund:
        """`by` says that this became of it, as `evidence` shows: of one that succeeded, the provider's own id of it.

        The first to say it is written down; once another has said the same, it's booked. Who says something else takes
        the first one's place. Raises NotFound, RefundNotInDoubt, Unavailable where it wasn't booked yet.
        """
        found = await self.find(refund)
        said = found.ending, found.ending_evidence
        if found.agreed_by is not None and said == (outcome, evidence):
            return replace(found, replayed=True)
        if found.state is not RefundState.UNKNOWN:
            raise _not_in_doubt(found)
        if outcome is Ending.SUCCEEDED:
            await self._require_free(found, evidence)
        if said != (outcome, evidence):
            await self._propose(found, outcome=outcome, evidence=evidence, reason=reason, by=by)
        elif found.ending_by != by:
            await self._refunds.end_by_hand(found, agreed_by=by, agreed_reason=reason)
            if (await self.find(refund)).agreed_by is None:
                raise _not_in_doubt(await self.find(refund))
        return await self.find(refund)

    async def _propose(self, found: Refund, *, outcome: Ending, evidence: str, reason: str, by: str) -> None:
        now = self._desk.clock.now()
        values: dict[str, object] = {
            "ending": outcome.value,
            "ending_evidence": evidence,
            "ending_reason": reason,
            "ending_by": by,
            "ending_at": now,
            "updated_at": now,
        }
        async with tx(self._desk.engine) as connection:
            if not await store.change(connection, refunds, self._desk.book, found.id, found.revision, values):
                raise RefundNotInDoubt("the refund went on meanwhile; look again", param="refund")

    async def _require_free(self, found: Refund, source: str) -> None:
        """A refund at the provider is booked once, whoever found it."""
        async with tx(self._desk.engine) as connection:
            row = await store.load_by_source(connection, refunds, self._desk.book, found.rail, source)
        if row is not None and row.id != found.id:
            raise RefundNotInDoubt(
                f"{source[:40]!r} is the provider's id of {row.id}, which is booked already",
                code="refund_evidence_taken",
                param="evidence",
            )


def _not_in_doubt(refund: Refund) -> RefundNotInDoubt:
    return RefundNotInDoubt(
        f"the refund is {refund.state}; only one that is unknown is ended by hand", state=refund.state.value
    )
