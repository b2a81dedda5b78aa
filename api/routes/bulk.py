"""Many transfers in one request."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import accepted_fee
from api.answers import answer
from api.auth import Door, owner
from api.door import ProblemView, resource
from api.idempotency import IdempotencyKey
from api.parts import Parts, assets_of
from api.problems import problem_view
from api.routes.transfers import NewTransfer, TransferView, transfer_view
from api.schemas import Asked
from base.errors import Rejected
from identity.scopes import Scope
from ledger.money import Asset, parse_amount
from wallet.bulk import TRANSFERS_MAX, Payment
from wallet.transfers import Transfer


class WideDoor(Door):
    """Takes a list of transfers, each with a memo of any length that is allowed."""

    bytes_max = 2 * 1024 * 1024


router = resource("transfers", door=WideDoor)


class Mode(StrEnum):
    INDEPENDENT = "independent"
    ALL_OR_NOTHING = "all_or_nothing"


class NewTransfers(Asked):
    """Transfers to make, in this order."""

    transfers: list[NewTransfer] = Field(min_length=1, max_length=TRANSFERS_MAX)
    mode: Annotated[
        Mode,
        Field(
            strict=False,
            description="`independent`: each is made or refused by itself. `all_or_nothing`: if one is refused, none is"
            " made, and the answer is its problem.",
        ),
    ] = Mode.INDEPENDENT


class OutcomeView(TypedDict, total=False):
    """One of both."""

    transfer: TransferView
    problem: ProblemView


class BulkView(TypedDict):
    outcomes: list[OutcomeView]
    accepted: int
    refused: int


@router.post("/transfers/bulk", response_model=BulkView, status_code=200, summary="Send many transfers at once")
async def create_transfers(
    request: Request,
    parts: Parts,
    key: IdempotencyKey,
    asked: NewTransfers,
    user: Annotated[str, owner(Scope.TRANSFERS_WRITE)],
) -> Response:
    """Up to 1,000 transfers with one Idempotency-Key; an outcome for each, in the order of the request."""
    assets = await assets_of(parts)
    payments = [_payment(place, item, assets) for place, item in enumerate(asked.transfers)]
    together = asked.mode is Mode.ALL_OR_NOTHING
    made = await parts.bulk_transfers.send(key=key, sender=user, payments=payments, together=together)
    outcomes = [
        {"transfer": transfer_view(item, assets)}
        if isinstance(item, Transfer)
        else {"problem": problem_view(item, request_id=request.state.request_id, assets=assets)}
        for item in made.outcomes
    ]
    refused = sum("problem" in outcome for outcome in outcomes)
    view = {"outcomes": outcomes, "accepted": len(outcomes) - refused, "refused": refused}
    return answer(view, replayed=made.replayed)


def _payment(place: int, item: NewTransfer, assets: dict[str, Asset]) -> Payment:
    """What an item asks for. Raises what is wrong with its amount or asset, naming the item."""
    try:
        if item.asset not in assets:
            known = ", ".join(sorted(assets))
            raise Rejected(
                f"there is no asset {item.asset!r}; known assets: {known}", code="unknown_asset", param="asset"
            )
        asset = assets[item.asset]
        fee_accepted = accepted_fee(item.fee_accepted, asset)
        return Payment(item.recipient, item.asset, parse_amount(item.amount, asset), item.memo, fee_accepted)
    except Rejected as error:
        error.param = f"transfers[{place}].{error.param or 'amount'}"
        raise
