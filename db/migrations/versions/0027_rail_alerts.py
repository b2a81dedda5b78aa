"""What alerts about rails are read by, and a treasurer's acceptance of what a settlement doesn't explain."""

from alembic import op

revision = "0027_rail_alerts"
down_revision = "0026_provider_payouts"

STATEMENTS = (
    """
ALTER TABLE fiat_settlements
    ADD COLUMN accepted_at timestamptz,
    ADD COLUMN accepted_by text,
    ADD COLUMN accepted_reason text,
    ADD CONSTRAINT ck_fiat_settlements_accepted_whole CHECK (
        (accepted_at IS NULL) = (accepted_by IS NULL) AND (accepted_at IS NULL) = (accepted_reason IS NULL))
""",
    "CREATE INDEX ix_fiat_webhooks_dead ON fiat_webhooks (book, id) WHERE state = 'dead'",
    "CREATE INDEX ix_fiat_settlements_sent ON fiat_settlements (book, rail, arrives_on) WHERE state = 'sent'",
    "CREATE INDEX ix_fiat_settlements_differing ON fiat_settlements (book, id)"
    " WHERE accepted_at IS NULL AND (differences > 0 OR unexplained <> 0)",
    "CREATE INDEX ix_fiat_payouts_unknown ON fiat_payouts (book, account) WHERE state = 'unknown'",
    "CREATE INDEX ix_fiat_bank_lines_suspended ON fiat_bank_lines (book, asset, amount) WHERE state = 'suspended'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
