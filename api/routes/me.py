"""Who am I: the key that asks, and its user."""

from typing import Annotated

from fastapi import Depends
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant, money
from api.auth import any_caller
from api.door import resource
from api.parts import Parts, assets_of
from api.routes.api_keys import KeyView, key_view
from api.routes.users import UserView, user_view
from identity.keys import Principal

router = resource("me")


class OwedView(TypedDict):
    asset: str
    amount: str


class MeView(TypedDict):
    user: UserView | None
    owed: list[OwedView]
    frozen: bool
    frozen_because: str | None
    key: KeyView
    book: str
    now: str


@router.get("/me", response_model=MeView, summary="The user and the key that ask")
async def read_me(parts: Parts, principal: Annotated[Principal, Depends(any_caller)]) -> Response:
    """`owed`: what the user owes the house, since what was taken back had been spent; nothing leaves before.

    `frozen`: nothing of the user's moves; why is told only to who asked for it (`user_request`).
    """
    user, owed, frozen, why = None, [], False, None
    if principal.user_id is not None:
        user = user_view(await parts.identity.user(principal.user_id))
        owed = await parts.accounts.owed(principal.user_id)
        frozen, why = await parts.freezes.told(principal.user_id)
    assets = await assets_of(parts) if owed else {}
    view: MeView = {
        "user": user,
        "owed": [{"asset": asset, "amount": money(amount, asset, assets)} for asset, amount in owed],
        "frozen": frozen,
        "frozen_because": None if why is None else why.value,
        "key": key_view(await parts.identity.key(principal.key_id)),
        "book": parts.ledger.book,
        "now": instant(parts.clock.now()),
    }
    return answer(view)
