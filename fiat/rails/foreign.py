"""What others did at the same account of a provider: payments past the book, with their refunds and disputes."""

import structlog

from db.engine import tx
from fiat.rails import store
from fiat.rails.desk import Desk

log = structlog.get_logger()


async def passed_by(desk: Desk, rail: str, payment: str, *, of: str) -> bool:
    """Whether `payment`, which no top-up is known to have, isn't ours, so that its refund or dispute `of` isn't either.

    Said by the provider: it has no such payment, or it has it without a reference, or with one that isn't a top-up of
    this rail. Raises what the rail does.
    """
    told = await desk.rails.get(rail).fetch_payment(payment)
    if told is not None and told.reference is not None:
        async with tx(desk.engine) as connection:
            top_up = await store.load_top_up(connection, desk.book, told.reference)
        if top_up is not None and top_up.rail == rail:
            return False
    log.warning("passed by: its payment isn't ours", rail=rail, object=of, payment=payment)
    return True
