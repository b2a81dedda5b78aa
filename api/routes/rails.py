"""The treasury's view of payment providers: disputes, settlements, refunds by the house, webhooks that came in."""

from functools import partial
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts, assets_of
from api.routes.top_ups import NewRefund, RefundView, refund_view
from api.schemas import Asked
from fiat.rails.dispute_states import DisputeState
from fiat.rails.records import Dispute, Ending, KeptEntry, Refund, Settlement, Webhook, WebhookState
from fiat.rails.refund_states import RefundState
from identity.keys import Principal
from identity.scopes import Scope
from ledger.money import parse_amount
from treasury.notes import note

router = resource("treasury")


class DisputeView(TypedDict):
    id: str
    rail: str
    source: str
    top_up: str
    user: str
    state: str
    asset: str
    amount: str
    withdrawn: str
    fee: str
    reason: str | None
    opened_at: str
    respond_by: str | None
    updated_at: str


class DisputeList(TypedDict):
    items: list[DisputeView]
    has_more: bool


class SettlementView(TypedDict):
    id: str
    rail: str
    source: str
    state: str
    asset: str
    amount: str
    arrives_on: str | None
    descriptor: str | None
    bank_line: str | None
    entries: int | None
    differences: int
    unexplained: str
    accepted_at: str | None
    accepted_by: str | None
    accepted_reason: str | None
    created_at: str


class SettlementList(TypedDict):
    items: list[SettlementView]
    has_more: bool


class SettlementEntryView(TypedDict):
    id: str
    kind: str
    object: str | None
    gross: str
    fee: str
    net: str
    subject: str | None
    difference: str | None


class SettlementDetailView(TypedDict):
    settlement: SettlementView
    entries: list[SettlementEntryView]
    candidates: list[str]


class MatchingLine(Asked):
    """The bank line that is the settlement's money."""

    line: str = Field(max_length=80, examples=["lin_01jd3v"], description="A line in suspense of the same amount.")


class NewSettlementAcceptance(Asked):
    """Why what doesn't fit is taken as it is."""

    reason: str = Field(max_length=500, examples=["the provider's monthly fee, booked by adj_01jd3v"])


class EndingView(TypedDict):
    outcome: str
    evidence: str
    reason: str
    said_by: str
    said_at: str
    agreed_by: str | None
    agreed_reason: str | None


class AnyRefundView(RefundView):
    user: str
    source: str | None
    ending: EndingView | None


class AnyRefundList(TypedDict):
    items: list[AnyRefundView]
    has_more: bool


class NewRefundEnding(Asked):
    """What became of a refund that stays `unknown`, as the provider's own pages show it."""

    outcome: Literal["succeeded", "failed"]
    evidence: str = Field(
        min_length=1,
        max_length=200,
        examples=["1JU08902781691411"],
        description="Of one that succeeded, the provider's id of it; else what shows that there is none.",
    )
    reason: str = Field(max_length=500, examples=["PayPal's activity page of 2030-03-20 has no such refund"])


class WebhookView(TypedDict):
    id: str
    rail: str
    event: str
    kind: str
    object_kind: str
    object: str
    state: str
    attempts: int
    code: str | None
    occurred_at: str
    received_at: str
    done_at: str | None


class WebhookList(TypedDict):
    items: list[WebhookView]
    has_more: bool


def dispute_view(dispute: Dispute, assets: Assets) -> DisputeView:
    """`withdrawn` and `fee` are what the provider has taken for it, as of now."""
    asset = dispute.asset
    return {
        "id": dispute.id,
        "rail": dispute.rail,
        "source": dispute.source,
        "top_up": dispute.top_up,
        "user": dispute.owner,
        "state": dispute.state.value,
        "asset": asset,
        "amount": money(dispute.amount, asset, assets),
        "withdrawn": money(dispute.withdrawn, asset, assets),
        "fee": money(dispute.fee, asset, assets),
        "reason": dispute.reason,
        "opened_at": instant(dispute.opened_at),
        "respond_by": maybe_instant(dispute.respond_by),
        "updated_at": instant(dispute.updated_at),
    }


