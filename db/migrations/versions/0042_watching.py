"""Indexes of what waits for a person, for those who only count it."""

from alembic import op

revision = "0042_watching"
down_revision = "0041_solvency"

STATEMENTS = (
    "CREATE INDEX ix_chain_transactions_review ON chain_transactions (book, id) WHERE state = 'needs_review'",
    "CREATE INDEX ix_treasury_approvals_open ON treasury_approvals (book, id) WHERE state = 'open'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
