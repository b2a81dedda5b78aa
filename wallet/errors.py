"""What the wallet raises. What the book refuses arrives as `ledger.errors.RefusedByBook` with its numbers,
what an address or a network gets wrong as `chain.errors`.

OnebookError
├── Rejected
│   ├── SelfTransfer        sender and recipient are the same user
│   ├── QuoteExpired        the quote's time is over; ask for a new one
│   ├── QuoteUsed           the quote was converted already
│   ├── QuoteMismatch       the quote buys less than is to be delivered
│   ├── OrderNotOpen        the order has ended, or changed just now
│   ├── PriceMoved          the price of now is worse than the request accepts
│   ├── ExchangeShort       the exchange has not enough of what is bought
│   ├── OwnAddress          a withdrawal to the house itself, or to its owner's own deposit address
│   ├── TokenContract       a withdrawal to a token's own contract
│   ├── Precompile          a withdrawal to an address that is part of the chain's own machine
│   ├── RecipientDoubtful   there is a warning about the recipient that the request doesn't accept
│   ├── RecipientListed     screening objects to a recipient that is one of our users'
│   ├── UnknownWarning      what the request accepts is no warning
│   ├── NotCreditable       the recipient is a user here, and the asset can't be credited to them now
│   ├── BelowMinimum        less than the smallest withdrawal
│   ├── AboveMaximum        more than the largest withdrawal
│   ├── FeeAboveAccepted    the network's fee may be more than the request accepts
│   ├── NotPreviewed        a preview of fees of something that has none, or without what it's over
│   ├── HoldPromised        the sender of a hold can't release any of it; only its recipient can
│   ├── DepositNotCreditable  a deposit that can't be credited by hand (now); says why
│   ├── CannotRebuild       the signer's journal doesn't tell enough of a withdrawal, or contradicts the book
│   ├── ResolutionRefused   a withdrawal under review can't be ended so; says why
│   ├── NotCancellable      the withdrawal has gone too far, or has ended
│   ├── AlreadyCancelling   a treasurer asked for it before; says who and when
│   └── CancelReasonMissing cancelling somebody's withdrawal takes a reason
├── Unavailable
│   └── FeesUnknown         the network's fees can't be told now
└── BrokenInvariant
    └── WalletCorrupt       a row contradicts the book
"""

from base.errors import BrokenInvariant, Rejected, Unavailable


class SelfTransfer(Rejected):
    default_code = "self_transfer"


class CannotRebuild(Rejected):
    default_code = "cannot_rebuild"


class QuoteExpired(Rejected):
    default_code = "quote_expired"


class QuoteUsed(Rejected):
    default_code = "quote_used"


class QuoteMismatch(Rejected):
    default_code = "quote_mismatch"


class OrderNotOpen(Rejected):
    default_code = "order_not_open"


class PriceMoved(Rejected):
    default_code = "price_moved"


class ExchangeShort(Rejected):
    default_code = "exchange_short"


class OwnAddress(Rejected):
    default_code = "own_address"


class TokenContract(Rejected):
    default_code = "token_contract"


class Precompile(Rejected):
    default_code = "precompile"


class RecipientDoubtful(Rejected):
    default_code = "recipient_doubtful"


class RecipientListed(Rejected):
    default_code = "recipient_listed"


class UnknownWarning(Rejected):
    default_code = "unknown_warning"


class NotCreditable(Rejected):
    default_code = "not_creditable"


class BelowMinimum(Rejected):
    default_code = "below_minimum"


class AboveMaximum(Rejected):
    default_code = "above_maximum"


class FeeAboveAccepted(Rejected):
    default_code = "fee_above_accepted"


class NotPreviewed(Rejected):
    default_code = "not_previewed"


class HoldPromised(Rejected):
    default_code = "hold_promised"


class DepositNotCreditable(Rejected):
    default_code = "deposit_not_creditable"


class ResolutionRefused(Rejected):
    default_code = "resolution_refused"


class NotCancellable(Rejected):
    default_code = "not_cancellable"


class AlreadyCancelling(Rejected):
    default_code = "already_cancelling"


class CancelReasonMissing(Rejected):
    default_code = "reason_missing"


class FeesUnknown(Unavailable):
    default_code = "fees_unknown"


class WalletCorrupt(BrokenInvariant):
    default_code = "wallet_corrupt"
