"""What of fiat's movements waits, for a bank, a provider, the worker or a person."""

from db.queues import Queue
from fiat.rails.tables import disputes, refunds, settlements, webhooks
from fiat.tables import lines, payouts, top_ups

QUEUES = (
    Queue(
        "payouts",
        payouts.c.book,
        payouts.c.created_at,
        payouts.c.state.in_(["requested", "submitting", "submitted", "unknown"]),
        payouts.c.rail,
        payouts.c.state,
    ),
    Queue(
        "top_ups", top_ups.c.book, top_ups.c.created_at, top_ups.c.due_at.is_not(None), top_ups.c.rail, top_ups.c.state
    ),
    Queue(
        "refunds", refunds.c.book, refunds.c.created_at, refunds.c.due_at.is_not(None), refunds.c.rail, refunds.c.state
    ),
    Queue("webhooks", webhooks.c.book, webhooks.c.received_at, webhooks.c.due_at.is_not(None), webhooks.c.rail),
    Queue("dead_webhooks", webhooks.c.book, webhooks.c.received_at, webhooks.c.state == "dead", webhooks.c.rail),
    Queue(
        "disputes",
        disputes.c.book,
        disputes.c.opened_at,
        disputes.c.state.in_(["inquiry", "open", "under_review"]),
        disputes.c.rail,
        disputes.c.state,
    ),
    Queue(
        "settlements", settlements.c.book, settlements.c.created_at, settlements.c.state == "sent", settlements.c.rail
    ),
    Queue("suspended_lines", lines.c.book, lines.c.recorded_at, lines.c.state == "suspended", lines.c.account),
)
