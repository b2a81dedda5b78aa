"""Saved payment methods sealed, and what finds webhooks' bodies that are to go."""

from alembic import op

revision = "0028_sealed_rails"
down_revision = "0027_rail_alerts"

STATEMENTS = (
    """
ALTER TABLE fiat_payment_methods
    ADD COLUMN personal bytea,
    ALTER COLUMN token DROP NOT NULL,
    ADD CONSTRAINT ck_fiat_payment_methods_sealed_or_old CHECK (
        (personal IS NULL) = (token IS NOT NULL) AND (personal IS NULL OR (customer IS NULL AND last4 IS NULL)))
""",
    "CREATE INDEX ix_fiat_payment_methods_in_clear ON fiat_payment_methods (book, id) WHERE personal IS NULL",
    "CREATE INDEX ix_fiat_webhooks_bodies ON fiat_webhooks (book, received_at) WHERE body_sealed IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
