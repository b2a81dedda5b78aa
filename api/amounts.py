"""Amounts in requests: decimal strings. A JSON number is refused, since most parsers would round it on its way."""

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ledger.money import Asset, parse_amount


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

FeeAccepted = Annotated[
    AmountText | None,
    Field(
        examples=["0.35"],
        description="The highest fee of the house's that you agree to, as the fee preview told it; above it the request"
        " is refused.",
    ),
]
"""A fee that a caller agrees to."""

AssetCode = Annotated[str, Field(min_length=1, max_length=20, examples=["USD", "USDC"])]
"""What a caller writes for an asset."""


def accepted_fee(told: str | None, asset: Asset, *, param: str = "fee_accepted") -> int | None:
    """A fee that was agreed to, in smallest units; 0 is one. Raises InvalidAmount."""
    return None if told is None else parse_amount(told, asset, param=param, least=0)
