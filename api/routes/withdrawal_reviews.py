"""Withdrawals as the treasurer sees them: those that need a person with what was found on chain, and how one ends."""

from functools import partial
from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import Assets, answer
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.routes.withdrawals import WithdrawalView, withdrawal_view
from api.schemas import Asked
from chain.evm.addresses import show_address
from identity.keys import Principal
from identity.scopes import Scope
from wallet.resolutions import OnChainFindings, Outcome
from wallet.withdrawal_reviews import Reviewed
from wallet.withdrawal_states import WithdrawalState

router = resource("treasury")


class UsedUpView(TypedDict):
    tx_hash: str | None
    is_ours: bool
    block_number: int
    block_hash: str


class SeenPaymentView(TypedDict):
    tx_hash: str
    place: str
    sender: str
    chain_amount: str
    block_number: int
    is_final: bool
    carries_out: str | None
    told_to_be: str | None
    booked: bool


class FoundView(TypedDict):
    sender: str | None
    nonce: int | None
    attempts: list[str]
    nonce_used_up: UsedUpView | None
    payments: list[SeenPaymentView]


class ReviewedView(WithdrawalView):
    owner: str
    chain_amount: str
    found: FoundView | None


class ReviewedList(TypedDict):
    items: list[ReviewedView]
    has_more: bool


class NewResolution(Asked):
    """What became of it. `tx_hash` only for `paid`: the transaction that paid it. Paying again is a new withdrawal."""

    outcome: Literal["paid", "returned"]
    reason: str = Field(min_length=1, max_length=500, examples=["paid by hand on 1 March, see ticket 17"])
    tx_hash: str | None = Field(default=None, pattern="^0x[0-9a-fA-F]{64}$", examples=["0x" + "5e" * 32])


def found_view(found: OnChainFindings) -> FoundView:
    """`nonce_used_up` is null while what was signed could still be mined."""
    used_up = found.used_up
    return {
        "sender": None if found.sender is None else show_address(found.sender),
        "nonce": found.nonce,
        "attempts": list(found.attempts),
        "nonce_used_up": None
        if used_up is None
        else {
            "tx_hash": used_up.tx_hash,
            "is_ours": used_up.is_ours,
            "block_number": used_up.block_number,
            "block_hash": used_up.block_hash,
        },
        "payments": [
            {
                "tx_hash": one.tx_hash,
                "place": one.place,
                "sender": show_address(one.sender),
                "chain_amount": str(one.chain_amount),
                "block_number": one.block_number,
                "is_final": one.is_final,
                "carries_out": one.subject,
                "told_to_be": one.claimed_by,
                "booked": one.booked,
            }
            for one in found.payments
        ],
    }


def reviewed_view(reviewed: Reviewed, assets: Assets) -> ReviewedView:
    """`found` only where a person must end it. Amounts on chain are in the deployment's smallest units."""
    withdrawal = reviewed.withdrawal
    return {
        **withdrawal_view(withdrawal, assets),
        "owner": withdrawal.owner,
        "chain_amount": str(withdrawal.chain_amount),
        "found": None if reviewed.found is None else found_view(reviewed.found),
    }


@router.get(
    "/treasury/withdrawals",
    response_model=ReviewedList,
    summary="List withdrawals in one state, with what was found on chain of those that need review",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_reviewed_withdrawals(
    parts: Parts,
    page: Onward,
    state: Annotated[WithdrawalState, Query(description="Which ones.")] = WithdrawalState.NEEDS_REVIEW,
) -> Response:
    found = await parts.withdrawal_reviews.recent(state, before=page.starting_after, limit=page.limit + 1)
    view = partial(reviewed_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.post(
    "/treasury/withdrawals/{withdrawal}/resolutions",
    response_model=ReviewedView,
    status_code=201,
    summary="End a withdrawal that needs review",
)
@noted("withdrawal.resolve", subject="withdrawal")
async def resolve_withdrawal(
    parts: Parts,
    withdrawal: str,
    key: IdempotencyKey,
    asked: NewResolution,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    reviewed, replayed = await parts.withdrawal_reviews.resolve(
        key=key,
        treasurer=treasurer.owner,
        withdrawal=withdrawal,
        outcome=Outcome(asked.outcome),
        reason=asked.reason,
        tx_hash=asked.tx_hash,
    )
    return answer(reviewed_view(reviewed, await assets_of(parts)), status=201, replayed=replayed)
