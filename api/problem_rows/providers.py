"""What can be wrong with payment providers."""

from api.problem import Problem

ROWS = (
    Problem(
        "declined",
        402,
        "Declined",
        "The provider or the payer's bank said no. `reason_code` is its word for why.",
        "Use another method, or ask the bank that issued the card.",
    ),
    Problem(
        "unknown_rail",
        404,
        "Unknown rail",
        "No payment provider of this name is configured here. The detail lists those that are.",
        "Use one of them; an operator adds others in onebook.toml.",
    ),
    Problem(
        "rail_not_capable",
        422,
        "The rail doesn't do that",
        "Not every provider can do everything, and this one doesn't declare this `capability`.",
        "Use another rail for it.",
    ),
    Problem(
        "amount_not_payable",
        422,
        "Amount not payable",
        "The provider doesn't take this currency, or less or more of it in one payment, or fewer decimals; amounts are"
        " never rounded. Nothing was kept.",
        "Send an amount from `minimum` to `maximum` with at most `decimals` decimals, or use another rail.",
    ),
    Problem(
        "webhook_refused",
        400,
        "Webhook refused",
        "It isn't the provider's, or was signed too long ago or ahead of time: `reason` says which. Nothing was kept.",
        "Operators: compare the rail's webhook secret with the provider's pages, and this machine's clock.",
    ),
    Problem(
        "webhook_done",
        409,
        "Webhook done",
        "Its effect has come already.",
        "Nothing is left to do. GET /v1/treasury/webhooks?state=dead lists those that wait for a person.",
    ),
    Problem(
        "not_refundable",
        409,
        "Not refundable",
        "Only what was credited over a payment provider, and wasn't given back already, can be refunded there.",
        "GET /v1/top-ups/{id} shows `captured` and `refunded`. Bank transfers are paid out instead.",
    ),
    Problem(
        "refund_overtaken",
        409,
        "Another refund was faster",
        "Two refunds of one top-up came together, and the other one went first.",
        "Look at what is left of it, then send this one with a new Idempotency-Key.",
    ),
    Problem(
        "top_up_not_in_state",
        409,
        "Not possible any more",
        "The top-up has gone on, or ended; `state` says where it stands.",
        "GET /v1/top-ups/{id} shows it. What was credited can be refunded.",
    ),
    Problem(
        "above_authorised",
        422,
        "More than was authorised",
        "Only the authorised amount or a part of it can be captured.",
        "Send at most the top-up's amount.",
    ),
    Problem(
        "settlement_not_matching",
        409,
        "Not this settlement's money",
        "A settlement is matched to one line in suspense, money in, of exactly its amount.",
        "GET /v1/treasury/settlements/{id} lists the lines that may be it.",
    ),
    Problem(
        "settlement_fits",
        409,
        "Nothing to accept",
        "Everything in this settlement fits the book, or its entries weren't read yet.",
        "GET /v1/treasury/settlements/{id} shows what is in it.",
    ),
    Problem(
        "rail_effect_unknown",
        503,
        "The provider didn't answer",
        "It may have done what was asked or not; it's asked what became of it, and nothing is done twice.",
        "Look again later; repeat with the same Idempotency-Key.",
    ),
    Problem(
        "rail_rate_limited",
        503,
        "The provider asks us to wait",
        "It gets more requests from here than it takes.",
        "Repeat later with the same Idempotency-Key.",
    ),
    Problem(
        "approval_unfit",
        422,
        "Not fit for approval",
        "The intent can't be meant, the policy has nobody to approve it, or its maker hasn't signed it. `param` names"
        " the field.",
        "Make the request with `onebook approver request`.",
    ),
    Problem(
        "approval_closed",
        409,
        "Not open any more",
        "It has expired, was used, or was withdrawn: `state` says which.",
        "Ask for approval anew.",
    ),
    Problem(
        "signature_refused",
        422,
        "The signature doesn't count",
        "It isn't by one of the policy's people, it's by the maker, or it isn't over the statement.",
        "Sign the bytes of `statement` with an enrolled key: `onebook approve`.",
    ),
    Problem("unknown_approval", 404, "Unknown approval", "No request has this id.", "GET /v1/treasury/approvals."),
)
