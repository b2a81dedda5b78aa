"""Users, for operators: make, list, read."""

from typing import Annotated

from fastapi import Path
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import answer, instant
from api.auth import caller
from api.door import resource
from api.paging import Wanted, listing
from api.parts import Parts
from api.schemas import Asked
from identity.people import User
from identity.scopes import Scope

router = resource("users")


class UserView(TypedDict):
    id: str
    handle: str
    name: str
    created_at: str


class UserList(TypedDict):
    items: list[UserView]
    has_more: bool


class NewUser(Asked):
    """A user to make."""

    handle: str = Field(max_length=64, examples=["alice"], description="3 to 32 of a-z, 0-9 and _; any case.")
    name: str | None = Field(default=None, max_length=200, examples=["Alice A."], description="Shown to people.")


def user_view(user: User) -> UserView:
    return {"id": user.id, "handle": user.handle, "name": user.name, "created_at": instant(user.created_at)}


@router.post(
    "/users",
    response_model=UserView,
    status_code=201,
    summary="Make a user",
    dependencies=[caller(Scope.USERS_WRITE)],
)
@noted("user.create")
async def create_user(parts: Parts, asked: NewUser) -> Response:
    return answer(user_view(await parts.identity.create_user(handle=asked.handle, name=asked.name)), status=201)


@router.get("/users", response_model=UserList, summary="List users", dependencies=[caller(Scope.USERS_READ)])
async def list_users(parts: Parts, page: Wanted) -> Response:
    return answer(listing(*await page.of(parts.identity.users), user_view))


@router.get("/users/{user}", response_model=UserView, summary="Read a user", dependencies=[caller(Scope.USERS_READ)])
async def read_user(parts: Parts, user: Annotated[str, Path(description="usr_... or a handle")]) -> Response:
    return answer(user_view(await parts.identity.user(user)))
