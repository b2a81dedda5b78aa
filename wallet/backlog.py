"""What of users' movements waits, for the chain, for the worker or for a person."""

from sqlalchemy import text

from db.queues import Queue
from wallet.tables import deposits, orders, withdrawals

QUEUES = (
    Queue(
        "withdrawals",
        withdrawals.c.book,
        withdrawals.c.created_at,
        text("state NOT IN ('final', 'rejected', 'cancelled', 'reverted')"),
        withdrawals.c.network,
        withdrawals.c.state,
    ),
    Queue(
        "deposits",
        deposits.c.book,
        deposits.c.seen_at,
        text("state IN ('pending', 'credited')"),
        deposits.c.network,
        deposits.c.state,
    ),
    Queue(
        "deposit_reviews",
        deposits.c.book,
        deposits.c.seen_at,
        text("state IN ('under_review', 'quarantined', 'surplus', 'sender_listed')"),
        deposits.c.network,
        deposits.c.state,
    ),
    Queue("orders", orders.c.book, orders.c.created_at, text("due_at IS NOT NULL"), None, orders.c.state),
)
