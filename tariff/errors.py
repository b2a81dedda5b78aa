"""What the tariff raises.

OnebookError
├── Rejected
│   ├── LimitExceeded       an operation would pass a limit of its user's tier; says which, and when it frees
│   ├── FeeAboveAccepted    the fee is higher now than the request accepts
│   ├── FeeTakesAll         the fee leaves nothing of what is paid in
│   ├── UnknownTier         no tier has this name
│   └── TierReasonMissing   putting somebody into another tier takes a reason
├── Unavailable
│   ├── LimitUnvalued       what an operation is worth can't be told now, and its user's tier is limited
│   └── TierChanged         somebody else changed the tier at the same time
└── ConfigError
    └── TariffInvalid       the tariff can't be meant, or users are in a tier that it hasn't; says where and why
"""

from base.errors import ConfigError, Rejected, Unavailable


class LimitExceeded(Rejected):
    default_code = "limit_exceeded"


class FeeAboveAccepted(Rejected):
    default_code = "fee_above_accepted"


class FeeTakesAll(Rejected):
    default_code = "fee_takes_all"


class UnknownTier(Rejected):
    default_code = "unknown_tier"


class TierReasonMissing(Rejected):
    default_code = "reason_missing"


class LimitUnvalued(Unavailable):
    default_code = "limit_unvalued"


class TierChanged(Unavailable):
    default_code = "tier_changed"


class TariffInvalid(ConfigError):
    default_code = "invalid_tariff"
