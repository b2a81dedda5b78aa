"""What is set aside of a user's balances, and for what."""

from typing import Annotated

from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import Assets, answer, instant, maybe_instant, money
from api.auth import owner
from api.door import resource
from api.parts import Parts, assets_of
from identity.scopes import Scope
from ledger.engine import OpenHold
from wallet.receipts import in_words, kind_of

HOLDS_MAX = 200

router = resource("holds")


class HeldView(TypedDict):
    asset: str
    amount: str
    remaining: str
    counterparty: str


class HoldView(TypedDict):
    id: str
    kind: str
    subject: str | None
    created_at: str
    expires_at: str | None
    postings: list[HeldView]


class HoldList(TypedDict):
    items: list[HoldView]
    has_more: bool


def hold_view(hold: OpenHold, assets: Assets) -> HoldView:
    return {
        "id": hold.id,
        "kind": kind_of(hold.subject),
        "subject": hold.subject,
        "created_at": instant(hold.booked_at),
        "expires_at": maybe_instant(hold.expires_at),
        "postings": [
            {
                "asset": posting.asset,
                "amount": money(posting.amount, posting.asset, assets),
                "remaining": money(posting.remaining, posting.asset, assets),
                "counterparty": in_words(posting.credit),
            }
            for posting in hold.postings
        ],
    }


@router.get("/holds", response_model=HoldList, summary="What is set aside of your balances")
async def list_holds(parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    """The newest 200 open holds."""
    found, assets = await parts.ledger.open_holds(user, limit=HOLDS_MAX + 1), await assets_of(parts)
    items = [hold_view(hold, assets) for hold in found[:HOLDS_MAX]]
    return answer({"items": items, "has_more": len(found) > HOLDS_MAX})
