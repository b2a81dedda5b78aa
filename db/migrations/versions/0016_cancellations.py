"""Payments that a treasurer cancels after a nonce was reserved for them, and nonces that are given back unsigned."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0016_cancellations"
down_revision = "0015_orders"

STATEMENTS = (
    """
ALTER TABLE chain_transactions
    ADD COLUMN cancelling text,
    DROP CONSTRAINT ck_chain_transactions_state_known,
    ADD CONSTRAINT ck_chain_transactions_state_known
        CHECK (state IN ('reserved', 'signed', 'broadcast', 'mined', 'final', 'reverted', 'cancelled', 'refused',
            'given_back', 'needs_review')),
    DROP CONSTRAINT ck_chain_transactions_nonce_until_refused,
    ADD CONSTRAINT ck_chain_transactions_nonce_until_refused
        CHECK ((nonce IS NULL) = (state IN ('refused', 'given_back')))
""",
    "DROP INDEX uq_chain_transactions_subject",
    "CREATE UNIQUE INDEX uq_chain_transactions_subject ON chain_transactions (book, subject)"
    " WHERE state NOT IN ('refused', 'given_back')",
    "CREATE INDEX ix_chain_transactions_past ON chain_transactions (book, subject, created_at)",
    "ALTER TABLE wallet_withdrawals ADD COLUMN cancelling text",
    """
CREATE TABLE wallet_cancellations (
    book text NOT NULL,
    withdrawal text NOT NULL,
    key text NOT NULL,
    content bytea NOT NULL,
    asked_by text NOT NULL,
    reason text NOT NULL,
    asked_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_cancellations PRIMARY KEY (book, withdrawal),
    CONSTRAINT uq_wallet_cancellations_book_key UNIQUE (book, key),
    CONSTRAINT fk_wallet_cancellations_book_withdrawal_wallet_withdrawals
        FOREIGN KEY(book, withdrawal) REFERENCES wallet_withdrawals (book, id)
)
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("wallet_cancellations", "SELECT, INSERT, UPDATE")  # a rider locks the row that it looks for


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
