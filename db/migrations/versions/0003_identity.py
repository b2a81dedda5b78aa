"""People, API keys and their scopes."""

revision = "0003_identity"
down_revision = "0002_ledger"


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
