"""What the rails raise.

OnebookError
├── Rejected
│   ├── StatementRefused        a statement file that can't be taken; names file and line; nothing of it was booked
│   │   ├── UnsafeFile          larger, deeper or trickier than a bank's file is: a DTD, entities, a foreign encoding
│   │   ├── UnknownFormat       another message, or a version of camt.053 that isn't read
│   │   ├── MalformedFile       not XML, or not what its version's schema says
│   │   ├── StatementDisagrees  its balances, entries and totals contradict each other
│   │   └── ForeignAccount      a statement of an account or in a currency that isn't configured
│   ├── LineNotWaiting          a bank line that isn't an incoming payment waiting in suspense
│   ├── InvalidRecipient        a name or an account number that no bank would take
│   ├── NoPayoutRail            an asset that no rail pays out
│   ├── AmountOutOfBounds       less or more than a payout may be
│   ├── PayoutNotCancellable    it's on its way, or has ended
│   ├── PayoutNotInDoubt        a payout that isn't unknown, so not a person's to end
│   ├── PayoutFileWaits         its file could still be carried to the bank
│   └── NotFound
│       └── UnknownLine         no bank line has this id
├── Unavailable
│   └── PayoutsHalted           what was handed over isn't what this database knows: nothing is paid or given back
└── ConfigError
    ├── BankMisconfigured       our own bank accounts are described wrongly
    └── PersonalKeyMissing      the key that opens personal data isn't there
"""

from base.errors import ConfigError, NotFound, Rejected, Unavailable


class StatementRefused(Rejected):
    """Carries `file` and `line` (of the file's text, from 1; None where the fault has no one line)."""

    default_code = "statement_refused"

    def __init__(self, message: str, *, file: str, line: int | None = None, **facts: object) -> None:
        place = file if line is None else f"{file}, line {line}"
        super().__init__(f"{place}: {message}", param="file")
        self.facts = {"file": file, "line": line, **facts}
        self.file = file
        self.line = line


class UnsafeFile(StatementRefused):
    default_code = "statement_unsafe"


class UnknownFormat(StatementRefused):
    default_code = "statement_unknown_format"


class MalformedFile(StatementRefused):
    default_code = "statement_malformed"


class StatementDisagrees(StatementRefused):
    default_code = "statement_disagrees"


class ForeignAccount(StatementRefused):
    default_code = "statement_foreign_account"


class LineNotWaiting(Rejected):
    default_code = "line_not_waiting"


class InvalidRecipient(Rejected):
    default_code = "invalid_recipient"


class NoPayoutRail(Rejected):
    default_code = "no_payout_rail"


class AmountOutOfBounds(Rejected):
    """Carries `amount` and the `minimum` or `maximum`, in smallest units."""

    default_code = "amount_out_of_bounds"


class PayoutNotCancellable(Rejected):
    default_code = "payout_not_cancellable"


class PayoutNotInDoubt(Rejected):
    default_code = "payout_not_in_doubt"


class PayoutFileWaits(Rejected):
    """Carries `file`, its name in `out/`."""

    default_code = "payout_file_waits"


class PayoutsHalted(Unavailable):
    default_code = "payouts_halted"


class UnknownLine(NotFound):
    default_code = "unknown_line"


class BankMisconfigured(ConfigError):
    default_code = "bank_misconfigured"


class PersonalKeyMissing(ConfigError):
    default_code = "personal_key_missing"
