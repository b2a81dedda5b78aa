"""What one treasurer may not do alone: proposed by one, confirmed by another."""

from functools import partial
from typing import Annotated, Any

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
from api.routes.bookkeeping import NewCreditLine, NewReversal, line_asked_for, parts_asked_for
from api.routes.periods import OpenItemView, PeriodToClose
from identity.keys import Principal
from identity.scopes import Scope
from ledger.accounts import split_account_id
from ledger.money import parse_amount
from treasury.operations.proposal_store import Proposal, ProposalKind

router = resource("treasury")

Treasurer = Annotated[Principal, caller(Scope.TREASURY_WRITE)]


class ProposedLineView(TypedDict):
    line: int
    amount: str


class ProposalView(TypedDict):
    id: str
    kind: str
    state: str
    asset: str | None
    amount: str | None
    debit: str | None
    credit: str | None
    evidence: str | None
    entry: str | None
    lines: list[ProposedLineView] | None
    account: str | None
    period: str | None
    until: str | None
    open_items: list[OpenItemView] | None
    reason: str
    made_by: str
    created_at: str
    expires_at: str
    closed_by: str | None
    closed_at: str | None
    became: str | None


class ProposalList(TypedDict):
    items: list[ProposalView]
    has_more: bool


async def shown(parts: Parts, proposal: Proposal) -> ProposalView:
    """The view of one, with what it takes to say its amounts."""
    return proposal_view(proposal, await assets_of(parts), await _lines_of(parts, [proposal]))


async def _lines_of(parts: Parts, proposals: list[Proposal]) -> dict[str, list[str]]:
    """By entry, the assets of its lines: those that reversals name parts of."""
    names = {one.terms["entry"] for one in proposals if one.kind is ProposalKind.REVERSAL and one.terms["lines"]}
    return {one.id: [line.asset for line in one.lines] for one in await parts.ledger.outcomes(*sorted(names))}


def proposal_view(proposal: Proposal, assets: Assets, lines: dict[str, list[str]]) -> ProposalView:
    """`kind` says which of the terms there are; `amount` of a credit line is what the account may owe at most.

    `became` is what it is once confirmed: the id of an adjustment, a reversal or a period, or the line's account.
    """
    view: ProposalView = {
        "id": proposal.id,
        "kind": proposal.kind.value,
        "state": proposal.state.value,
        "asset": None,
        "amount": None,
        "debit": None,
        "credit": None,
        "evidence": None,
        "entry": None,
        "lines": None,
        "account": None,
        "period": None,
        "until": None,
        "open_items": None,
        "reason": proposal.reason,
        "made_by": proposal.maker,
        "created_at": instant(proposal.created_at),
        "expires_at": instant(proposal.expires_at),
        "closed_by": proposal.closed_by,
        "closed_at": maybe_instant(proposal.closed_at),
        "became": proposal.made,
    }
    _tell_terms(view, proposal.kind, dict(proposal.terms), assets, lines)
    return view


def _tell_terms(
    view: ProposalView, kind: ProposalKind, terms: dict[str, Any], assets: Assets, lines: dict[str, list[str]]
) -> None:
    match kind:
        case ProposalKind.ADJUSTMENT:
            view["asset"], view["amount"] = terms["asset"], money(int(terms["amount"]), terms["asset"], assets)
            view["debit"], view["credit"], view["evidence"] = terms["source"], terms["target"], terms["evidence"]
        case ProposalKind.REVERSAL:
            view["entry"] = terms["entry"]
            if terms["lines"] is not None:
                of = lines[terms["entry"]]
                view["lines"] = [{"line": n, "amount": money(int(told), of[n], assets)} for n, told in terms["lines"]]
        case ProposalKind.CREDIT_LINE:
            asset = split_account_id(terms["account"])[2]
            view["account"], view["asset"] = terms["account"], asset
            view["amount"] = money(int(terms["cap"]), asset, assets)
        case ProposalKind.PERIOD:
            view["period"], view["until"] = terms["period"], terms["until"].replace("+00:00", "Z")
            view["open_items"] = [{"item": one["item"], "detail": one["detail"]} for one in terms["open_items"]]


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
                maker=treasurer.acts_as,
                source=asked.debit,
                target=asked.credit,
                asset=asked.asset,
                amount=parse_amount(asked.amount, assets[asked.asset]),
                reason=asked.reason,
                evidence=asked.evidence,
                noted=noted,
            )
    return answer(await shown(parts, made), status=201, replayed=made.replayed)


