"""Reconciliations, breaks and positions."""

revision = "0007_treasury"
down_revision = "0006_wallet"


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
