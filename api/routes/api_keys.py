"""API keys, for operators: make (the secret is shown once), list, revoke."""

from functools import partial
from typing import Annotated

from fastapi import Query
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import answer, instant, maybe_instant
from api.auth import caller
from api.door import resource
from api.instants import Instant
from api.paging import Wanted, listing
from api.parts import Parts
from api.schemas import Asked
from identity.keys import ApiKey, Principal
from identity.scopes import Scope

router = resource("api-keys")


class KeyView(TypedDict):
    id: str
    user: str | None
    person: str | None
    label: str
    hint: str
    scopes: list[str]
    rate_per_minute: int
    created_at: str
    created_by: str | None
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class NewKeyView(KeyView):
    secret: str


class KeyList(TypedDict):
    items: list[KeyView]
    has_more: bool


class NewApiKey(Asked):
    """A key to make."""

    label: str = Field(max_length=200, examples=["Alice's phone"])
    scopes: list[str] = Field(
        max_length=50, examples=[["user"]], description="Scopes, or the roles `user`, `operator`, `treasury`."
    )
    user: str | None = Field(
        default=None, max_length=64, examples=["alice"], description="Its owner, by id or handle; none: the house's."
    )
    person: str | None = Field(
        default=None,
        max_length=64,
        examples=["treasurer-2"],
        description="Whose a key of the house is: all keys of one person count as one. It stays in the book: no name.",
    )
    expires_at: Instant | None = Field(default=None, description="RFC 3339; none: until it's revoked.")
    rate_per_minute: int | None = Field(default=None, description="Requests in any minute; none: the usual limit.")


def key_view(key: ApiKey) -> KeyView:
    return {
        "id": key.id,
        "user": key.user_id,
        "person": key.person,
        "label": key.label,
        "hint": key.hint,
        "scopes": sorted(key.scopes),
        "rate_per_minute": key.rate_per_minute,
        "created_at": instant(key.created_at),
        "created_by": key.created_by,
        "expires_at": maybe_instant(key.expires_at),
        "revoked_at": maybe_instant(key.revoked_at),
        "last_used_at": maybe_instant(key.last_used_at),
    }


@router.post("/api-keys", response_model=NewKeyView, status_code=201, summary="Make a key; its secret is shown once")
@noted("api_key.create")
async def create_key(
    parts: Parts, asked: NewApiKey, granter: Annotated[Principal, caller(Scope.KEYS_WRITE)]
) -> Response:
    made = await parts.identity.create_key(
        label=asked.label,
        scopes=asked.scopes,
        user=asked.user,
        person=asked.person,
        expires_at=asked.expires_at,
        rate_per_minute=asked.rate_per_minute,
        granted_by=granter,
    )
    view: NewKeyView = {**key_view(made.key), "secret": made.secret}
    return answer(view, status=201)


@router.get("/api-keys", response_model=KeyList, summary="List keys", dependencies=[caller(Scope.KEYS_READ)])
async def list_keys(
    parts: Parts,
    page: Wanted,
    user: Annotated[str | None, Query(max_length=64, description="Only this user's, by id or handle.")] = None,
) -> Response:
    return answer(listing(*await page.of(partial(parts.identity.keys, user=user)), key_view))


@router.post(
    "/api-keys/{key}/revoke",
    response_model=KeyView,
    summary="Take a key back, for good",
    dependencies=[caller(Scope.KEYS_WRITE)],
)
@noted("api_key.revoke", subject="key")
async def revoke_key(parts: Parts, key: str) -> Response:
    return answer(key_view(await parts.identity.revoke_key(key)))
