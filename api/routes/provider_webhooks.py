"""Where payment providers send their webhooks: their signature stands for a key. Kept at once, worked off later."""

from fastapi import APIRouter, Security
from fastapi.security import APIKeyHeader
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from api.answers import answer
from api.bodies import read_body
from api.door import PROBLEMS
from api.parts import Parts
from fiat.rails.inbox import BODY_BYTES_MAX
from fiat.rails.protocol import RawWebhook

signed = APIKeyHeader(
    name="signature",
    auto_error=False,
    scheme_name="Provider's signature",
    description="Each provider's own header over the very bytes of the body; the rail checks it.",
)
"""Declares it in the OpenAPI document."""

router = APIRouter(prefix="/v1", tags=["rails"], dependencies=[Security(signed)], responses=PROBLEMS)


class ReceivedView(TypedDict):
    received: bool
    known: bool


@router.post(
    "/rails/{rail}/webhooks",
    response_model=ReceivedView,
    summary="Called by a payment provider",
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
async def receive_webhook(request: Request, parts: Parts, rail: str) -> Response:
    """The provider's own signature is checked over the very bytes of the body. `known`: it had come before."""
    body = await read_body(request, bytes_max=BODY_BYTES_MAX)
    new = await parts.rails.inbox.receive(rail, RawWebhook(body=body, headers=request.headers))
    view: ReceivedView = {"received": True, "known": not new}
    return answer(view)