@router.post(
    "/treasury/proposals/reversals",
    response_model=ProposalView,
    status_code=201,
    summary="Propose to another that an entry is taken back",
)
async def propose_reversal(
    parts: Parts, key: IdempotencyKey, asked: NewReversal, treasurer: Treasurer, acts: Acting
) -> Response:
    """Nothing is booked before another treasurer has confirmed it."""
    entry, amounts = await parts_asked_for(parts, asked, await assets_of(parts))
    async with acts.booking("proposal.create", key, subject=entry.id, reason=asked.reason) as noted:
        made = await parts.proposals.propose_reversal(
            key=key, maker=treasurer.acts_as, entry=entry, amounts=amounts, reason=asked.reason, noted=noted
        )
    return answer(await shown(parts, made), status=201, replayed=made.replayed)


@router.post(
    "/treasury/proposals/credit-lines",
    response_model=ProposalView,
    status_code=201,
    summary="Propose to another that an account may go below zero",
)
async def propose_credit_line(
    parts: Parts, key: IdempotencyKey, asked: NewCreditLine, treasurer: Treasurer, acts: Acting
) -> Response:
    """The line is set once another treasurer has confirmed it."""
    account, cap, _ = await line_asked_for(parts, asked)
    async with acts.booking("proposal.create", key, subject=account, reason=asked.reason) as noted:
        made = await parts.proposals.propose_credit_line(
            key=key, maker=treasurer.acts_as, account=account, cap=cap, reason=asked.reason, noted=noted
        )
    return answer(await shown(parts, made), status=201, replayed=made.replayed)


@router.post(
    "/treasury/proposals/periods",
    response_model=ProposalView,
    status_code=201,
    summary="Propose to another that a period is closed though something stands open in it",
)
async def propose_period(
    parts: Parts, key: IdempotencyKey, asked: PeriodToClose, treasurer: Treasurer, acts: Acting
) -> Response:
    """It's closed once another treasurer has confirmed it, unless something else stands open by then."""
    period = asked.read(parts)
    async with acts.booking("proposal.create", key, subject=asked.subject(period), reason=asked.reason) as noted:
        made = await parts.proposals.propose_period(
            key=key, maker=treasurer.acts_as, period=period, reason=asked.reason, noted=noted
        )
    return answer(await shown(parts, made), status=201, replayed=made.replayed)


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
    view = partial(proposal_view, assets=await assets_of(parts), lines=await _lines_of(parts, found))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.get(
    "/treasury/proposals/{proposal}",
    response_model=ProposalView,
    summary="One proposal",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_proposal(parts: Parts, proposal: str) -> Response:
    return answer(await shown(parts, await parts.proposals.get(proposal)))


@router.post(
    "/treasury/proposals/{proposal}/confirm", response_model=ProposalView, summary="Confirm another's: it's done"
)
async def confirm_proposal(
    parts: Parts, proposal: str, key: IdempotencyKey, treasurer: Treasurer, acts: Acting
) -> Response:
    async with acts.booking("proposal.confirm", key, subject=proposal[:64]) as noted:
        done = await parts.proposals.confirm(proposal, key=key, by=treasurer.acts_as, noted=noted)
    return answer(await shown(parts, done), replayed=done.replayed)


@router.post("/treasury/proposals/{proposal}/withdraw", response_model=ProposalView, summary="Take a proposal back")
async def withdraw_proposal(
    parts: Parts, proposal: str, key: IdempotencyKey, treasurer: Treasurer, acts: Acting
) -> Response:
    async with acts.booking("proposal.withdraw", key, subject=proposal[:64]) as noted:
        done = await parts.proposals.withdraw(proposal, key=key, by=treasurer.acts_as, noted=noted)
    return answer(await shown(parts, done), replayed=done.replayed)
