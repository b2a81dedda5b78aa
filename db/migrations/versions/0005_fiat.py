"""Bank statements, their lines, top-ups and payouts."""

revision = "0005_fiat"
down_revision = "0004_chain"


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
