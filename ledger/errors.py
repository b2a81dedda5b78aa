"""What the ledger raises. What it *refuses* is an `Outcome`, not an error: see `ledger.outcomes`.

OnebookError
├── Rejected
│   ├── InvalidAmount     a decimal string that is no exact amount of its asset
│   ├── InvalidCommand    a command that could not be meant by anybody (no postings, a repeated id in a group)
│   ├── UnknownAsset      no asset has this code
│   ├── AssetRedefined    an asset exists with another kind or scale; both are fixed at creation
│   ├── BadFile           a file that can't be read as one of entries: its header, its encoding, its compression
│   ├── StatementTooLong  a statement with more lines than one may have
│   ├── ProofInvalid      a proof of an entry that doesn't prove it: altered, incomplete, or signed by another key
│   └── RefusedByBook     a caller that needs an accepted outcome was given a refusal
├── NotFound
│   └── EntryUnknown      no command has this id or seq
├── Unavailable
│   ├── NotSealed         an entry can't be proven before it's sealed
│   ├── BookBusy          the queue of waiting commands is full; nothing was written
│   └── OutcomeUnknown    the database went away while committing; send the same id again
└── BrokenInvariant
    └── BookCorrupt       stored rows contradict each other
"""

from base.errors import BrokenInvariant, NotFound, Rejected, Unavailable


class InvalidAmount(Rejected):
    default_code = "invalid_amount"


class InvalidCommand(Rejected):
    default_code = "invalid_command"


class UnknownAsset(Rejected):
    default_code = "unknown_asset"


class AssetRedefined(Rejected):
    default_code = "asset_redefined"


class BadFile(Rejected):
    default_code = "bad_file"


class StatementTooLong(Rejected):
    default_code = "statement_too_long"


class ProofInvalid(Rejected):
    default_code = "proof_invalid"


class RefusedByBook(Rejected):
    default_code = "refused"


class RequestConflict(RefusedByBook):
    default_code = "id_conflict"


class EntryUnknown(NotFound):
    default_code = "unknown_entry"


class NotSealed(Unavailable):
    default_code = "not_sealed"


class BookBusy(Unavailable):
    default_code = "book_busy"


class OutcomeUnknown(Unavailable):
    default_code = "outcome_unknown"


class BookCorrupt(BrokenInvariant):
    default_code = "book_corrupt"