def settlement_view(settlement: Settlement, assets: Assets) -> SettlementView:
    asset = settlement.asset
    return {
        "id": settlement.id,
        "rail": settlement.rail,
        "source": settlement.source,
        "state": settlement.state.value,
        "asset": asset,
        "amount": money(settlement.amount, asset, assets),
        "arrives_on": settlement.arrives_on,
        "descriptor": settlement.descriptor,
        "bank_line": settlement.bank_line,
        "entries": settlement.entries,
        "differences": settlement.differences,
        "unexplained": money(settlement.unexplained, asset, assets),
        "accepted_at": maybe_instant(settlement.accepted_at),
        "accepted_by": settlement.accepted_by,
        "accepted_reason": settlement.accepted_reason,
        "created_at": instant(settlement.created_at),
    }


def entry_view(entry: KeptEntry, asset: str, assets: Assets) -> SettlementEntryView:
    return {
        "id": entry.id,
        "kind": entry.kind.value,
        "object": entry.object,
        "gross": money(entry.gross, asset, assets),
        "fee": money(entry.fee, asset, assets),
        "net": money(entry.net, asset, assets),
        "subject": entry.subject,
        "difference": None if entry.difference is None else entry.difference.value,
    }


def any_refund_view(refund: Refund, assets: Assets) -> AnyRefundView:
    """`ending`: what a treasurer said of it, and who agreed."""
    ending: EndingView | None = None
    if refund.ending is not None:
        ending = {
            "outcome": refund.ending.value,
            "evidence": refund.ending_evidence or "",
            "reason": refund.ending_reason or "",
            "said_by": refund.ending_by or "",
            "said_at": maybe_instant(refund.ending_at) or "",
            "agreed_by": refund.agreed_by,
            "agreed_reason": refund.agreed_reason,
        }
    return {**refund_view(refund, assets), "user": refund.owner, "source": refund.source, "ending": ending}


def webhook_view(webhook: Webhook) -> WebhookView:
    return {
        "id": webhook.id,
        "rail": webhook.rail,
        "event": webhook.event,
        "kind": webhook.kind,
        "object_kind": webhook.object_kind.value,
        "object": webhook.object,
        "state": webhook.state.value,
        "attempts": webhook.attempts,
        "code": webhook.code,
        "occurred_at": instant(webhook.occurred_at),
        "received_at": instant(webhook.received_at),
        "done_at": maybe_instant(webhook.done_at),
    }


