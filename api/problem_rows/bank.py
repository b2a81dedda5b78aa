"""What can be wrong with banks' files, payouts and what the treasury does."""

from api.problem import Problem

ROWS = (
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
        "What is read: the messages and versions that `known` lists, and MT940.",
        "Ask the bank for one of those.",
    ),
    Problem(
        "statement_malformed", 422, "Not a valid file", "It breaks its format's rules.", "Ask the bank for another."
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
        "Custody, banks and what is in transit follow the chain's and the bank's evidence; what differs there, two"
        " people resolve as a break. `adjustable` lists the house's purposes that may be moved between; a user is"
        " credited only out of suspense or quarantine.",
        "Choose other accounts.",
    ),
    Problem(
        "token_changed",
        409,
        "The token isn't in that state",
        "Its contract changed since you looked, or nothing is to be accepted.",
        "GET /v1/treasury/tokens shows it as it is; `found.state` names what can be accepted.",
    ),
    Problem(
        "token_unfit",
        422,
        "The token doesn't fit its configuration",
        "Its contract has other decimals than onebook.toml says, or is no token any more.",
        "Put the deployment right in onebook.toml, start again, then accept.",
    ),
    Problem(
        "sender_changed",
        409,
        "The sender isn't in that state",
        "Something else was found at the address since you looked, or somebody else accepted it.",
        "GET /v1/treasury/halted-senders shows it as it is; `state` names what can be accepted.",
    ),
    Problem(
        "resolution_refused",
        409,
        "The withdrawal can't be ended so",
        "Only what needs review is ended by hand, and only as the chain bears out: paid by a final transaction that"
        " paid its recipient that amount, be it its batch's own, or returned once nothing of ours can be mined for it"
        " any more.",
        "GET /v1/treasury/withdrawals shows what was found on chain; the detail says what is missing.",
    ),
    Problem(
        "sweep_unfit",
        422,
        "There is nothing to do for this sweep",
        "It has ended, or was never begun.",
        "GET /v1/treasury/sweeps/{id} tells its state.",
    ),
    Problem(
        "nothing_to_sweep",
        422,
        "Nothing there may leave",
        "Only what is final is swept, and not what waits for its review or came from a listed sender (`kept_back`).",
        "Wait until the deposit is final, or review it at GET /v1/treasury/deposits.",
    ),
    Problem(
        "sweep_under_way",
        422,
        "The address is being swept",
        "Sweeps of one address go one after the other. `sweep` names the one that is under way.",
        "Wait for it, then ask again.",
    ),
    Problem(
        "sweep_refused",
        422,
        "This sweep was refused before",
        "Its token or the signer said no; `sweep` names it, with the reason.",
        "When the reason is gone: POST /v1/treasury/sweeps/{id}/retry.",
    ),
    Problem(
        "refill_unfit",
        422,
        "The refill can't be closed so",
        "It has ended, or what is named isn't an inflow of this asset to the hot address.",
        "GET /v1/treasury/refills shows each request, and the inflow that may have closed it.",
    ),
    Problem(
        "deposit_not_creditable",
        422,
        "Deposit not creditable by hand",
        "Only a deposit that isn't credited by itself can be, once, when its block is final and its token is accepted.",
        "GET /v1/treasury/deposits lists those that wait.",
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
    Problem(
        "invalid_recipient",
        422,
        "Nobody who can be paid",
        "The name or the IBAN isn't one that a bank would take. `param` names which.",
        "Compare it with what the bank writes: a typing mistake fails the IBAN's check digits.",
    ),
    Problem(
        "no_payout_rail",
        422,
        "Not paid out here",
        "No bank account of the house pays this asset out.",
        "Choose one of the assets that the detail names, or convert first.",
    ),
    Problem(
        "amount_out_of_bounds",
        422,
        "Too little or too much",
        "A payout is at least `minimum` and at most `maximum`.",
        "Ask for another amount, or for several payouts.",
    ),
    Problem(
        "payout_not_cancellable",
        409,
        "Too late to cancel",
        "The payout is on its way to the bank, or has ended.",
        "Read it again: what the bank rejects comes back by itself.",
    ),
    Problem(
        "payout_not_in_doubt",
        409,
        "Not in doubt",
        "Only a payout that is `unknown` is ended by hand; of any other the bank's own answer decides.",
        "Wait for the bank's file, or ask the bank.",
    ),
    Problem(
        "payout_file_waits",
        409,
        "Its file isn't carried off yet",
        "The file that asks the bank for the payout still waits in the folder: it could be paid after it was given"
        " back.",
        "An operator withdraws the file first: onebook bank withdraw FILE.",
    ),
    Problem(
        "payouts_halted",
        503,
        "Payouts are halted",
        "What was handed over isn't what this database knows, so a payout that is given back may have been paid: the"
        " database was put back from a backup, or the folder isn't its own.",
        "An operator compares the folder's records with the bank: docs/bank.md.",
    ),
    Problem(
        "personal_key_missing",
        500,
        "Personal data can't be opened",
        "The key file that opens it isn't there.",
        "An operator puts it back from its backup.",
        private=True,
    ),
    Problem("unknown_line", 404, "Unknown bank line", "No bank line has this id.", "Compare the id."),
)
