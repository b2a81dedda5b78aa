"""What treasury raises.

OnebookError
├── Rejected
│   ├── NotAdjustable       these two accounts may not be adjusted against each other by hand
│   ├── SuspenseShort       less stands in the source than is to be moved
│   └── ReasonMissing       an adjustment says why, and one to a user names its evidence
└── BrokenInvariant
    └── TreasuryCorrupt     a row contradicts the book
"""

from base.errors import BrokenInvariant, Rejected


class NotAdjustable(Rejected):
    default_code = "not_adjustable"


class SuspenseShort(Rejected):
    default_code = "insufficient_funds"


class ReasonMissing(Rejected):
    default_code = "reason_missing"


class TreasuryCorrupt(BrokenInvariant):
    default_code = "treasury_corrupt"
