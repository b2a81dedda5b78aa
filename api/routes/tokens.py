"""Tokens and doubtful deposits, for the treasurer: what is stopped and why, and what a person lets pass."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.amounts import AmountText
from api.answers import Assets, answer, instant, maybe_instant
from api.auth import caller
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Onward, listing
from api.parts import Parts, assets_of
from api.routes.deposits import DepositView, deposit_view
from api.schemas import Asked
from chain.evm.addresses import show_address
from chain.tokens import TokenState
from identity.keys import Principal
from identity.scopes import Scope
from ledger.money import parse_amount
from treasury.token_reviews import TokenStanding
from wallet.resources import Deposit

router = resource("treasury")


class ContractView(TypedDict):
    state: str
    code_hash: str | None
    decimals: int | None
    implementation: str | None
    implementation_hash: str | None
    beacon: str | None


class TokenView(TypedDict):
    network: str
    asset: str
    contract: str
    decimals: int
    quirks: list[str]
    standing: str
    why: list[str]
    accepted: ContractView | None
    accepted_at: str | None
    accepted_by: str | None
    found: ContractView | None
    found_at: str | None
    found_in_block: int | None


class TokenList(TypedDict):
    items: list[TokenView]
    has_more: bool


class DoubtfulView(DepositView):
    owner: str
    objection: str | None


class DoubtfulList(TypedDict):
    items: list[DoubtfulView]
    has_more: bool


class NewAcceptance(Asked):
    """The state that you have looked at, by the fingerprint under `found.state`."""

    state: str = Field(pattern="^[0-9a-f]{64}$", examples=["5e" * 32])
    reason: str = Field(min_length=1, max_length=500, examples=["the issuer's announced upgrade of 1 March, reviewed"])


class NewCredit(Asked):
    """Why this deposit is credited by hand. `amount` only where nobody can tell what arrived.

    `evidence`, needed for a surplus: what shows whose it is.
    """

    reason: str = Field(min_length=1, max_length=500, examples=["the token is listed now"])
    amount: AmountText | None = None
    evidence: str | None = Field(default=None, max_length=500, examples=["the exchange's payout, transaction 0x1f.."])


def contract_view(state: TokenState | None) -> ContractView | None:
    """`state` is the fingerprint of all of it."""
    if state is None:
        return None
    return {
        "state": state.fingerprint,
        "code_hash": state.code_hash,
        "decimals": state.decimals,
        "implementation": state.implementation,
        "implementation_hash": state.behind_hash,
        "beacon": state.beacon,
    }


def token_view(standing: TokenStanding) -> TokenView:
    """`standing`: accepted, under_review while something stops it, unseen before its contract was looked at."""
    known, finding = standing.known, standing.known.finding
    stopped = "unseen" if known.accepted is None and finding is None else "under_review"
    return {
        "network": known.network,
        "asset": standing.deployment.asset,
        "contract": show_address(known.contract),
        "decimals": standing.deployment.decimals,
        "quirks": sorted(standing.deployment.quirks),
        "standing": "accepted" if known.trusted else stopped,
        "why": [] if finding is None else list(finding.problems),
        "accepted": contract_view(known.accepted),
        "accepted_at": maybe_instant(known.accepted_at),
        "accepted_by": known.accepted_by,
        "found": None if finding is None else contract_view(finding.found),
        "found_at": None if finding is None else instant(finding.first_seen_at),
        "found_in_block": None if finding is None else finding.block_number,
    }


def doubtful_view(deposit: Deposit, assets: Assets) -> DoubtfulView:
    """The house sees more than its user: the true state, and what screening has against the sender."""
    seen = deposit_view(deposit, assets)
    return {**seen, "state": deposit.state.value, "owner": deposit.owner, "objection": deposit.objection}


@router.get(
    "/treasury/tokens",
    response_model=TokenList,
    summary="List the tokens, and why one is stopped",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_tokens(parts: Parts) -> Response:
    return answer({"items": [token_view(standing) for standing in await parts.tokens.all()], "has_more": False})


@router.post(
    "/treasury/tokens/{network}/{contract}/acceptances",
    response_model=TokenView,
    summary="Accept what a token's contract is now",
)
@noted("token.accept", subject="contract")
async def accept_token(
    parts: Parts,
    network: str,
    contract: str,
    asked: NewAcceptance,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    """A state is accepted once; sent again it changes nothing, so it needs no Idempotency-Key."""
    standing, replayed = await parts.tokens.accept(
        treasurer=treasurer.owner, network=network, contract=contract, state=asked.state, reason=asked.reason
    )
    return answer(token_view(standing), replayed=replayed)


@router.get(
    "/treasury/deposits",
    response_model=DoubtfulList,
    summary="List deposits that aren't credited by themselves",
    dependencies=[caller(Scope.TREASURY_READ)],
)
async def list_doubtful_deposits(parts: Parts, page: Onward) -> Response:
    found = await parts.deposit_reviews.recent(before=page.starting_after, limit=page.limit + 1)
    view = partial(doubtful_view, assets=await assets_of(parts))
    return answer(listing(found[: page.limit], len(found) > page.limit, view))


@router.post(
    "/treasury/deposits/{deposit}/credit", response_model=DoubtfulView, summary="Credit a deposit by hand, once"
)
@noted("deposit.credit", subject="deposit")
async def credit_deposit(
    parts: Parts,
    deposit: str,
    key: IdempotencyKey,
    asked: NewCredit,
    treasurer: Annotated[Principal, caller(Scope.TREASURY_WRITE)],
) -> Response:
    amount = None
    if asked.amount is not None:
        asset = await parts.deposit_reviews.asset(deposit)
        amount = parse_amount(asked.amount, asset)
    credited, replayed = await parts.deposit_reviews.credit(
        key=key,
        treasurer=treasurer.owner,
        deposit=deposit,
        reason=asked.reason,
        amount=amount,
        evidence=asked.evidence,
    )
    return answer(doubtful_view(credited, await assets_of(parts)), replayed=replayed)
