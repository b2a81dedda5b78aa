"""Batches of withdrawals in one transaction, their legs, who is paid alone; gas of what the house does for itself."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0020_batches"
down_revision = "0019_sweeps"

STATEMENTS = (
    """
CREATE TABLE wallet_batches (
    book text NOT NULL,
    id text NOT NULL,
    network text NOT NULL,
    asset text NOT NULL,
    contract text,
    via text NOT NULL,
    state text NOT NULL,
    outcome text,
    amount amount NOT NULL,
    cost_wei amount,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_batches PRIMARY KEY (book, id),
    CONSTRAINT ck_wallet_batches_state_known CHECK (state IN ('open', 'booked', 'ended')),
    CONSTRAINT ck_wallet_batches_outcome_known
        CHECK (outcome IN ('final', 'reverted', 'cancelled', 'refused', 'needs_review', 'lost')),
    CONSTRAINT ck_wallet_batches_outcome_told CHECK ((outcome IS NULL) = (state = 'open'))
)
""",
    "CREATE INDEX ix_wallet_batches_open ON wallet_batches (book, network, id) WHERE state <> 'ended'",
    """
CREATE TABLE wallet_batch_legs (
    book text NOT NULL,
    batch text NOT NULL,
    position smallint NOT NULL,
    withdrawal text NOT NULL,
    result text NOT NULL,
    CONSTRAINT pk_wallet_batch_legs PRIMARY KEY (book, batch, position),
    CONSTRAINT fk_wallet_batch_legs_batch FOREIGN KEY(book, batch) REFERENCES wallet_batches (book, id),
    CONSTRAINT fk_wallet_batch_legs_withdrawal
        FOREIGN KEY(book, withdrawal) REFERENCES wallet_withdrawals (book, id),
    CONSTRAINT ck_wallet_batch_legs_result_known
        CHECK (result IN ('open', 'paid', 'failed', 'unclear', 'released', 'given_back', 'lost'))
)
""",
    "CREATE UNIQUE INDEX uq_wallet_batch_legs_withdrawal ON wallet_batch_legs (book, withdrawal)"
    " WHERE result <> 'given_back'",
    """
CREATE TABLE wallet_paid_alone (
    book text NOT NULL,
    withdrawal text NOT NULL,
    reason text NOT NULL,
    decided_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_paid_alone PRIMARY KEY (book, withdrawal),
    CONSTRAINT fk_wallet_paid_alone_withdrawal
        FOREIGN KEY(book, withdrawal) REFERENCES wallet_withdrawals (book, id)
)
""",
    """
CREATE TABLE wallet_own_gas (
    book text NOT NULL,
    transaction_id text NOT NULL,
    kind text NOT NULL,
    network text NOT NULL,
    fee_wei amount NOT NULL,
    booked_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_own_gas PRIMARY KEY (book, transaction_id)
)
""",
    "CREATE INDEX ix_wallet_withdrawals_approved ON wallet_withdrawals (book, network, asset, id)"
    " WHERE state = 'approved'",
    "CREATE INDEX ix_chain_transactions_for_the_house ON chain_transactions (book, id)"
    " WHERE kind IN ('allowance', 'deployment')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("wallet_batches", "SELECT, INSERT, UPDATE")
    grant_app("wallet_batch_legs", "SELECT, INSERT, UPDATE")
    grant_app("wallet_paid_alone", "SELECT, INSERT")
    grant_app("wallet_own_gas", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
