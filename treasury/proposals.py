"""Proposals: what one treasurer may not do alone. Nothing is booked before a second person confirms.

Who asks is told by their key: two keys of one person are one person, where the keys say whose they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import NotFound
from base.ids import new_id
from db.engine import tx
from ledger.accounts import split_account_id
from ledger.asking import Before, decide, decided_before
from ledger.commands import Record
from ledger.engine import Ledger
from ledger.errors import RefusedByBook
from ledger.outcomes import Outcome, Refused
from ledger.requests import RequestKey
from ledger.riders import Rider
from treasury import reversals
from treasury.adjustments import Adjustments
from treasury.credit_lines import CreditLines
from treasury.errors import PeriodUnfit, ProposalClosed, SamePerson
from treasury.notes import said_in_full
from treasury.operations import proposal_store as store
from treasury.operations.acts import Noted, unnoted
from treasury.operations.period_names import Period
from treasury.operations.proposal_store import Proposal, ProposalKind, ProposalState
from treasury.periods import Periods
from treasury.reversals import Reversals

ID_PREFIX = "prp"


class Proposals:
    """Proposes, confirms, withdraws and lists. A proposal waits for `valid_for`."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        ledger: Ledger,
        adjustments: Adjustments,
        reversals: Reversals,
        credit_lines: CreditLines,
        periods: Periods,
        clock: Clock,
        entropy: Entropy,
        valid_for: timedelta,
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._adjustments = adjustments
        self._reversals = reversals
        self._credit_lines = credit_lines
        self._periods = periods
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
        if (before := await self._proposed_before(key)) is not None:
            return before
        wanted = await self._adjustments.check(
            treasurer=maker, source=source, target=target, asset=asset, amount=amount, reason=reason, evidence=evidence
        )
        terms = {
            "source": wanted.source,
            "target": wanted.target,
            "asset": asset,
            "amount": str(amount),
            "evidence": evidence,
        }
        return await self._propose(key, maker, ProposalKind.ADJUSTMENT, terms, reason, noted)

    async def propose_reversal(
        self,
        *,
        key: RequestKey,
        maker: str,
        entry: Outcome,
        amounts: Sequence[tuple[int, int]] | None,
        reason: str,
        noted: Noted = unnoted,
    ) -> Proposal:
        """Ask for an entry to be taken back. Raises NotAdjustable, ReasonMissing."""
        if (before := await self._proposed_before(key)) is not None:
            return before
        reversals.check(entry)
        parts = None if amounts is None else [[line, str(amount)] for line, amount in amounts]
        terms = {"entry": entry.id, "lines": parts}
        return await self._propose(key, maker, ProposalKind.REVERSAL, terms, reason, noted)

    async def propose_credit_line(
        self, *, key: RequestKey, maker: str, account: str, cap: int, reason: str, noted: Noted = unnoted
    ) -> Proposal:
        """Ask for an account (an id) to be let owe up to `cap`. Raises UnknownAsset, ReasonMissing."""
        if (before := await self._proposed_before(key)) is not None:
            return before
        await self._ledger.asset(split_account_id(account)[2])
        terms = {"account": account, "cap": str(cap)}
        return await self._propose(key, maker, ProposalKind.CREDIT_LINE, terms, reason, noted)

    async def propose_period(
        self, *, key: RequestKey, maker: str, period: Period, reason: str, noted: Noted = unnoted
    ) -> Proposal:
        """Ask for a period to be closed though something stands open in it: what does now, and nothing else.

        Raises ReasonMissing, PeriodUnfit.
        """
        if (before := await self._proposed_before(key)) is not None:
            return before
        if period.until > self._clock.now():
            raise PeriodUnfit("that period isn't over", param="period")
        closed_until = await self._periods.closed_until()
        if closed_until is not None and period.until <= closed_until:
            raise PeriodUnfit("that period is closed", param="period", closed_until=closed_until.isoformat())
        items = await self._periods.open_items(period.until)
        terms = {"period": period.name, "until": period.until.isoformat(), "open_items": list(items)}
        return await self._propose(key, maker, ProposalKind.PERIOD, terms, reason, noted)

    async def confirm(self, proposal: str, *, key: RequestKey, by: str, noted: Noted = unnoted) -> Proposal:
        """Do it, as somebody else than its maker.

        Raises NotFound, SamePerson, ProposalClosed, and as what is proposed: `Adjustments.move`, `Reversals.reverse`,
        `CreditLines.change`, `Periods.close` (where more stands open by now than was proposed).
        """
        found = await self.get(proposal)
        if await decided_before(self._ledger, key) is not None:
            return replace(found, replayed=True)
        if by == found.maker:
            raise SamePerson("who proposed it can't confirm it")
        self._require_open(found)

        def with_proposal(made: str | None) -> Before:
            now = self._clock.now()
            row = store.closed(self._ledger.book, found.id, ProposalState.CONFIRMED, by=by, at=now, made=made)
            before = noted(found.id)
            return Before(before.commands, (*before.riders, row))

        try:
            replayed = await self._do(found, key, by, with_proposal)
        except RefusedByBook as refusal:
            raise await self._explained(refusal, found) from refusal
        return replace(await self.get(proposal), replayed=replayed)

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

    async def _proposed_before(self, key: RequestKey) -> Proposal | None:
        first = await decided_before(self._ledger, key)
        return None if first is None else replace(await self.get(first.subject or ""), replayed=True)

    async def _propose(
        self, key: RequestKey, maker: str, kind: ProposalKind, terms: Mapping[str, Any], reason: str, noted: Noted
    ) -> Proposal:
        now = self._clock.now()
        proposal = Proposal(
            id=new_id(ID_PREFIX, self._clock, self._entropy),
            kind=kind,
            state=ProposalState.OPEN,
            terms=terms,
            reason=said_in_full(reason),
            maker=maker,
            created_at=now,
            expires_at=now + self._valid_for,
        )
        outcome = await self._record(key, proposal.id, "proposed", store.added(self._ledger.book, proposal), noted)
        return replace(await self.get(outcome or proposal.id), replayed=outcome is not None)

    async def _do(self, found: Proposal, key: RequestKey, by: str, noted: Noted) -> bool:
        """Do what is proposed with the proposal's own row; whether it had been done before."""
        terms = found.terms
        match found.kind:
            case ProposalKind.ADJUSTMENT:
                adjustment = await self._adjustments.move(
                    key=key,
                    treasurer=found.maker,
                    source=terms["source"],
                    target=terms["target"],
                    asset=terms["asset"],
                    amount=int(terms["amount"]),
                    reason=found.reason,
                    evidence=terms["evidence"],
                    confirmed_by=by,
                    noted=noted,
                )
                return adjustment.replayed
            case ProposalKind.REVERSAL:
                parts = terms["lines"]
                reversal = await self._reversals.reverse(
                    key=key,
                    treasurer=found.maker,
                    entry=await self._reversals.entry(terms["entry"]),
                    amounts=None if parts is None else [(line, int(amount)) for line, amount in parts],
                    reason=found.reason,
                    confirmed_by=by,
                    noted=noted,
                )
                return reversal.replayed
            case ProposalKind.CREDIT_LINE:
                line = await self._credit_lines.change(
                    key=key,
                    treasurer=found.maker,
                    account=terms["account"],
                    cap=int(terms["cap"]),
                    reason=found.reason,
                    confirmed_by=by,
                    noted=noted,
                )
                return line.replayed
            case ProposalKind.PERIOD:
                closed = await self._periods.close(
                    key=key,
                    treasurer=found.maker,
                    period=Period(datetime.fromisoformat(terms["until"]).astimezone(UTC), terms["period"]),
                    reason=found.reason,
                    confirmed_by=by,
                    in_spite_of=terms["open_items"],
                    noted=noted,
                )
                return closed.replayed
            case _ as never:
                assert_never(never)

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
