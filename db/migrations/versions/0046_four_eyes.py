"""Four eyes: more than adjustments are proposed to a second treasurer, and keys say whose they are."""

from alembic import op

revision = "0046_four_eyes"
down_revision = "0042_watching"

STATEMENTS = (
    "ALTER TABLE treasury_proposals ADD COLUMN kind text NOT NULL DEFAULT 'adjustment', ADD COLUMN terms jsonb",
    """
UPDATE treasury_proposals SET terms = jsonb_build_object(
    'source', source, 'target', target, 'asset', asset, 'amount', amount::text, 'evidence', evidence)
""",
    """
ALTER TABLE treasury_proposals
    ALTER COLUMN kind DROP DEFAULT, ALTER COLUMN terms SET NOT NULL,
    DROP CONSTRAINT ck_treasury_proposals_amount_positive,
    DROP COLUMN source, DROP COLUMN target, DROP COLUMN asset, DROP COLUMN amount, DROP COLUMN evidence,
    ADD CONSTRAINT ck_treasury_proposals_kind_known
        CHECK (kind IN ('adjustment', 'reversal', 'credit_line', 'period'))
""",
    "ALTER TABLE treasury_proposals RENAME COLUMN adjustment TO made",
    """
ALTER TABLE treasury_periods ADD COLUMN confirmed_by text,
    ADD CONSTRAINT ck_treasury_periods_four_eyes CHECK (confirmed_by <> closed_by)
""",
    """
ALTER TABLE identity_api_keys ADD COLUMN person text,
    ADD CONSTRAINT ck_identity_api_keys_person_form CHECK (person ~ '^[a-z][a-z0-9-]{1,31}$'),
    ADD CONSTRAINT ck_identity_api_keys_person_of_house CHECK (person IS NULL OR user_id IS NULL)
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
