"""What the policy's people are asked to approve: asked, listed, signed, withdrawn. The signer verifies it all again."""

import base64
from collections.abc import Mapping
from datetime import UTC
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer, instant, maybe_instant
from api.auth import Door, caller
from api.door import resource
from api.errors import InvalidRequest
from api.idempotency import IdempotencyKey
from api.instants import Instant
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.schemas import Asked
from chain.networks import Registry
from custody.approval_requests import ApprovalRequest, fingerprint_from_text, request_to_json, signature_from_json
from custody.approvals import Mandate, Signature
from custody.errors import IntentInvalid
from custody.intent_json import intent_from_terms_json
from identity.keys import Principal
from identity.scopes import Scope
from ledger.money import format_amount
from treasury.approvals import Approval, ApprovalState
from treasury.errors import ApprovalUnfit, SignatureRefused
from wiring.services import Services


class RoomyDoor(Door):
    """Creation code of a contract has up to 49,152 bytes: twice that in hexadecimal."""

    bytes_max = 160 * 1024


router = resource("treasury", door=RoomyDoor)


class MadeByView(TypedDict):
    by: str
    scheme: str
    signature: str


class ApprovalSignatureView(TypedDict):
    by: str
    scheme: str
    received_at: str


class AboutView(TypedDict):
    kind: str
    subject: str
    network: str
    asset: str | None
    amount: str | None
    to: str | None


class ApprovalView(TypedDict):
    id: str
    state: str
    about: AboutView
    age_seconds: int
    missing: int
    could_sign: list[str]
    statement: str
    terms: dict[str, Any]
    maker: str
    made_by: MadeByView | None
    not_after: str
    fee_wei_max: str
    policy_version: int
    policy_fingerprint: str
    needed: int
    approvals: list[ApprovalSignatureView]
    created_by: str
    created_at: str
    closed_at: str | None


class ApprovalList(TypedDict):
    items: list[ApprovalView]
    has_more: bool


class NewSignature(Asked):
    """Somebody's signature. `signature` is opaque and means what `scheme` says: for ed25519, 64 bytes in hex."""

    by: str = Field(min_length=1, max_length=64, examples=["ada"])
    scheme: str = Field(min_length=1, max_length=64, examples=["ed25519"])
    signature: str = Field(min_length=2, max_length=16_384, pattern="^([0-9a-f]{2})+$")


class NewApproval(Asked):
    """What is to be approved, as `onebook approver request` writes it."""

    terms: dict[str, Any] = Field(description="The intent without nonce, attempt and prices: see docs/approvals.md.")
    maker: str = Field(min_length=1, max_length=64, examples=["cleo"])
    not_after: Instant
    fee_wei_max: str = Field(pattern="^(0|[1-9][0-9]{0,47})$", examples=["10000000000000000"])
    policy_version: int = Field(ge=1, lt=2**63)
    policy_fingerprint: str = Field(pattern="^[0-9a-f]{64}$", examples=["5e" * 32])
    made_by: NewSignature | None = None


def about_view(terms: Mapping[str, Any], registry: Registry, assets: Assets) -> AboutView:
    """What it's about in the book's words. Asset and amount are null where no configured one is meant."""
    network = next((one.name for one in registry.networks.values() if str(one.chain_id) == terms["chain_id"]), None)
    contract = str(terms["contract"]).lower() if terms.get("contract") else None
    place = None if network is None else registry.by_contract(network, contract)
    units = terms.get("amount")
    amount = None
    if place is not None and units is not None:
        asset = assets[place.asset]
        amount = format_amount(int(units) * 10 ** (asset.scale - place.decimals), asset)
    subject = str(terms["subject"])
    return {
        "kind": "withdrawal" if subject.startswith("wdr_") else str(terms["kind"]),
        "subject": subject,
        "network": network or f"chain {terms['chain_id']}",
        "asset": None if place is None else place.asset,
        "amount": amount,
        "to": terms.get("to"),
    }


async def _shown(parts: Services, approval: Approval) -> ApprovalView:
    return approval_view(approval, parts, await assets_of(parts))


