"""Idempotency keys: what makes a request that moves money safe to repeat.

The book remembers, not this file: a request's key and body become its command's id and content, and the outcome of that
command, refusals included, is the answer to every repeat. Nothing else is stored.
"""

from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request

from api.errors import IdempotencyKeyInvalid, IdempotencyKeyMissing
from identity.keys import Principal
from ledger.requests import RequestKey, request_key
from wiring.services import Services

KEY_LENGTH_MAX = 255


async def key_of(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Your own name for this request, unique among yours: repeating it with the same body gives the"
            " first answer again and moves nothing twice. Required.",
        ),
    ] = None,
) -> RequestKey:
    """The key of this request. Raises IdempotencyKeyMissing, IdempotencyKeyInvalid, and NeedsRecovery while nothing may
    move in a database that was put back from a backup."""
    if idempotency_key is None:
        raise IdempotencyKeyMissing(
            "this request moves money, so it needs a header Idempotency-Key: any text of your own that is new for each"
            " payment, such as a UUID; repeat it only to repeat the same request"
        )
    if not 1 <= len(idempotency_key) <= KEY_LENGTH_MAX or not all(" " <= c <= "~" for c in idempotency_key):
        raise IdempotencyKeyInvalid(f"an Idempotency-Key is 1 to {KEY_LENGTH_MAX} printable ASCII characters")
    services: Services = request.app.state.services
    await services.recovery.require()
    principal: Principal = request.state.principal
    return request_key(
        owner=principal.owner,
        route=f"{request.method} {request.scope['path']}",
        key=idempotency_key,
        body=getattr(request, "_json", None),
    )


IdempotencyKey = Annotated[RequestKey, Depends(key_of)]
