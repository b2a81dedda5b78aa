"""Quotes, conversions, deposits and withdrawals of users."""

revision = "0006_wallet"
down_revision = "0005_fiat"


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
