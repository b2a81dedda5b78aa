"""Withdrawals to users here, settled in the book; warnings accepted; how known addresses look, to tell imitations."""

from alembic import op

revision = "0017_recipients"
down_revision = "0016_cancellations"

STATEMENTS = (
    """
ALTER TABLE wallet_withdrawals
    ADD COLUMN recipient text,
    ADD COLUMN accepted text DEFAULT '' NOT NULL,
    ADD CONSTRAINT ck_wallet_withdrawals_internal_at_once
        CHECK (recipient IS NULL OR (state = 'final' AND tx_hash IS NULL))
""",
    "CREATE INDEX ix_wallet_withdrawals_likeness"
    ' ON wallet_withdrawals (book, owner, "left"(address, 6), "right"(address, 4))',
    'CREATE INDEX ix_wallet_deposits_likeness ON wallet_deposits (book, owner, "left"(sender, 6), "right"(sender, 4))',
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
