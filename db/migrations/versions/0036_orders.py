"""Orders: a conversion with what follows it, or a top-up with its conversion."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0036_orders"
down_revision = "0034_service_fees"

STATEMENTS = (
    """
CREATE TABLE wallet_orders (
    book text NOT NULL, id text NOT NULL, owner text NOT NULL, kind text NOT NULL, state text NOT NULL,
    request text NOT NULL, sell text NOT NULL, buy text NOT NULL, amount amount NOT NULL, buy_at_least amount,
    conversion text, top_up text, waiting_for text, attempts integer NOT NULL DEFAULT 0, due_at timestamptz,
    revision integer NOT NULL DEFAULT 0, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_orders PRIMARY KEY (book, id),
    CONSTRAINT uq_wallet_orders_book_request UNIQUE (book, request),
    CONSTRAINT ck_wallet_orders_kind_known CHECK (kind IN ('transfer', 'withdrawal', 'payout', 'top_up')),
    CONSTRAINT ck_wallet_orders_state_known CHECK (
        state IN ('awaiting_top_up', 'converting', 'done', 'failed', 'cancelled')),
    CONSTRAINT ck_wallet_orders_top_up_of_top_ups CHECK ((kind = 'top_up') = (top_up IS NOT NULL)),
    CONSTRAINT ck_wallet_orders_converted_when_done CHECK (state <> 'done' OR conversion IS NOT NULL))
""",
    "CREATE INDEX ix_wallet_orders_owner ON wallet_orders (book, owner, id)",
    "CREATE INDEX ix_wallet_orders_due ON wallet_orders (book, due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX ix_wallet_orders_top_up ON wallet_orders (book, top_up) WHERE top_up IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("wallet_orders", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
