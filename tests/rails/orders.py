"""Orders for the tests of adapters, and lists read to their end."""

from collections.abc import Callable
from typing import Any

from fiat.rails.protocol import Listed, PaymentOrder, RefundOrder
from ledger.money import Asset, AssetKind

ASSETS = [Asset(code, AssetKind.FIAT, scale) for code, scale in (("USD", 2), ("EUR", 4), ("JPY", 0), ("ISK", 2))]
"""EUR with more decimals than any provider has."""

PAGES_MAX = 100

Ids = Callable[[str], str]
"""A fresh id of ours, of the simulator's time, for a prefix."""


def ordered(ids: Ids, amount: int = 10_000, *, method: str | None, **more: Any) -> PaymentOrder:
    return PaymentOrder(reference=ids("top"), **{"asset": "USD", "amount": amount, "method": method, **more})


def refund_of(ids: Ids, payment: Any, amount: int) -> RefundOrder:
    return RefundOrder(
        reference=ids("ref"), payment=payment.id, capture=payment.capture_id, asset=payment.asset, amount=amount
    )


async def whole(listing: Callable[[str | None], Any], cursor: str | None = None) -> tuple[list[Any], str]:
    """All pages of a list, and the cursor behind it."""
    found: list[Any] = []
    for _ in range(PAGES_MAX):
        page: Listed[Any] = await listing(cursor)
        found += page.items
        cursor = page.cursor
        if not page.more:
            return found, cursor
    raise AssertionError("the list has no end")
