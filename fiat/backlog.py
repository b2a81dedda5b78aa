"""What of fiat's movements waits, for a bank, a provider, the worker or a person."""

from sqlalchemy import text

from db.queues import Queue
from fiat.rails.tables import disputes, refunds, settlements, webhooks
from fiat.tables import lines, payouts, top_ups

QUEUES = (
    Queue(
        "payouts",
        payouts.c.book,
        payouts.c.created_at,
        text("state IN ('requested', 'submitting', 'submitted', 'unknown')"),
        payouts.c.rail,
        payouts.c.state,
    ),
    Queue("top_ups", top_ups.c.book, top_ups.c.created_at, text("due_at IS NOT NULL"), top_ups.c.rail, top_ups.c.state),
    Queue("refunds", refunds.c.book, refunds.c.created_at, text("due_at IS NOT NULL"), refunds.c.rail, refunds.c.state),
    Queue("webhooks", webhooks.c.book, webhooks.c.received_at, text("due_at IS NOT NULL"), webhooks.c.rail),
    Queue("dead_webhooks", webhooks.c.book, webhooks.c.received_at, text("state = 'dead'"), webhooks.c.rail),
    Queue(
        "disputes",
        disputes.c.book,
        disputes.c.opened_at,
        text("state IN ('inquiry', 'open', 'under_review')"),
        disputes.c.rail,
        disputes.c.state,
    ),
    Queue("settlements", settlements.c.book, settlements.c.created_at, text("state = 'sent'"), settlements.c.rail),
    Queue("suspended_lines", lines.c.book, lines.c.recorded_at, text("state = 'suspended'"), lines.c.account),
)
