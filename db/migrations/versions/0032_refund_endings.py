"""What two treasurers say became of a refund that stays unknown; disputes over several top-ups."""

from alembic import op

revision = "0032_refund_endings"
down_revision = "0031_forgotten_tokens"

STATEMENTS = (
    """
ALTER TABLE fiat_refunds
    ADD COLUMN ending text,
    ADD COLUMN ending_evidence text,
    ADD COLUMN ending_reason text,
    ADD COLUMN ending_by text,
    ADD COLUMN ending_at timestamptz,
    ADD COLUMN agreed_by text,
    ADD COLUMN agreed_reason text,
    ADD CONSTRAINT ck_fiat_refunds_ending_known CHECK (ending IN ('succeeded', 'failed')),
    ADD CONSTRAINT ck_fiat_refunds_ending_whole CHECK (
        num_nonnulls(ending, ending_evidence, ending_reason, ending_by, ending_at) IN (0, 5)),
    ADD CONSTRAINT ck_fiat_refunds_agreed_by_another CHECK (
        (agreed_by IS NULL) = (agreed_reason IS NULL)
        AND (agreed_by IS NULL OR (ending_by IS NOT NULL AND agreed_by <> ending_by)))
""",
    "CREATE INDEX ix_fiat_refunds_unknown ON fiat_refunds (book, id DESC) WHERE state = 'unknown'",
    # One dispute may be over several top-ups.
    """
ALTER TABLE fiat_disputes
    DROP CONSTRAINT uq_fiat_disputes_book_rail_source,
    ADD CONSTRAINT uq_fiat_disputes_book_rail_source_top_up UNIQUE (book, rail, source, top_up)
""",
    "CREATE INDEX ix_fiat_disputes_top_up ON fiat_disputes (book, top_up)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
