"""The catalogue of problems: for each error code its HTTP status, and in words why it happens and what to do.

A page at `/problems/<code>` shows each row. Who turns errors into answers is `api.problems`.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of failure. `why` explains it, `remedy` says what to do.

    `private`: what the error itself says is for the log; callers get `why`.
    """

    code: str
    status: int
    title: str
    why: str
    remedy: str
    private: bool = False


_ROWS = (
    # Who asks
    Problem(
        "no_key",
        401,
        "No API key",
        "Everything under /v1 needs an API key, and none was sent.",
        "Send the header Authorization: Bearer <key>. An operator makes keys at POST /v1/api-keys.",
    ),
    Problem(
        "wrong_key",
        401,
        "Unknown API key",
        "The key is incomplete, mistyped, or of another installation or book.",
        "Compare it with the one you were given. Keys can't be shown again; ask an operator for a new one.",
    ),
    Problem(
        "key_expired",
        401,
        "API key expired",
        "The key was made with an end, and that has come.",
        "Ask an operator for a new key.",
    ),
    Problem("key_revoked", 401, "API key revoked", "The key was taken back.", "Ask an operator for a new key."),
    Problem(
        "not_authenticated",
        401,
        "Not authenticated",
        "The key doesn't say who you are.",
        "Ask an operator for a key.",
    ),
    Problem(
        "wrong_scope",
        403,
        "The key may not do this",
        "Each key has scopes, and this request needs one that it lacks. `needed` names it.",
        "Use a key that has the scope, or ask an operator for one. User scopes need a key that belongs to a user.",
    ),
    Problem(
        "rate_exceeded",
        429,
        "Too many requests",
        "Each key may make a number of requests in any minute, and this one has made them.",
        "Wait as long as Retry-After says. The RateLimit headers tell in advance.",
    ),
    # How the request is written
    Problem(
        "idempotency_key_missing",
        400,
        "Idempotency-Key missing",
        "Requests that move money must be safe to repeat after a lost answer, so each carries a name of its own.",
        "Send Idempotency-Key with any text that is new for each payment, such as a UUID.",
    ),
    Problem(
        "idempotency_key_invalid",
        400,
        "Idempotency-Key can't be used",
        "It is empty, longer than 255 characters, or not printable ASCII.",
        "Use a UUID, or your own payment's number.",
    ),
    Problem(
        "idempotency_key_reused",
        422,
        "Idempotency-Key used for another request",
        "The same key came before with another body. `first` names what that request made. Nothing was done now.",
        "To repeat the first request send its exact body. For a new payment use a new key.",
    ),
    Problem(
        "malformed_body",
        400,
        "The body can't be read",
        "It isn't JSON in UTF-8, or could be read in two ways (a name twice, a number that isn't finite).",
        "Correct the place that the detail names.",
    ),
    Problem(
        "malformed_text",
        400,
        "Text that can't be kept",
        "The address or a field has a NUL or half a character.",
        "Remove it.",
    ),
    Problem(
        "wrong_content_type",
        415,
        "Wrong content type",
        "The body isn't declared as what this path takes.",
        "Send the Content-Type that `expected` names.",
    ),
    Problem("body_too_large", 413, "Body too large", "The body is larger than this path takes.", "Send less."),
    Problem("body_missing", 422, "No body", "This path takes a JSON body, and none was sent.", "Send one; see /docs."),
    Problem(
        "invalid_request",
        422,
        "A field is wrong",
        "A field has the wrong kind or a value outside its bounds. `param` names it; `errors` lists all.",
        "Correct the fields; /docs shows each.",
    ),
    Problem("missing_field", 422, "A field is missing", "`param` names the field.", "Add it; /docs shows each field."),
    Problem(
        "unknown_field",
        422,
        "Unknown field",
        "The body has a field that this path doesn't know. It isn't ignored, since it was meant to do something.",
        "Remove it, or correct its spelling; /docs shows each field.",
    ),
    Problem(
        "unknown_version",
        400,
        "Unknown API version",
        "The Onebook-Version header names a date that is no version of this API. `known` lists them.",
        "Leave the header out, or send a known date.",
    ),
    Problem("unknown_path", 404, "Nothing here", "No resource is at this path.", "/docs lists all paths."),
    Problem(
        "method_not_allowed",
        405,
        "Method not allowed",
        "The path exists, but not for this HTTP method. The Allow header names those it has.",
        "/docs lists all paths with their methods.",
    ),
    Problem("http_error", 400, "The request can't be served", "The detail says why.", "See /docs."),
    Problem(
        "invalid_cursor",
        422,
        "No such place",
        "The page key isn't one of a list's ids.",
        "Use an id from the list.",
    ),
    Problem("unknown_kind", 422, "Unknown kind", "Movements have other kinds; the detail lists them.", "Choose one."),
    Problem("not_found", 404, "Not found", "There is no such thing, or it isn't yours.", "Compare the id."),
    # Amounts and assets
    Problem(
        "amount_not_text",
        422,
        "An amount must be a string",
        'Amounts are exact decimal strings ("12.50"). JSON numbers are refused: many programs round them.',
        "Put the amount in quotes.",
    ),
    Problem(
        "invalid_amount",
        422,
        "Not an amount",
        "An amount is digits with a point, more than zero: no sign, exponent, comma or space.",
        'Write it like "12.50".',
    ),
    Problem(
        "too_many_decimals",
        422,
        "Too many decimals",
        "The asset has fewer decimals (`scale`) than were given, and Onebook never rounds an amount that you send.",
        "Give at most as many decimals as the asset has; GET /v1/assets lists them.",
    ),
    Problem(
        "amount_too_large",
        422,
        "Amount too large",
        "Amounts stay below 2^256 smallest units.",
        "Send a smaller amount.",
    ),
    Problem(
        "amount_overflow",
        422,
        "An account would overflow",
        "No account may turn over 2^256 smallest units or more.",
        "Send a smaller amount.",
    ),
    Problem("amount_out_of_range", 422, "Number out of range", "The number is beyond its bounds.", "Correct it."),
    Problem(
        "amount_too_small",
        422,
        "Amount too small",
        "It would buy less than one smallest unit of the other asset.",
        "Exchange more at once.",
    ),
    Problem(
        "one_amount",
        422,
        "One amount",
        "A quote is for selling an exact amount or for buying one.",
        "Give sell_amount or buy_amount, not both.",
    ),
    Problem("unknown_asset", 422, "Unknown asset", "No asset has this code.", "GET /v1/assets lists the codes."),
    Problem(
        "asset_redefined",
        409,
        "Asset exists otherwise",
        "An asset's kind and scale are fixed when it's made.",
        "Use another code.",
    ),
    Problem(
        "insufficient_funds",
        422,
        "Not enough available",
        "`required` is what this would take, `available` what can be spent now: the balance less what is held.",
        "Send less, or add funds first. GET /v1/holds shows what is held.",
    ),
    Problem(
        "receivable_open",
        409,
        "Something is owed first",
        "A deposit was undone after it had been spent, so this user owes the house. Nothing leaves before.",
        "Deposit what is owed.",
    ),
    # People and transfers
    Problem(
        "unknown_recipient",
        422,
        "Unknown recipient",
        "Nobody here has this handle or id.",
        "Ask the recipient for their handle, and write it as @handle.",
    ),
    Problem(
        "self_transfer",
        422,
        "Transfer to oneself",
        "Sender and recipient are the same.",
        "Choose another recipient.",
    ),
    Problem("memo_too_long", 422, "Memo too long", "A memo has at most 200 characters.", "Shorten it."),
    Problem("unknown_user", 404, "Unknown user", "No user has this handle or id.", "GET /v1/users lists them."),
    Problem("unknown_key", 404, "Unknown key id", "No API key has this id.", "GET /v1/api-keys lists them."),
    Problem("handle_taken", 409, "Handle taken", "Another user has this handle.", "Choose another."),
    Problem("invalid_handle", 422, "Not a handle", "A handle is 3 to 32 of a-z, 0-9 and _.", "Choose another."),
    Problem("invalid_name", 422, "Not a name", "A display name is 1 to 100 printable characters.", "Choose another."),
    Problem("unknown_scope", 422, "Unknown scope", "`known` lists the scopes and roles.", "Choose among them."),
    Problem(
        "invalid_key_request",
        422,
        "No such key can be made",
        "A key needs a label, scopes that fit (a user's or the house's), a rate, and an end in the future.",
        "Correct the field that `param` names.",
    ),
    # Exchange
    Problem("no_rate", 422, "No rate", "There is no rate for these two assets.", "Go through another asset."),
    Problem("quote_expired", 409, "Quote expired", "A quote stands for half a minute.", "Ask for a new quote."),
    Problem("quote_used", 409, "Quote used", "A quote converts once, and this one did.", "Ask for a new quote."),
    Problem(
        "exchange_short",
        409,
        "The exchange is short",
        "The exchange sells only the stock that it was given, and that isn't enough now.",
        "Convert less, or try later.",
    ),
    # Chain
    Problem(
        "invalid_address",
        422,
        "Not an address",
        "An address is 0x and 40 hexadecimal digits.",
        "Copy it again from the recipient.",
    ),
    Problem(
        "wrong_checksum",
        422,
        "Address with a wrong checksum",
        "Its capital letters don't fit its digits (EIP-55), so at least one character is wrong.",
        "Copy it again from the recipient. Money sent to a mistyped address is lost.",
    ),
    Problem("zero_address", 422, "The zero address", "What is sent there is lost.", "Use the recipient's address."),
    Problem(
        "own_address",
        422,
        "An address of the house or of the token",
        "A withdrawal there would only cost its fee, or be lost in the token's contract.",
        "To pay a user here use a transfer.",
    ),
    Problem(
        "not_on_network",
        422,
        "Wrong network",
        "There is no such network, or the asset isn't on it.",
        "GET /v1/assets lists the networks of each asset.",
    ),
    Problem("unknown_network", 422, "Unknown network", "No network has this name.", "GET /v1/networks lists them."),
    Problem(
        "not_a_whole_unit",
        422,
        "Finer than the network's unit",
        "On that network the asset has fewer decimals than here. `nearest` gives the two nearest amounts.",
        "Withdraw one of the nearest amounts.",
    ),
    Problem(
        "payment_refused",
        422,
        "The recipient can't be paid",
        "The contract at this address, or the token itself, refuses such a payment.",
        "Withdraw to another address.",
    ),
    Problem("below_minimum", 422, "Below the minimum", "`minimum` is the least amount.", "Withdraw more."),
    Problem(
        "not_cancellable",
        409,
        "Too late to cancel",
        "A withdrawal can be cancelled until its payment is prepared; this one has gone further, or has ended.",
        "GET /v1/withdrawals/{id} shows where it stands.",
    ),
    Problem("rates_too_old", 503, "Rates too old", "The rates are older than they may be.", "Try again later."),
    Problem("fees_unknown", 503, "Network fees unknown", "The network's fees can't be told now.", "Try again later."),
    Problem("not_yet_followed", 503, "Network not followed yet", "Nothing is known of it yet.", "Try again later."),
    Problem(
        "node_unavailable",
        503,
        "Network unreachable",
        "The network's node doesn't answer.",
        "Try again later.",
        True,
    ),
    Problem("node_misbehaved", 503, "Network unreliable", "Its node contradicts itself.", "Try again later.", True),
    Problem("node_refused", 503, "Network refused", "Its node refused what we asked.", "Try again later.", True),
    Problem("signer_unavailable", 503, "Signer unavailable", "The signer doesn't answer.", "Try again later.", True),
    Problem("signer_refused", 503, "Signer refused", "The signer's policy says no.", "Ask the operator.", True),
    # The book
    Problem("refused", 422, "The book refused", "The entry breaks a rule of the book.", "See the numbers beside."),
    Problem("frozen", 409, "Frozen", "The account, its owner or the asset is frozen.", "Ask the operator why."),
    Problem("account_closed", 409, "Account closed", "Nothing can be booked on it any more.", "Use another account."),
    Problem("account_in_use", 409, "Account in use", "Only an empty account without holds closes.", "Empty it first."),
    Problem("unknown_account", 404, "Unknown account", "No account has this name.", "GET /v1/treasury/trial-balance."),
    Problem("asset_mismatch", 422, "Another asset", "The account holds another asset.", "Use an account of the asset."),
    Problem("same_account", 422, "Same account twice", "A posting needs two accounts.", "Choose another."),
    Problem("no_postings", 422, "Nothing to book", "An entry needs at least one posting.", "Add one."),
    Problem("invalid_command", 422, "Impossible command", "It could not be meant by anybody.", "See the detail."),
    Problem("group_refused", 422, "Refused together", "Another part of the request was refused.", "See that part."),
    Problem("effective_in_future", 422, "In the future", "An entry can't take effect later than now.", "Use now."),
    Problem("expires_in_past", 422, "Expires in the past", "A hold needs an end in the future.", "Choose a later end."),
    Problem("unknown_hold", 404, "Unknown hold", "No hold has this id.", "GET /v1/holds lists them."),
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
    # Bank and treasury
    Problem("statement_refused", 422, "Statement refused", "The detail names file and line.", "Ask the bank."),
    Problem(
        "statement_unsafe",
        422,
        "Not a bank's file",
        "It is too large, or has what a bank's file never has (a document type, entities, a foreign encoding).",
        "Upload the file as the bank delivered it.",
    ),
    Problem(
        "statement_unknown_format",
        422,
        "Unknown format",
        "Only camt.053 in the versions that `known` lists is read.",
        "Ask the bank for camt.053.",
    ),
    Problem(
        "statement_malformed", 422, "Not valid camt.053", "It breaks its schema.", "Ask the bank for another file."
    ),
    Problem(
        "statement_disagrees",
        422,
        "The statement contradicts itself",
        "Its balances, entries and totals don't fit together. Nothing of it was booked.",
        "Ask the bank for a corrected file.",
    ),
    Problem(
        "statement_foreign_account",
        422,
        "Another account",
        "The statement is of an account or a currency that isn't configured here.",
        "Compare onebook.toml with the statement.",
    ),
    Problem(
        "not_adjustable",
        422,
        "Not adjustable by hand",
        "Custody, banks and what is in transit follow the chain's and the bank's evidence alone. `adjustable` lists the"
        " house's purposes that may be moved between; a user is credited only out of suspense or quarantine.",
        "Choose other accounts.",
    ),
    Problem(
        "reason_missing",
        422,
        "Say why",
        "What is moved by hand needs a reason that stays, and, to a user, the evidence that it's theirs.",
        "Fill in the field that `param` names.",
    ),
    Problem(
        "line_not_waiting",
        409,
        "Line not waiting",
        "It isn't in suspense any more.",
        "GET /v1/treasury/statement-lines lists those that are.",
    ),
    Problem("unknown_line", 404, "Unknown bank line", "No bank line has this id.", "Compare the id."),
    # Not now
    Problem("unavailable", 503, "Not available now", "A part of the service can't answer now.", "Try again."),
    Problem("not_ready", 503, "Not ready", "A part that is needed can't answer now.", "Try again."),
    Problem("book_busy", 503, "Busy", "Too much waits to be booked. Nothing was done.", "Try again."),
    Problem(
        "outcome_unknown",
        503,
        "Outcome unknown",
        "The database went away while this was booked: it may have been done, or not.",
        "Send the same request with the same Idempotency-Key again: it is done once.",
    ),
    Problem(
        "database_unavailable",
        503,
        "Database unavailable",
        "The database can't be reached, so nothing can be looked up or booked.",
        "Send the same request again, with the same Idempotency-Key, after Retry-After seconds.",
        True,
    ),
    Problem("database_busy", 503, "Database busy", "Every connection is in use.", "Try again.", True),
    Problem("database_full", 503, "Database full", "The database has no room left. Nothing was booked.", "Wait.", True),
    Problem(
        "serialization_conflict",
        503,
        "Busy",
        "Concurrent work got in the way; nothing was done.",
        "Try again.",
        True,
    ),
    # Our fault
    Problem("rejected", 422, "Refused", "The request can't be done as it stands.", "The detail says why."),
    Problem("config", 500, "Set up wrongly", "This installation is configured wrongly.", "Ask the operator.", True),
    Problem(
        "broken_invariant",
        500,
        "Stopped to protect the book",
        "Something that must always hold doesn't. The operator has been told; nothing was booked by this request.",
        "Give the operator the request id.",
        True,
    ),
    Problem(
        "internal",
        500,
        "Internal error",
        "Onebook failed in a way that it doesn't know. If this request carried an Idempotency-Key, repeat it"
        " unchanged to learn what became of it.",
        "Give the operator the request id.",
        True,
    ),
)

CATALOGUE: Mapping[str, Problem] = {row.code: row for row in _ROWS}
"""Every row by its code."""
