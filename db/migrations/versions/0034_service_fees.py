"""What a withdrawal costs beside the network's fee."""

from alembic import op

revision = "0034_service_fees"
down_revision = "0033_tiers"


def upgrade() -> None:
    op.execute("ALTER TABLE wallet_withdrawals ADD COLUMN service_fee amount NOT NULL DEFAULT 0")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
