"""Proposals: adjustments above what one treasurer may move alone. Nothing is booked before a second one confirms.

Who asks is known by their key: four eyes are two keys, and each person has their own.
"""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from ledger.asking import Before, decide, decided_before
from ledger.commands import Record
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Refused
from ledger.requests import RequestKey
from ledger.riders import Rider
from treasury.adjustments import Adjustments
from treasury.errors import ProposalClosed, SamePerson
from treasury.operations import proposal_store as store
from treasury.operations.acts import Noted, unnoted
from treasury.operations.proposal_store import Proposal, ProposalState

ID_PREFIX = "prp"


class Proposals:
    """Proposes, confirms, withdraws and lists. A proposal waits for `valid_for`."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        adjustments: Adjustments,
        clock: Clock,
        entropy: Entropy,
        valid_for: timedelta,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._adjustments = adjustments
        self._clock = clock
        self._entropy = entropy
        self._valid_for = valid_for

    async def propose(
        self,
        *,
        key: RequestKey,
        maker: str,
        source: str,
        target: str,
        asset: str,
        amount: int,
        reason: str,
        evidence: str | None = None,
        noted: Noted = unnoted,
    ) -> Proposal:
        """Ask for an adjustment. Raises as `Adjustments.move`, but for what only the book knows."""
        if (first := await decided_before(self._ledger, key)) is not None:
            return replace(await self.get(first.subject or ""), replayed=True)
        wanted = await self._adjustments.check(
            treasurer=maker, source=source, target=target, asset=asset, amount=amount, reason=reason, evidence=evidence
        )
        now = self._clock.now()
        proposal = Proposal(
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            state=ProposalState.OPEN,
            source=wanted.source,
            target=wanted.target,
            asset=asset,
            amount=amount,
            reason=wanted.reason,
            evidence=evidence,
            maker=maker,
            created_at=now,
            expires_at=now + self._valid_for,
        )
        outcome = await self._record(key, proposal.id, "proposed", store.added(self._ledger.book, proposal), noted)
        return replace(await self.get(outcome or proposal.id), replayed=outcome is not None)

    async def confirm(self, proposal: str, *, key: RequestKey, by: str, noted: Noted = unnoted) -> Proposal:
        """Book it, as somebody else than its maker.

        Raises NotFound, SamePerson, ProposalClosed, and as `Adjustments.move`.
        """
        found = await self.get(proposal)
        if await decided_before(self._ledger, key) is not None:
            return replace(found, replayed=True)
        if by == found.maker:
            raise SamePerson("who proposed it can't confirm it")
        self._require_open(found)

        def with_proposal(adjustment: str | None) -> Before:
            row = store.closed(
                self._ledger.book,
                found.id,
                ProposalState.CONFIRMED,
                by=by,
                at=self._clock.now(),
                adjustment=adjustment,
            )
            before = noted(found.id)
            return Before(before.commands, (*before.riders, row))

        try:
            made = await self._adjustments.move(
                key=key,
                treasurer=found.maker,
                source=found.source,
                target=found.target,
                asset=found.asset,
                amount=found.amount,
                reason=found.reason,
                evidence=found.evidence,
                confirmed_by=by,
                noted=with_proposal,
            )
        except RefusedByBook as refusal:
            raise await self._explained(refusal, found) from refusal
        return replace(await self.get(proposal), replayed=made.replayed)

    async def withdraw(self, proposal: str, *, key: RequestKey, by: str, noted: Noted = unnoted) -> Proposal:
        """Take it back, whoever made it. Raises NotFound, ProposalClosed."""
        found = await self.get(proposal)
        if await decided_before(self._ledger, key) is not None:
            return replace(found, replayed=True)
        self._require_open(found)
        row = store.closed(self._ledger.book, found.id, ProposalState.WITHDRAWN, by=by, at=self._clock.now())
        try:
            again = await self._record(key, found.id, "withdrawn", row, noted)
        except RefusedByBook as refusal:
            raise await self._explained(refusal, found) from refusal
        return replace(await self.get(proposal), replayed=again is not None)

    async def get(self, proposal: str) -> Proposal:
        """One, with its state by the clock. Raises NotFound."""
        async with tx(self._engine) as connection:
            found = await store.load_proposal(connection, self._ledger.book, proposal)
        if found is None:
            raise NotFound(f"there is no proposal {proposal[:40]!r}", param="proposal")
        return replace(found, state=found.at(self._clock.now()))

    async def recent(self, *, open_only: bool = False, before: str | None = None, limit: int = 50) -> list[Proposal]:
        """Proposals, newest first, those older than the id `before`."""
        now = self._clock.now()
        async with tx(self._engine) as connection:
            found = await store.list_proposals(
                connection, self._ledger.book, open_at=now if open_only else None, before=before, limit=limit
            )
        return [replace(one, state=one.at(now)) for one in found]

    def _require_open(self, proposal: Proposal) -> None:
        if proposal.state is not ProposalState.OPEN:
            raise ProposalClosed(f"{proposal.id} is {proposal.state}", state=proposal.state.value)

    async def _record(self, key: RequestKey, proposal: str, what: str, row: Rider, noted: Noted) -> str | None:
        """Book what moves nothing; what was done first under this key, if it's a repeat."""
        record = Record(id=key.id, subject=proposal, facts={"proposal": what})
        *_, outcome = await decide(self._ledger, noted(proposal).group(record, row, content=key.content))
        return outcome.subject if outcome.replayed else None

    async def _explained(self, refusal: RefusedByBook, proposal: Proposal) -> Exception:
        if refusal.code == Refused.STALE_STATE and refusal.facts.get("table") == store.TABLE:
            state = (await self.get(proposal.id)).state
            return ProposalClosed(f"somebody else was quicker: {proposal.id} is {state}", state=state.value)
        return refusal
