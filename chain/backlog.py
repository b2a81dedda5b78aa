"""What of own transactions isn't final yet."""

from sqlalchemy import text

from chain.tables import transactions
from db.queues import Queue

QUEUES = (
    Queue(
        "own_transactions",
        transactions.c.book,
        transactions.c.created_at,
        text("state IN ('reserved', 'signed', 'broadcast', 'mined')"),
        transactions.c.network,
        transactions.c.state,
    ),
    Queue(
        "own_transaction_reviews",
        transactions.c.book,
        transactions.c.created_at,
        text("state = 'needs_review'"),
        transactions.c.network,
    ),
)
