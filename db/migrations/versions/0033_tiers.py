"""Who was put into which tier of the tariff, by whom and why."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0033_tiers"
down_revision = "0032_refund_endings"

TABLES = """
CREATE TABLE tariff_tier_changes (
    book text NOT NULL,
    owner text NOT NULL,
    number integer NOT NULL,
    from_tier text NOT NULL,
    to_tier text NOT NULL,
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT pk_tariff_tier_changes PRIMARY KEY (book, owner, number),
    CONSTRAINT ck_tariff_tier_changes_number_from_one CHECK (number > 0),
    CONSTRAINT ck_tariff_tier_changes_something_changed CHECK (from_tier <> to_tier),
    CONSTRAINT ck_tariff_tier_changes_reason_given CHECK (reason <> '')
)
"""


def upgrade() -> None:
    op.execute(TABLES)
    append_only("tariff_tier_changes")
    grant_app("tariff_tier_changes", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
