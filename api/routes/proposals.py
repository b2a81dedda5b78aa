"""Adjustments above what one treasurer may move alone: proposed by one, confirmed by another."""

from functools import partial
from typing import Annotated

from fastapi import Query
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import Acting
from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.routes.adjustments import MoveByHand, fields_named
from identity.keys import Principal
from identity.scopes import Scope
from ledger.money import parse_amount
from treasury.operations.proposal_store import Proposal

router = resource("treasury")

Treasurer = Annotated[Principal, caller(Scope.TREASURY_WRITE)]


class ProposalView(TypedDict):
    id: str
    state: str
    asset: str
    amount: str
    debit: str
    credit: str
    reason: str
    evidence: str | None
    made_by: str
    created_at: str
    expires_at: str
    closed_by: str | None
    closed_at: str | None
    adjustment: str | None


class ProposalList(TypedDict):
    items: list[ProposalView]
    has_more: bool


def proposal_view(proposal: Proposal, assets: Assets) -> ProposalView:
    """`adjustment` is what it became once confirmed."""
    return {
        "id": proposal.id,
        "state": proposal.state.value,
        "asset": proposal.asset,
        "amount": money(proposal.amount, proposal.asset, assets),
        "debit": proposal.source,
        "credit": proposal.target,
        "reason": proposal.reason,
        "evidence": proposal.evidence,
        "made_by": proposal.maker,
        "created_at": instant(proposal.created_at),
        "expires_at": instant(proposal.expires_at),
        "closed_by": proposal.closed_by,
        "closed_at": maybe_instant(proposal.closed_at),
        "adjustment": proposal.adjustment,
    }


@router.post(
    "/treasury/proposals", response_model=ProposalView, status_code=201, summary="Propose an adjustment to another"
)
async def create_proposal(
    parts: Parts, key: IdempotencyKey, asked: MoveByHand, treasurer: Treasurer, acts: Acting
) -> Response:
    """Nothing is booked before another treasurer has confirmed it; it takes effect then."""
    assets = await assets_of(parts, asked.asset)
    with fields_named(source="debit", target="credit"):
        async with acts.booking("proposal.create", key, reason=asked.reason) as noted:
            made = await parts.proposals.propose(
                key=key,
                maker=treasurer.owner,
                source=asked.debit,
                target=asked.credit,
                asset=asked.asset,
                amount=parse_amount(asked.amount, assets[asked.asset]),
                reason=asked.reason,
                evidence=asked.evidence,
                noted=noted,
            )
    return answer(proposal_view(made, assets), status=201, replayed=made.replayed)


@router.get(
    "/treasury/proposals",
    response_model=ProposalList,
    summary="List what was proposed",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_proposals(
    parts: Parts, page: Onward, open: Annotated[bool, Query(description="Only what waits now.")] = False
) -> Response:
    found = await parts.proposals.recent(open_only=open, before=page.starting_after, limit=page.limit + 1)
    view = partial(proposal_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.get(
    "/treasury/proposals/{proposal}",
    response_model=ProposalView,
    summary="One proposal",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_proposal(parts: Parts, proposal: str) -> Response:
    return answer(proposal_view(await parts.proposals.get(proposal), await assets_of(parts)))


@router.post(
    "/treasury/proposals/{proposal}/confirm", response_model=ProposalView, summary="Confirm another's: it's booked"
)
async def confirm_proposal(
    parts: Parts, proposal: str, key: IdempotencyKey, treasurer: Treasurer, acts: Acting
) -> Response:
    async with acts.booking("proposal.confirm", key, subject=proposal[:64]) as noted:
        done = await parts.proposals.confirm(proposal, key=key, by=treasurer.owner, noted=noted)
    return answer(proposal_view(done, await assets_of(parts)), replayed=done.replayed)


@router.post("/treasury/proposals/{proposal}/withdraw", response_model=ProposalView, summary="Take a proposal back")
async def withdraw_proposal(
    parts: Parts, proposal: str, key: IdempotencyKey, treasurer: Treasurer, acts: Acting
) -> Response:
    async with acts.booking("proposal.withdraw", key, subject=proposal[:64]) as noted:
        done = await parts.proposals.withdraw(proposal, key=key, by=treasurer.owner, noted=noted)
    return answer(proposal_view(done, await assets_of(parts)), replayed=done.replayed)
