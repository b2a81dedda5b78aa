"""Saved payment methods: the provider keeps the card; here are its token's id, brand and last four digits."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer, instant
from api.auth import owner
from api.door import resource
from api.idempotency import IdempotencyKey
from api.paging import Wanted, listing
from api.parts import Parts
from api.routes.top_ups import RailName
from api.schemas import Asked
from fiat.rails.records import PaymentMethod
from identity.scopes import Scope

router = resource("payment-methods")


class MethodView(TypedDict):
    id: str
    rail: str
    brand: str
    last4: str | None
    expires_year: int | None
    expires_month: int | None
    created_at: str


class MethodList(TypedDict):
    items: list[MethodView]
    has_more: bool


class NewMethod(Asked):
    """A method to be saved: what the provider's own library gave for it. Never send a card's number."""

    rail: RailName
    token: str = Field(min_length=1, max_length=255, examples=["tok_visa"])


def method_view(method: PaymentMethod) -> MethodView:
    return {
        "id": method.id,
        "rail": method.rail,
        "brand": method.brand,
        "last4": method.last4,
        "expires_year": method.expires_year,
        "expires_month": method.expires_month,
        "created_at": instant(method.created_at),
    }


@router.post("/payment-methods", response_model=MethodView, status_code=201, summary="Save a payment method")
async def create_payment_method(
    parts: Parts, key: IdempotencyKey, asked: NewMethod, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]
) -> Response:
    made = await parts.rails.methods.save(key=key, owner=user, rail=asked.rail, token=asked.token)
    return answer(method_view(made), status=201, replayed=made.replayed)


@router.get("/payment-methods", response_model=MethodList, summary="List your saved payment methods")
async def list_payment_methods(parts: Parts, page: Wanted, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    return answer(listing(*await page.of(partial(parts.rails.methods.list_for, user)), method_view))


@router.post("/payment-methods/{method}/forget", response_model=MethodView, summary="Have a saved method forgotten")
async def forget_payment_method(
    parts: Parts, method: str, user: Annotated[str, owner(Scope.DEPOSITS_WRITE)]
) -> Response:
    """It's gone at the provider as well; payments that were made with it aren't touched."""
    return answer(method_view(await parts.rails.methods.forget(user, method)))
