"""By which memory outside of the database it is told that this database was put back from a backup."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0029_payout_memories"
down_revision = "0028_sealed_rails"


def upgrade() -> None:
    op.execute(
        """
CREATE TABLE fiat_payout_memories (
    book text NOT NULL,
    rail text NOT NULL,
    identity text NOT NULL,
    through timestamptz,
    since timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_payout_memories PRIMARY KEY (book, rail)
)
"""
    )
    grant_app("fiat_payout_memories", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
