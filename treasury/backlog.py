"""What of the house's own acts waits, for the chain or for a person."""

from sqlalchemy import text

from db.queues import Queue
from treasury.operations.tables import proposals
from treasury.tables import approvals, break_resolutions, outflows, refills, solvency_epochs, sweeps

QUEUES = (
    Queue(
        "sweeps",
        sweeps.c.book,
        sweeps.c.created_at,
        text("state NOT IN ('final', 'dropped')"),
        sweeps.c.network,
        sweeps.c.state,
    ),
    Queue("refills", refills.c.book, refills.c.created_at, text("state IN ('open', 'arrived')"), refills.c.network),
    Queue(
        "approvals",
        approvals.c.book,
        approvals.c.created_at,
        text("state = 'open' AND not_after > now()"),
    ),
    Queue(
        "proposals",
        proposals.c.book,
        proposals.c.created_at,
        text("state = 'open' AND expires_at > now()"),
    ),
    Queue(
        "break_resolutions",
        break_resolutions.c.book,
        break_resolutions.c.proposed_at,
        text("state = 'proposed'"),
    ),
    Queue(
        "unaccounted_outflows",
        outflows.c.book,
        outflows.c.booked_at,
        text("state = 'booked' AND accounted_by IS NULL"),
        outflows.c.network,
    ),
    Queue(
        "epochs",
        solvency_epochs.c.book,
        solvency_epochs.c.made_at,
        text("(controls_at IS NULL OR seal IS NULL)"),
    ),
)
