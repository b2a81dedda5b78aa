"""What the wallet raises. What the book refuses arrives as `ledger.errors.RefusedByBook` with its numbers,
what an address or a network gets wrong as `chain.errors`.

OnebookError
├── Rejected
│   ├── SelfTransfer        sender and recipient are the same user
│   ├── NoRate              the rates file can't price this pair
│   ├── AmountTooSmall      it would buy less than one smallest unit
│   ├── QuoteExpired        the quote's time is over; ask for a new one
│   ├── QuoteUsed           the quote was converted already
│   ├── ExchangeShort       the exchange has not enough of what is bought
│   ├── OwnAddress          a withdrawal to the house itself or to the token's own contract
│   ├── BelowMinimum        less than the smallest withdrawal
│   ├── HoldPromised        the sender of a hold can't release any of it; only its recipient can
│   └── NotCancellable      the withdrawal has gone too far, or has ended
├── Unavailable
│   ├── RatesTooOld         the rates file is older than it allows itself to be
│   └── FeesUnknown         the network's fees can't be told now
├── ConfigError
│   └── InvalidRates        the rates file can't be read; says where
└── BrokenInvariant
    └── WalletCorrupt       a row contradicts the book
"""

from base.errors import BrokenInvariant, ConfigError, Rejected, Unavailable


class SelfTransfer(Rejected):
    default_code = "self_transfer"


class NoRate(Rejected):
    default_code = "no_rate"


class AmountTooSmall(Rejected):
    default_code = "amount_too_small"


class QuoteExpired(Rejected):
    default_code = "quote_expired"


class QuoteUsed(Rejected):
    default_code = "quote_used"


class ExchangeShort(Rejected):
    default_code = "exchange_short"


class OwnAddress(Rejected):
    default_code = "own_address"


class BelowMinimum(Rejected):
    default_code = "below_minimum"


class HoldPromised(Rejected):
    default_code = "hold_promised"


class NotCancellable(Rejected):
    default_code = "not_cancellable"


class RatesTooOld(Unavailable):
    default_code = "rates_too_old"


class FeesUnknown(Unavailable):
    default_code = "fees_unknown"


class InvalidRates(ConfigError):
    default_code = "invalid_rates"


class WalletCorrupt(BrokenInvariant):
    default_code = "wallet_corrupt"
