"""Amounts in smallest units, the decimal text of them, and fees. Whole numbers only."""

import re
from dataclasses import dataclass

SCALES = {"JPY": 0, "HUF": 0, "TWD": 0}
"""Digits after the point of currencies that have other than two (PayPal's list)."""


def scale_of(currency: str) -> int:
    return SCALES.get(currency.upper(), 2)


def as_text(amount: int, currency: str) -> str:
    """`1250` of USD is `12.50`."""
    digits = scale_of(currency)
    if not digits:
        return str(amount)
    sign, whole = ("-" if amount < 0 else ""), f"{abs(amount):0{digits + 1}d}"
    return f"{sign}{whole[:-digits]}.{whole[-digits:]}"


def from_text(text: str, currency: str) -> int | None:
    """`12.5` of USD is `1250`; None for what is no amount of this currency."""
    digits = scale_of(currency)
    if not re.fullmatch(rf"[0-9]{{1,12}}(\.[0-9]{{1,{digits}}})?" if digits else r"[0-9]{1,12}", text, re.ASCII):
        return None
    whole, _, rest = text.partition(".")
    return int(whole + rest.ljust(digits, "0"))


@dataclass(slots=True)
class Terms:
    """What a provider takes. Settable through the control API. Amounts in smallest units of any currency."""

    basis_points: int
    """Of a payment, in hundredths of a percent."""
    fixed: int
    """Of a payment, in addition."""
    dispute_fee: int
    """When a dispute opens."""
    dispute_fee_returned: bool
    """Whether who wins a dispute gets its fee back."""
    payout_fee: int = 0
    """For a payout to a person."""
    settle_days: int = 2
    """Until a payment's net amount may be paid out to the merchant's bank."""

    def fee(self, amount: int) -> int:
        """The fee for a payment: half a smallest unit is rounded up, never more than the payment."""
        return min(amount, (amount * self.basis_points + 5_000) // 10_000 + self.fixed) if amount else 0
