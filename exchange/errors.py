"""What the exchange raises.

OnebookError
├── Rejected
│   ├── NoRate              no source tells of this pair, directly or through the pivot
│   ├── AmountTooSmall      it would buy less than one smallest unit
│   ├── OutsideSizes        less or more than one conversion may come to
│   └── ExposureReached     the exchange may hold no more of what it would buy
├── Unavailable
│   ├── RatesTooOld         the rates file is older than it allows itself to be
│   ├── SourceFailed        a source of rates gave no answer that can be read; says why
│   └── RateUnavailable     the pair's sources are old, disagree or jumped: nobody knows the price now
└── ConfigError
    ├── InvalidRates        the rates file can't be read; says where
    ├── InvalidTerms        the exchange's terms can't be read; says where
    └── ReferenceChanged    positions were kept in another reference than the settings name now
"""

from base.errors import ConfigError, Rejected, Unavailable


class NoRate(Rejected):
    default_code = "no_rate"


class AmountTooSmall(Rejected):
    default_code = "amount_too_small"


class OutsideSizes(Rejected):
    default_code = "outside_sizes"


class ExposureReached(Rejected):
    default_code = "exposure_reached"


class RatesTooOld(Unavailable):
    default_code = "rates_too_old"


class SourceFailed(Unavailable):
    default_code = "source_failed"


class RateUnavailable(Unavailable):
    default_code = "rate_unavailable"


class InvalidRates(ConfigError):
    default_code = "invalid_rates"


class InvalidTerms(ConfigError):
    default_code = "invalid_terms"


class ReferenceChanged(ConfigError):
    default_code = "reference_changed"
