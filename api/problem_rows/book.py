"""What the book refuses."""

from api.problem import Problem

ROWS = (
    Problem("refused", 422, "The book refused", "The entry breaks a rule of the book.", "See the numbers beside."),
    Problem(
        "frozen", 409, "Frozen", "The account, its owner, the asset or the network is frozen.", "Ask the operator."
    ),
    Problem("account_closed", 409, "Account closed", "Nothing can be booked on it any more.", "Use another account."),
    Problem("account_in_use", 409, "Account in use", "Only an empty account without holds closes.", "Empty it first."),
    Problem("unknown_account", 404, "Unknown account", "No account has this name.", "GET /v1/treasury/trial-balance."),
    Problem("asset_mismatch", 422, "Another asset", "The account holds another asset.", "Use an account of the asset."),
    Problem("same_account", 422, "Same account twice", "A posting needs two accounts.", "Choose another."),
    Problem("no_postings", 422, "Nothing to book", "An entry needs at least one posting.", "Add one."),
    Problem("invalid_command", 422, "Impossible command", "It could not be meant by anybody.", "See the detail."),
    Problem("group_refused", 422, "Refused together", "Another part of the request was refused.", "See that part."),
    Problem("effective_in_future", 422, "In the future", "An entry can't take effect later than now.", "Use now."),
    Problem("period_closed", 409, "Period closed", "From `closed_until` on it's still open.", "Use a later date."),
    Problem("ambiguous_entry", 422, "Several entries", "The movement has several entries.", "Name one of `entries`."),
    Problem("not_searchable", 422, "Not searchable", "The house's own notes aren't searched.", "Search another key."),
    Problem("unknown_entry", 404, "Unknown entry", "No entry has this id.", "GET /v1/history lists them."),
    Problem(
        "not_reversible",
        409,
        "Not reversible",
        "Only an accepted entry or settlement is reversed, and nothing of it more than once.",
        "Compare the entry and what was reversed of it already.",
    ),
    Problem(
        "limit_exceeded",
        422,
        "Limit exceeded",
        "It would pass a limit: `used` of `cap` is used up already, and `required` was asked for. `limit` says whether"
        " it's of one operation, a day or a month, `sum` of what, and `asset` in what it's told.",
        "Ask for less, or wait until `frees_at`, when the limit begins anew. GET /v1/limits shows all of them.",
    ),
    Problem(
        "allowance_spent",
        409,
        "Not free any more",
        "What is free in this month was used up at the same instant. Nothing was decided.",
        "Repeat the request with the same Idempotency-Key.",
    ),
    Problem(
        "out_of_bounds",
        409,
        "Outside an account's bounds",
        "The account may come to `least` or `most` by such an entry, and no further.",
        "Ask for `available` at most, or try later.",
    ),
    Problem("statement_too_long", 422, "Statement too long", "It has more lines than `limit`.", "End it at `until`."),
    Problem(
        "expires_in_past", 422, "Expires in the past", "A hold or freeze ends in the future.", "Choose a later end."
    ),
    Problem("unknown_hold", 404, "Unknown hold", "No hold has this id.", "GET /v1/holds lists them."),
    Problem(
        "hold_promised",
        409,
        "The hold is promised",
        "A hold is a promise to its recipient: its sender can pay it, and only its recipient can release any of it.",
        "Ask the recipient to void it, or wait until it expires.",
    ),
    Problem("expires_too_late", 422, "Expires too late", "A hold ends at `latest` at the latest.", "Choose that."),
    Problem("hold_closed", 409, "Hold closed", "It was settled, voided or expired before.", "Nothing is left to do."),
    Problem("hold_expired", 409, "Hold expired", "Its time is over.", "Nothing is left to do."),
    Problem("not_yet", 409, "Not yet", "The hold's time isn't over.", "Wait until it is."),
    Problem("unknown_posting", 422, "Unknown posting", "The hold has no posting of this number.", "Compare the hold."),
    Problem("exceeds_remainder", 422, "More than is held", "`remaining` is what the hold still has.", "Settle less."),
    Problem("credit_line_in_use", 409, "Credit line in use", "`in_use` of it is drawn or held.", "Set a higher line."),
    Problem("not_limited", 422, "Not a limited account", "Only limited accounts have a credit line.", "Use another."),
    Problem(
        "stale_state",
        409,
        "Changed meanwhile",
        "Somebody else was quicker: the resource isn't any more as this request expected it.",
        "Read it again, and decide again with a new Idempotency-Key.",
    ),
    Problem("duplicate_row", 409, "There already", "Such a resource exists.", "Read it."),
)
