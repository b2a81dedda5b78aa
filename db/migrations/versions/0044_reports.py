"""Reports of the past: which command closed a period, and what each break was like when it was seen."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0044_reports"
down_revision = "0039_rewrites"

STATEMENTS = (
    "CREATE INDEX ix_ledger_commands_closings ON ledger_commands (book, seq) WHERE kind = 'close_period'",
    """
CREATE TABLE treasury_break_sightings (
    book text NOT NULL, break_id text NOT NULL, run text NOT NULL, seen_at timestamptz NOT NULL,
    expected balance NOT NULL, found balance NOT NULL,
    CONSTRAINT pk_treasury_break_sightings PRIMARY KEY (book, break_id, run),
    CONSTRAINT fk_treasury_break_sightings_book_treasury_breaks
        FOREIGN KEY (book, break_id) REFERENCES treasury_breaks (book, id))
""",
    # Of breaks from before nobody knows what they were first: they are what they were seen as last.
    """
INSERT INTO treasury_break_sightings (book, break_id, run, seen_at, expected, found)
SELECT book, id, first_run, first_seen_at, expected, found FROM treasury_breaks
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    append_only("treasury_break_sightings")
    grant_app("treasury_break_sightings", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
