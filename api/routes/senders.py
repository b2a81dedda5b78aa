"""Halted senders and what left without us, for the treasurer; and the word that lets a sender go on."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, instant, money
from api.auth import caller
from api.door import resource
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from chain.evm.addresses import show_address
from identity.keys import Principal
from identity.scopes import Scope
from treasury.records import Outflow
from treasury.sender_reviews import HaltedSender

router = resource("treasury")


class FindingView(TypedDict):
    kind: str
    text: str
    tx_hash: str | None
    block_number: int
    block_hash: str
    found_at: str


class HaltedSenderView(TypedDict):
    network: str
    address: str
    role: str
    state: str
    findings: list[FindingView]


class HaltedSenderList(TypedDict):
    items: list[HaltedSenderView]
    has_more: bool


class OutflowView(TypedDict):
    id: str
    state: str
    asset: str
    amount: str
    network: str
    role: str
    address: str
    recipient: str | None
    tx_hash: str | None
    place: str
    block_number: int
    block_hash: str
    booked_at: str
    accounted_by: str | None


class OutflowList(TypedDict):
    items: list[OutflowView]
    has_more: bool


class NewSenderAcceptance(Asked):
    """All that was found at the address when you looked, by the fingerprint under `state`."""

    state: str = Field(pattern="^[0-9a-f]{64}$", examples=["5e" * 32])
    reason: str = Field(min_length=1, max_length=500, examples=["our own transfer by hand of 1 March, see ticket 17"])


def halted_view(halted: HaltedSender) -> HaltedSenderView:
    """`state` is the fingerprint of all its findings."""
    return {
        "network": halted.network,
        "address": show_address(halted.address),
        "role": halted.role,
        "state": halted.state,
        "findings": [
            {
                "kind": one.finding.kind.value,
                "text": one.finding.words,
                "tx_hash": one.finding.tx_hash,
                "block_number": one.finding.block_number,
                "block_hash": one.finding.block_hash,
                "found_at": instant(one.found_at),
            }
            for one in halted.findings
        ],
    }


def outflow_view(outflow: Outflow, assets: Assets) -> OutflowView:
    """`address` is ours; `recipient` is null for gas. Without a transaction, `place` says that something is missing."""
    return {
        "id": outflow.id,
        "state": outflow.state.value,
        "asset": outflow.asset,
        "amount": money(outflow.amount, outflow.asset, assets),
        "network": outflow.network,
        "role": outflow.role,
        "address": show_address(outflow.address),
        "recipient": None if outflow.recipient is None else show_address(outflow.recipient),
        "tx_hash": outflow.evidence.transaction,
        "place": outflow.place,
        "block_number": outflow.block_number,
        "block_hash": outflow.block_hash,
        "booked_at": instant(outflow.booked_at),
        "accounted_by": outflow.accounted_by,
    }


@router.get(
    "/treasury/halted-senders",
    response_model=HaltedSenderList,
    summary="List our addresses that are halted, and what was found at them",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_halted_senders(parts: Parts) -> Response:
    return answer({"items": [halted_view(halted) for halted in await parts.sender_reviews.all()], "has_more": False})


@router.post(
    "/treasury/senders/{network}/{address}/acceptances",
    response_model=HaltedSenderView,
    summary="Let a halted sender go on",
)
@noted("sender.accept", subject="address")
async def accept_sender(
    parts: Parts,
    network: str,
    address: str,
    asked: NewSenderAcceptance,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    """Answers with what was accepted. It moves no money and is done once, so it needs no Idempotency-Key."""
    halted = await parts.sender_reviews.accept(
        treasurer=treasurer.owner, network=network, address=address, state=asked.state, reason=asked.reason
    )
    return answer(halted_view(halted))


@router.get(
    "/treasury/outflows",
    response_model=OutflowList,
    summary="List what left our addresses without us",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_outflows(parts: Parts, page: Onward) -> Response:
    found = await parts.outflows.recent(before=page.starting_after, limit=page.limit + 1)
    view = partial(outflow_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))
