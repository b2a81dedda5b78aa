"""Column types that are exact: whole amounts as Python ints, instants in UTC, 32-byte digests.

Values are checked on their way in, by Python and again by the database's domains. Nothing here computes with Decimal:
its arithmetic rounds to 28 digits, and `numeric(78,0)` rounds 1.5 without a word, so the domains stand over plain
`numeric` and refuse a fraction instead.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import DateTime, Dialect, LargeBinary, Numeric
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator

from base.errors import BrokenInvariant
from db.errors import AmountOutOfRange, NotAnAmount

AMOUNT_BOUND = 2**256
"""An amount is below this, in the asset's smallest unit."""

BALANCE_BOUND = 2**257
"""A balance, or a sum on the way to one, is nearer to zero than this, in the asset's smallest unit."""

DIGEST_BYTES = 32
"""Length of a SHA-256 digest."""


class _Whole(TypeDecorator[int]):
    """A whole number of any length, stored as plain `numeric` under a domain, read as `int`."""

    impl = Numeric
    cache_ok = True
    domain: ClassVar[str]
    least: ClassVar[int]
    most: ClassVar[int]

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """The number itself. Raises `NotAnAmount` for anything but an int, `AmountOutOfRange` past the bounds."""
        if value is None:
            return None
        if type(value) is not int:
            raise NotAnAmount(f"{self.domain} must be an int, not {type(value).__name__}: {value!r}")
        if not self.least <= value <= self.most:
            raise AmountOutOfRange(
                f"{self.domain} out of range", given=str(value), least=str(self.least), most=str(self.most)
            )
        return value

    def process_literal_param(self, value: Any, dialect: Dialect) -> str:
        return str(self.process_bind_param(value, dialect))

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """The stored number. Raises `BrokenInvariant` for a fraction, NaN or infinity."""
        if value is None or type(value) is int:
            return value
        if isinstance(value, Decimal) and value.is_finite() and value == (whole := int(value)):
            return whole
        raise BrokenInvariant(f"the database holds {value!r} where a whole {self.domain} belongs")


class Amount(_Whole):
    """How much of an asset, in its smallest unit: whole, 0 <= amount < 2^256."""

    cache_ok = True
    domain = "amount"
    least = 0
    most = AMOUNT_BOUND - 1


class Balance(_Whole):
    """A signed sum of amounts, in the asset's smallest unit: whole, -2^257 < balance < 2^257."""

    cache_ok = True
    domain = "balance"
    least = 1 - BALANCE_BOUND
    most = BALANCE_BOUND - 1


@compiles(Amount, "postgresql")
@compiles(Balance, "postgresql")
def _domain_name(type_: _Whole, compiler: Any, **_: Any) -> str:
    return type_.domain


class Instant(TypeDecorator[datetime]):
    """A point in time to the microsecond, aware and in UTC; anything else is refused rather than converted."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """The instant itself. Raises `NotAnAmount` for a naive datetime, another zone or another type."""
        if value is None:
            return None
        if not isinstance(value, datetime) or value.utcoffset() != timedelta(0):
            raise NotAnAmount(f"an instant must be a datetime in UTC, not {value!r}")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)


class Digest(TypeDecorator[bytes]):
    """A 32-byte hash, stored as `bytea`."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """The bytes themselves. Raises `NotAnAmount` for anything but 32 bytes."""
        if value is None:
            return None
        if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
            raise NotAnAmount(f"a digest must be {DIGEST_BYTES} bytes, not {value!r}")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        return None if value is None else bytes(value)
