"""What is wrong with what a treasurer does by hand: freezes, moves that need a second person, periods."""

from api.problem import Problem

ROWS = (
    Problem("freeze_unfit", 422, "Not to be frozen so", "See the detail.", "Compare GET /v1/treasury/freezes."),
    Problem(
        "freeze_lifted",
        409,
        "Lifted before",
        "Somebody else, or its own end, has lifted this freeze. Its target may stay frozen for another reason.",
        "GET /v1/treasury/freezes shows what stands.",
    ),
    Problem(
        "second_person_needed",
        422,
        "A second treasurer is needed",
        "`cap` is what one entry, or one of your days, may move by hand alone; of a day `used` was moved already."
        " Without a `cap`, nobody knows now what it's worth (`because`).",
        "POST the same to /v1/treasury/proposals, or its /reversals or /credit-lines: another treasurer confirms it"
        " there before anything is booked.",
    ),
    Problem(
        "proposal_closed",
        409,
        "Decided already",
        "The proposal was confirmed or withdrawn, or its time is over; `state` says which.",
        "GET /v1/treasury/proposals shows it. Propose again what is still wanted.",
    ),
    Problem(
        "same_person",
        403,
        "Two people are needed",
        "Who proposed something can't confirm it, with none of their keys.",
        "Ask another treasurer to confirm it with a key of their own, which names them as its person.",
    ),
    Problem(
        "period_unfit",
        422,
        "Not a period to close",
        "A period is a month (`2026-10`), a day (`2026-10-31`) or an instant; over by now, and behind what is closed.",
        "Compare GET /v1/treasury/periods.",
    ),
    Problem(
        "period_open_items",
        409,
        "Something stands open",
        "`open_items` lists what isn't settled in the period: its reconciliation, breaks, unmatched lines, statements.",
        "Settle it, or POST the same to /v1/treasury/proposals/periods: another treasurer confirms that it's closed all"
        " the same.",
    ),
    Problem(
        "report_period_unfit",
        422,
        "Not a period",
        "A report's period is a day (`2026-10-05`), a month (`2026-10`), a quarter (`2026-Q4`) or a year (`2026`), and"
        " has begun.",
        "Name another.",
    ),
    Problem(
        "period_open",
        409,
        "The period is open",
        "More may be booked in it until it's closed (`until`), so its figures aren't final.",
        "Close it, or ask without `closed_only` for a provisional report.",
    ),
    Problem("report_unfit", 422, "Not a report", "See the detail.", "Ask for another form, user or instant."),
)
