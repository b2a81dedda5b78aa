"""Tiers of users, for operators: which one, since when, by whom and why; and putting somebody into another."""

from typing import Annotated

from fastapi import Path
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.acting import noted
from api.answers import answer, instant
from api.auth import caller
from api.door import resource
from api.parts import Parts
from api.schemas import Asked
from identity.keys import Principal
from identity.scopes import Scope
from tariff.store import TierChange

router = resource("users")

Who = Annotated[str, Path(description="usr_... or a handle")]


class TierChangeView(TypedDict):
    at: str
    by: str
    from_tier: str
    to_tier: str
    reason: str


class TierView(TypedDict):
    user: str
    tier: str
    history: list[TierChangeView]


class NewTier(Asked):
    """The tier that a user is to be in."""

    tier: str = Field(max_length=40, examples=["verified"])
    reason: str = Field(max_length=1000, examples=["identity checked"], description="Kept with the change.")


def tier_view(user: str, default: str, history: list[TierChange]) -> TierView:
    """Newest first."""
    return {
        "user": user,
        "tier": history[0].to_tier if history else default,
        "history": [
            {
                "at": instant(change.at),
                "by": change.by,
                "from_tier": change.from_tier,
                "to_tier": change.to_tier,
                "reason": change.reason,
            }
            for change in history
        ],
    }


@router.put("/users/{user}/tier", response_model=TierView, summary="Put a user into a tier")
@noted("tier.change", told="user")
async def change_tier(
    parts: Parts, user: Who, asked: NewTier, principal: Annotated[Principal, caller(Scope.USERS_WRITE)]
) -> Response:
    """In force within a second everywhere. Into the tier that they're in: nothing changes, nothing is noted."""
    found = await parts.identity.user(user)
    history = await parts.tiers.change(found.id, to=asked.tier, reason=asked.reason, by=principal.key_id)
    return answer(tier_view(found.id, parts.terms.tariff.default_tier, history))


@router.get(
    "/users/{user}/tier",
    response_model=TierView,
    summary="A user's tier, and how they came into it",
    dependencies=[caller(Scope.USERS_READ)],
)
async def read_tier(parts: Parts, user: Who) -> Response:
    found = await parts.identity.user(user)
    return answer(tier_view(found.id, parts.terms.tariff.default_tier, await parts.tiers.history(found.id)))
