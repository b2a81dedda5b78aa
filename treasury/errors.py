"""What treasury raises.

OnebookError
├── Rejected
│   ├── NotAdjustable       these two accounts may not be adjusted against each other by hand
│   ├── SuspenseShort       less stands in the source than is to be moved
│   ├── ReasonMissing       an adjustment says why, and one to a user names its evidence
│   ├── ApprovalUnfit       what is to be approved can't be meant, or isn't proven to be its maker's
│   ├── ApprovalClosed      it has expired, was used, or was withdrawn
│   ├── SignatureRefused    a signature that doesn't count: by nobody of the people, by the maker, or over other bytes
│   ├── TokenChanged        a token's contract isn't in the state that is to be accepted
│   ├── SweepUnfit          nothing may be swept there now, or it's under way
│   ├── RefillUnfit         a refill request that has ended, or evidence that isn't an inflow for it
│   ├── TokenUnfit          a token's contract can't be accepted as the configuration describes it
│   ├── SenderChanged       something else was found at a halted sender than what is to be accepted
│   ├── MomentUnfit         positions of a moment that isn't known: to come, before the book, a block that isn't final
│   ├── ListUnfit           a list of what is owed can't be meant so: its epoch's name, its key
│   ├── SolvencyProofInvalid  a proof of what is owed that doesn't prove it: altered, of another list, or another user's
│   ├── FreezeUnfit         a freeze that can't be set so, or was lifted before
│   ├── SecondPersonNeeded  more than a treasurer may move by hand alone
│   ├── ProposalClosed      what was proposed was confirmed, withdrawn, or is too old
│   ├── SamePerson          who proposed something can't confirm it
│   ├── PeriodUnfit         a period that isn't one, isn't over, or has something open in it
│   ├── ResolutionUnfit     a break isn't resolved in that way: its kind, the amount, the account, the date
│   ├── BreakClosed         what is asked for can't happen to a break in its state
│   ├── BreakChanged        its difference isn't the one that a resolution was proposed for
│   ├── ResolutionClosed    a resolution that doesn't wait any more
│   ├── NoBreak             there is no such break (NotFound)
│   ├── NoResolution        there is no such resolution (NotFound)
│   ├── ReportPeriodUnfit   a report's period can't be meant, or hasn't begun
│   ├── PeriodOpen          a report of a closed period was asked for, and this one is open
│   ├── ReportUnfit         what a report was asked to be can't be meant: what it may know of, whom it's about
│   ├── EpochUnfit          an epoch of what is owed and held is being made, or was made, by somebody else
│   ├── AnchorUnfit         an epoch's hash can't be written on a chain now, or is already
│   ├── ControlUnfit        what was handed in doesn't show control of an address, or isn't wanted
│   ├── ChainUnsettled      an epoch can't be made now: a reorg is under way, or a network is halted
│   ├── NoLeaf              nothing of that asset was kept for this user (NotFound)
│   ├── NoEpoch             there is no such epoch (NotFound)
│   └── ApprovalUnknown     there is no such request for approval
├── Unavailable
│   ├── ApprovalsUnavailable  nobody knows here who may approve: the policy can't be read
│   ├── ReservesUnavailable   what is held can't be told now: nodes lag, disagree or don't know
│   └── EpochFilesMissing     the files that proofs are made from aren't where this process looks
└── BrokenInvariant
    └── TreasuryCorrupt     a row contradicts the book
"""

from base.errors import BrokenInvariant, NotFound, Rejected, Unavailable


class NotAdjustable(Rejected):
    default_code = "not_adjustable"


class SuspenseShort(Rejected):
    default_code = "insufficient_funds"


class ReasonMissing(Rejected):
    default_code = "reason_missing"


class ApprovalUnfit(Rejected):
    default_code = "approval_unfit"


class ApprovalClosed(Rejected):
    default_code = "approval_closed"


class SignatureRefused(Rejected):
    default_code = "signature_refused"


class TokenChanged(Rejected):
    default_code = "token_changed"


class TokenUnfit(Rejected):
    default_code = "token_unfit"


class SenderChanged(Rejected):
    default_code = "sender_changed"


class SweepUnfit(Rejected):
    default_code = "sweep_unfit"


class RefillUnfit(Rejected):
    default_code = "refill_unfit"


class MomentUnfit(Rejected):
    default_code = "moment_unfit"


class ListUnfit(Rejected):
    default_code = "list_unfit"


class SolvencyProofInvalid(Rejected):
    default_code = "solvency_proof_invalid"


class EpochUnfit(Rejected):
    default_code = "epoch_unfit"


class AnchorUnfit(Rejected):
    default_code = "anchor_unfit"


class ControlUnfit(Rejected):
    default_code = "control_unfit"


class FreezeUnfit(Rejected):
    default_code = "freeze_unfit"


class SecondPersonNeeded(Rejected):
    default_code = "second_person_needed"


class ProposalClosed(Rejected):
    default_code = "proposal_closed"


class SamePerson(Rejected):
    default_code = "same_person"


class PeriodUnfit(Rejected):
    default_code = "period_unfit"


class ResolutionUnfit(Rejected):
    default_code = "resolution_unfit"


class BreakClosed(Rejected):
    default_code = "break_closed"


class BreakChanged(Rejected):
    default_code = "break_changed"


class ResolutionClosed(Rejected):
    default_code = "resolution_closed"


class NoBreak(NotFound):
    default_code = "unknown_break"


class NoResolution(NotFound):
    default_code = "unknown_resolution"


class ReportPeriodUnfit(Rejected):
    default_code = "report_period_unfit"


class PeriodOpen(Rejected):
    default_code = "period_open"


class ReportUnfit(Rejected):
    default_code = "report_unfit"


class ChainUnsettled(Rejected):
    default_code = "chain_unsettled"


class NoLeaf(NotFound):
    default_code = "no_leaf"


class NoEpoch(NotFound):
    default_code = "no_epoch"


class ApprovalUnknown(NotFound):
    default_code = "unknown_approval"


class ApprovalsUnavailable(Unavailable):
    default_code = "approvals_unavailable"


class ReservesUnavailable(Unavailable):
    default_code = "reserves_unavailable"


class EpochFilesMissing(Unavailable):
    default_code = "epoch_files_missing"


class TreasuryCorrupt(BrokenInvariant):
    default_code = "treasury_corrupt"