@router.get(
    "/treasury/disputes",
    response_model=DisputeList,
    summary="List disputes",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_disputes(
    parts: Parts, page: Wanted, state: Annotated[DisputeState | None, Query(description="Only those.")] = None
) -> Response:
    states = () if state is None else (state,)
    found = await page.of(partial(parts.rails.disputes.list_all, states=states))
    return answer(listing(*found, partial(dispute_view, assets=await assets_of(parts))))


@router.get(
    "/treasury/disputes/{dispute}",
    response_model=DisputeView,
    summary="Read a dispute",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_dispute(parts: Parts, dispute: str) -> Response:
    return answer(dispute_view(await parts.rails.disputes.get(dispute), await assets_of(parts)))


@router.get(
    "/treasury/settlements",
    response_model=SettlementList,
    summary="List what providers pay to our bank accounts",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_settlements(parts: Parts, page: Wanted) -> Response:
    found = await page.of(parts.rails.settlements.list_all)
    return answer(listing(*found, partial(settlement_view, assets=await assets_of(parts))))


@router.get(
    "/treasury/settlements/{settlement}",
    response_model=SettlementDetailView,
    summary="What is in a settlement, what doesn't fit, and which bank lines may be its money",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_settlement(parts: Parts, settlement: str) -> Response:
    found, assets = await parts.rails.settlements.get(settlement), await assets_of(parts)
    entries = await parts.rails.settlements.entries(found.id)
    view: SettlementDetailView = {
        "settlement": settlement_view(found, assets),
        "entries": [entry_view(entry, found.asset, assets) for entry in entries],
        "candidates": [line.id for line in await parts.rails.settlements.candidates(found)],
    }
    return answer(view)


@router.post(
    "/treasury/settlements/{settlement}/match",
    response_model=SettlementView,
    summary="Name the bank line that is a settlement's money",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("settlement.match", subject="settlement")
async def match_settlement(parts: Parts, settlement: str, key: IdempotencyKey, asked: MatchingLine) -> Response:
    done = await parts.rails.settlements.match(key=key, settlement=settlement, line=asked.line)
    return answer(settlement_view(done, await assets_of(parts)), replayed=done.replayed)


@router.post(
    "/treasury/settlements/{settlement}/acceptances",
    response_model=SettlementView,
    summary="Take what doesn't fit in a settlement as it is",
)
@noted("settlement.accept", subject="settlement")
async def accept_settlement(
    parts: Parts,
    settlement: str,
    asked: NewSettlementAcceptance,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    """Its alert ends. It moves no money and is done once, so it needs no Idempotency-Key."""
    said = note(treasurer.owner, asked.reason)
    done = await parts.rails.settlements.accept(settlement, by=said["by"], reason=said["reason"])
    return answer(settlement_view(done, await assets_of(parts)))


@router.post(
    "/treasury/top-ups/{top_up}/refunds",
    response_model=RefundView,
    status_code=201,
    summary="Give a payment back by the house",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("refund.create", subject="top_up")
async def create_house_refund(parts: Parts, top_up: str, key: IdempotencyKey, asked: NewRefund) -> Response:
    """What its user has spent of it becomes a receivable, which stops what they send until it's repaid."""
    amount, assets = None, await assets_of(parts)
    if asked.amount is not None:
        asset = await parts.rails.refunds.asset_of(top_up)
        amount = parse_amount(asked.amount, assets[asset])
    made = await parts.rails.refunds.by_the_house(key=key, top_up=top_up, amount=amount)
    return answer(refund_view(made, assets), status=201, replayed=made.replayed)


@router.get(
    "/treasury/refunds",
    response_model=AnyRefundList,
    summary="List all users' refunds, those in doubt with state=unknown",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_any_refunds(
    parts: Parts, page: Wanted, state: Annotated[RefundState | None, Query(description="Only those.")] = None
) -> Response:
    states = () if state is None else (state,)
    found = await page.of(partial(parts.rails.refund_endings.list_all, states=states))
    return answer(listing(*found, partial(any_refund_view, assets=await assets_of(parts))))


@router.get(
    "/treasury/refunds/{refund}",
    response_model=AnyRefundView,
    summary="Read anybody's refund",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_any_refund(parts: Parts, refund: str) -> Response:
    return answer(any_refund_view(await parts.rails.refund_endings.find(refund), await assets_of(parts)))


@router.post(
    "/treasury/refunds/{refund}/endings",
    response_model=AnyRefundView,
    summary="Say what became of a refund in doubt",
)
@noted("refund.end", subject="refund")
async def end_refund(
    parts: Parts,
    refund: str,
    asked: NewRefundEnding,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    """Only of one that is `unknown`. It ends once two treasurers, each with a key of their own, have said the same
    outcome and evidence. Said again, nothing new, so it needs no Idempotency-Key."""
    said = note(treasurer.owner, asked.reason)
    done = await parts.rails.refund_endings.say(
        refund,
        outcome=Ending(asked.outcome),
        evidence=asked.evidence.strip(),
        reason=said["reason"],
        by=said["by"],
    )
    return answer(any_refund_view(done, await assets_of(parts)))


@router.get(
    "/treasury/webhooks",
    response_model=WebhookList,
    summary="List providers' webhooks, dead letters with state=dead",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_webhooks(
    parts: Parts, page: Wanted, state: Annotated[WebhookState | None, Query(description="Only those.")] = None
) -> Response:
    found = await page.of(partial(parts.rails.inbox.list_all, state=state))
    return answer(listing(*found, webhook_view))


@router.get(
    "/treasury/webhooks/{webhook}",
    response_model=WebhookView,
    summary="Read what a webhook was about, never its body",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_webhook(parts: Parts, webhook: str) -> Response:
    return answer(webhook_view(await parts.rails.inbox.get(webhook)))


@router.post(
    "/treasury/webhooks/{webhook}/retry",
    response_model=WebhookView,
    summary="Try a dead letter's effect again",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("webhook.retry", subject="webhook")
async def retry_webhook(parts: Parts, webhook: str) -> Response:
    return answer(webhook_view(await parts.rails.inbox.retry(webhook)))
