"""Whether this database knows all that was signed for it: after it was put back from a backup it may not."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0021_restores"
down_revision = "0020_batches"

STATEMENTS = (
    """
CREATE TABLE chain_restores (
    only_row boolean DEFAULT true NOT NULL,
    incarnation text NOT NULL,
    sequence bigint,
    head bytea,
    missing text,
    missing_since timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_restores PRIMARY KEY (only_row),
    CONSTRAINT ck_chain_restores_only_row CHECK (only_row),
    CONSTRAINT ck_chain_restores_head_of_sequence CHECK ((sequence IS NULL) = (head IS NULL)),
    CONSTRAINT ck_chain_restores_missing_since CHECK ((missing IS NULL) = (missing_since IS NULL))
)
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("chain_restores", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
