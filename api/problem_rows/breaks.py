"""Breaks, and how they are resolved."""

from api.problem import Problem

ROWS = (
    Problem("unknown_break", 404, "Unknown break", "No break has this id.", "GET /v1/treasury/breaks lists them."),
    Problem(
        "unknown_resolution",
        404,
        "Unknown resolution",
        "No resolution has this id.",
        "GET /v1/treasury/breaks/{id} lists those of a break.",
    ),
    Problem(
        "resolution_unfit",
        422,
        "The break can't be resolved so",
        "An entry corrects an account that holds another amount outside than the book says, by at most the difference,"
        " against an account that may be moved by hand; a matter of time ends within a quarter.",
        "See the detail; docs/reconciliation.md says what is done for each kind.",
    ),
    Problem(
        "break_closed",
        409,
        "Not in this state",
        "The break is resolved, a proposal waits, or its entry awaits the next cycle.",
        "GET /v1/treasury/breaks/{id} tells its `state` and what was proposed.",
    ),
    Problem(
        "break_changed",
        409,
        "The difference is another",
        "It was proposed for the difference `proposed_for`; by now it's `difference`.",
        "Withdraw the proposal, look again, and propose for what it is now.",
    ),
    Problem(
        "resolution_closed",
        409,
        "The proposal doesn't wait any more",
        "It was confirmed or withdrawn, or a cycle no longer saw the difference; `state` says which.",
        "GET /v1/treasury/breaks/{id} tells what became of it.",
    ),
    Problem(
        "owner_unfit",
        422,
        "Nobody who could look after it",
        "A break is given to a key that may write for the treasury.",
        "GET /v1/api-keys lists keys and their scopes; `me` is your own.",
    ),
)
