"""Amounts in requests: decimal strings. A JSON number is refused, since most parsers would round it on its way."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError


def _text(given: object) -> object:
    if isinstance(given, int | float):
        raise PydanticCustomError(
            "amount_not_text", 'an amount is a decimal string such as "12.50", not a number: put it in quotes'
        )
    return given


AmountText = Annotated[
    str,
    BeforeValidator(_text),
    Field(max_length=120, examples=["12.50"], description="Exact decimal string, at most the asset's decimals."),
]
"""What a caller writes for an amount. `ledger.money.parse_amount` says what it means."""

AssetCode = Annotated[str, Field(min_length=1, max_length=20, examples=["USD", "USDC"])]
"""What a caller writes for an asset."""
