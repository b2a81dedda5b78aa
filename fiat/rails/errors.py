"""What a rail answers when it doesn't do what was asked, and what our own side of the rails refuses.

OnebookError
├── Rejected
│   ├── Declined              final: the provider or the payer's bank said no; a code, and a reason fit for the payer
│   ├── NotCapable            this rail doesn't do that at all
│   ├── AmountNotPayable      the rail can't carry this amount exactly
│   ├── WebhookRefused        a webhook that isn't the provider's, or is too old or too new; nothing of it was kept
│   ├── NotRefundable         the top-up isn't credited, or less of it is left than is to be refunded
│   ├── RefundNotInDoubt      the refund isn't unknown, so that people don't say what became of it
│   ├── NotInState            the top-up isn't where this can be done to it
│   ├── SettlementNotMatching the bank line isn't this settlement's money
│   ├── NothingToAccept       all of the settlement fits
│   └── NotFound
│       └── UnknownRail       no rail of this name is configured
├── Unavailable
│   ├── EffectUnknown         time-out, 5xx, connection lost: it may have happened; ask by our own id, never anew
│   │   └── OrderForgotten    the provider can't be asked by our id any more: for good, so a person looks at its pages
│   └── RateLimited           the provider did nothing and says when to ask again
├── ConfigError
│   ├── RailMisconfigured     a rail's settings can't work, or this rail isn't for this book
│   └── RefusedByProvider     our fault: a key, a parameter, a feature that isn't switched on; nothing happened
└── BrokenInvariant
    └── RailCorrupt           what we keep and what the provider says can't both be
"""

from enum import StrEnum

from base.errors import BrokenInvariant, ConfigError, NotFound, Rejected, Unavailable


class Declined(Rejected):
    """Carries `reason_code` (the provider's own, or a network's, such as `insufficient_funds`).

    The message is shown to the payer: it must not name what only helps a fraudster (`stolen_card` is told as
    `generic_decline`), nor anything personal.
    """

    default_code = "declined"

    def __init__(self, message: str, *, reason_code: str) -> None:
        super().__init__(message, reason_code=reason_code)
        self.reason_code = reason_code


class NotCapable(Rejected):
    default_code = "rail_not_capable"


class AmountNotPayable(Rejected):
    default_code = "amount_not_payable"


class RefusalReason(StrEnum):
    """Why a webhook is refused."""

    UNSIGNED = "unsigned"
    WRONG_SIGNATURE = "wrong_signature"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    MALFORMED = "malformed"
    FOREIGN = "foreign"
    """Signed well, but for another account of the provider's, or for its other (live or test) mode."""


class WebhookRefused(Rejected):
    default_code = "webhook_refused"

    def __init__(self, message: str, *, reason: RefusalReason) -> None:
        super().__init__(message, reason=reason.value)
        self.reason = reason


class NotRefundable(Rejected):
    default_code = "not_refundable"


class RefundNotInDoubt(Rejected):
    default_code = "refund_not_in_doubt"


class NotInState(Rejected):
    default_code = "top_up_not_in_state"


class SettlementNotMatching(Rejected):
    default_code = "settlement_not_matching"


class NothingToAccept(Rejected):
    default_code = "settlement_fits"


class UnknownRail(NotFound):
    default_code = "unknown_rail"


class EffectUnknown(Unavailable):
    default_code = "rail_effect_unknown"


class OrderForgotten(EffectUnknown):
    """The message is for the operator."""


class RateLimited(Unavailable):
    """`retry_after`: seconds from now, at least; None where the provider names none."""

    default_code = "rail_rate_limited"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RailMisconfigured(ConfigError):
    default_code = "rail_misconfigured"


class RefusedByProvider(ConfigError):
    """The message is for the operator; it names the provider's code and request id, and never a secret."""

    default_code = "refused_by_provider"


class RailCorrupt(BrokenInvariant):
    default_code = "rail_corrupt"
