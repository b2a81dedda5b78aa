"""A settlement may be taken from our bank account: its amount is signed, and never nothing."""

from alembic import op

revision = "0030_signed_settlements"
down_revision = "0029_payout_memories"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE fiat_settlements ALTER COLUMN amount TYPE balance,"
        " ADD CONSTRAINT ck_fiat_settlements_amount_not_zero CHECK (amount <> 0)"
    )


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
