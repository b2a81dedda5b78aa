"""A settlement may be taken from our bank account: its amount is signed. Bank lines are found by their day."""

from alembic import op

revision = "0030_signed_settlements"
down_revision = "0029_payout_memories"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE fiat_settlements ALTER COLUMN amount TYPE balance,"
        " ADD CONSTRAINT ck_fiat_settlements_amount_not_zero CHECK (amount <> 0)"
    )
    op.execute("CREATE INDEX ix_fiat_bank_lines_day ON fiat_bank_lines (book, account, booked_on)")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
