"""Payouts over providers: what the provider calls each, what it charged for it, and when it's looked at again."""

from alembic import op

revision = "0026_provider_payouts"
down_revision = "0025_rails"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE fiat_payouts ADD COLUMN source text, ADD COLUMN rail_fee amount NOT NULL DEFAULT 0,"
        " ADD COLUMN due_at timestamptz"
    )
    op.execute("CREATE INDEX ix_fiat_payouts_due ON fiat_payouts (book, due_at) WHERE due_at IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
