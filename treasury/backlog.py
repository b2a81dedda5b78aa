"""What of the house's own acts waits, for the chain or for a person."""

from sqlalchemy import func

from db.queues import Queue
from treasury.operations.tables import proposals
from treasury.tables import approvals, break_resolutions, outflows, refills, solvency_epochs, sweeps

QUEUES = (
    Queue(
        "sweeps",
        sweeps.c.book,
        sweeps.c.created_at,
        sweeps.c.state.not_in(["final", "dropped"]),
        sweeps.c.network,
        sweeps.c.state,
    ),
    Queue("refills", refills.c.book, refills.c.created_at, refills.c.state.in_(["open", "arrived"]), refills.c.network),
    Queue(
        "approvals",
        approvals.c.book,
        approvals.c.created_at,
        (approvals.c.state == "open") & (approvals.c.not_after > func.now()),
    ),
    Queue(
        "proposals",
        proposals.c.book,
        proposals.c.created_at,
        (proposals.c.state == "open") & (proposals.c.expires_at > func.now()),
    ),
    Queue(
        "break_resolutions",
        break_resolutions.c.book,
        break_resolutions.c.proposed_at,
        break_resolutions.c.state == "proposed",
    ),
    Queue(
        "unaccounted_outflows",
        outflows.c.book,
        outflows.c.booked_at,
        (outflows.c.state == "booked") & outflows.c.accounted_by.is_(None),
        outflows.c.network,
    ),
    Queue(
        "epochs",
        solvency_epochs.c.book,
        solvency_epochs.c.made_at,
        solvency_epochs.c.controls_at.is_(None) | solvency_epochs.c.seal.is_(None),
    ),
)
