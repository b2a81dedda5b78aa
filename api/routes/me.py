"""Who am I: the key that asks, and its user."""

from typing import Annotated

from fastapi import Depends
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant
from api.auth import any_caller
from api.door import resource
from api.parts import Parts
from api.routes.api_keys import KeyView, key_view
from api.routes.users import UserView, user_view
from identity.keys import Principal

router = resource("me")


class MeView(TypedDict):
    user: UserView | None
    key: KeyView
    book: str
    now: str


@router.get("/me", response_model=MeView, summary="The user and the key that ask")
async def read_me(parts: Parts, principal: Annotated[Principal, Depends(any_caller)]) -> Response:
    user = None if principal.user_id is None else user_view(await parts.identity.user(principal.user_id))
    view: MeView = {
        "user": user,
        "key": key_view(await parts.identity.key(principal.key_id)),
        "book": parts.ledger.book,
        "now": instant(parts.clock.now()),
    }
    return answer(view)