def approval_view(approval: Approval, parts: Services, assets: Assets) -> ApprovalView:
    """`statement` is what is signed, in base64; `needed` what the policy wanted when it was asked; `could_sign` whose
    signatures would count by the policy of now."""
    told: dict[str, Any] = request_to_json(approval.request)
    is_decided = approval.state is not ApprovalState.OPEN
    return {
        "id": approval.id,
        "state": approval.state.value,
        "about": about_view(told["terms"], parts.chains.registry, assets),
        "age_seconds": int((parts.clock.now() - approval.created_at).total_seconds()),
        "missing": 0 if is_decided else max(0, approval.needed - len(approval.signatures)),
        "could_sign": [] if is_decided else parts.approvals.could_sign(approval),
        "statement": base64.b64encode(approval.statement).decode("ascii"),
        "terms": told["terms"],
        "maker": told["maker"],
        "made_by": told["made_by"],
        "not_after": told["not_after"],
        "fee_wei_max": told["fee_wei_max"],
        "policy_version": told["policy_version"],
        "policy_fingerprint": told["policy_fingerprint"],
        "needed": approval.needed,
        "approvals": [
            {"by": signature.by, "scheme": signature.scheme, "received_at": instant(at)}
            for signature, at in approval.signatures
        ],
        "created_by": approval.created_by,
        "created_at": instant(approval.created_at),
        "closed_at": maybe_instant(approval.closed_at),
    }


@router.post(
    "/treasury/approvals", response_model=ApprovalView, status_code=201, summary="Ask the policy's people to approve"
)
@noted("approval.ask")
async def create_approval(
    parts: Parts,
    key: IdempotencyKey,
    asked: NewApproval,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    made = await parts.approvals.ask(key=key, asked_by=treasurer.owner, request=_request(asked))
    return answer(await _shown(parts, made), status=201, replayed=made.replayed)


@router.get(
    "/treasury/approvals",
    response_model=ApprovalList,
    summary="List what was asked",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_approvals(parts: Parts, page: Onward) -> Response:
    found = await parts.approvals.recent(before=page.starting_after, limit=page.limit + 1)
    view = partial(approval_view, parts=parts, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.get(
    "/treasury/approvals/{approval}",
    response_model=ApprovalView,
    summary="What is to be signed, and who has",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def read_approval(parts: Parts, approval: str) -> Response:
    return answer(await _shown(parts, await parts.approvals.get(approval)))


@router.post(
    "/treasury/approvals/{approval}/signatures",
    response_model=ApprovalView,
    summary="Approve: a signature over the statement",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("approval.sign", subject="approval")
async def sign_approval(parts: Parts, approval: str, asked: NewSignature) -> Response:
    """Each of the people signs once; sent again it changes nothing, so it needs no Idempotency-Key."""
    signed = await parts.approvals.sign(approval, _signature(asked))
    return answer(await _shown(parts, signed), replayed=signed.replayed)


@router.post(
    "/treasury/approvals/{approval}/withdraw",
    response_model=ApprovalView,
    summary="Take a request back",
    dependencies=[caller(Scope.TREASURY_WRITE)],
)
@noted("approval.withdraw", subject="approval")
async def withdraw_approval(parts: Parts, approval: str) -> Response:
    """Sent again it changes nothing, so it needs no Idempotency-Key."""
    withdrawn = await parts.approvals.withdraw(approval)
    return answer(await _shown(parts, withdrawn), replayed=withdrawn.replayed)


def _request(asked: NewApproval) -> ApprovalRequest:
    if asked.not_after.microsecond:
        raise InvalidRequest("not_after is a whole second", param="not_after")
    try:
        mandate = Mandate(
            maker=asked.maker,
            not_after=int(asked.not_after.astimezone(UTC).timestamp()),
            fee_wei_max=int(asked.fee_wei_max),
            policy_version=asked.policy_version,
            policy_fingerprint=fingerprint_from_text(asked.policy_fingerprint),
            made_by=None if asked.made_by is None else _signature(asked.made_by),
        )
        return ApprovalRequest(intent_from_terms_json(asked.terms), mandate)
    except IntentInvalid as problem:
        raise ApprovalUnfit(problem.message, param=problem.param or "terms") from problem


def _signature(asked: NewSignature) -> Signature:
    try:
        return signature_from_json({"by": asked.by, "scheme": asked.scheme, "signature": asked.signature})
    except IntentInvalid as problem:
        raise SignatureRefused(problem.message, param="signature") from problem
