"""What becomes of a break: its state, owner, causes and history, and how two treasurers resolve it."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0040_breaks"
down_revision = "0038_reconciling"

STATEMENTS = (
    """
ALTER TABLE treasury_breaks
    ADD COLUMN state text NOT NULL DEFAULT 'open',
    ADD COLUMN owner text,
    ADD COLUMN causes jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN explained_at timestamptz,
    ADD COLUMN accepted_until timestamptz,
    ADD COLUMN revision integer NOT NULL DEFAULT 0
""",
    "UPDATE treasury_breaks SET state = 'resolved' WHERE resolved_at IS NOT NULL",
    """
ALTER TABLE treasury_breaks
    ADD CONSTRAINT ck_treasury_breaks_state_known CHECK (
        state IN ('open', 'proposed', 'awaiting_cycle', 'accepted', 'resolved')),
    ADD CONSTRAINT ck_treasury_breaks_resolved_when CHECK ((state = 'resolved') = (resolved_at IS NOT NULL)),
    ADD CONSTRAINT ck_treasury_breaks_explained_when CHECK (
        (state IN ('awaiting_cycle', 'accepted')) = (explained_at IS NOT NULL)),
    ADD CONSTRAINT ck_treasury_breaks_accepted_until CHECK ((state = 'accepted') = (accepted_until IS NOT NULL))
""",
    "CREATE INDEX ix_treasury_breaks_standing ON treasury_breaks (book, id) WHERE resolved_at IS NULL",
    "ALTER TABLE treasury_reconciliations ADD COLUMN explained integer NOT NULL DEFAULT 0",
    """
CREATE TABLE treasury_break_resolutions (
    book text NOT NULL, id text NOT NULL, break_id text NOT NULL, kind text NOT NULL, state text NOT NULL,
    expected balance NOT NULL, found balance NOT NULL, against text, amount amount, until timestamptz,
    reason text NOT NULL, proposed_by text NOT NULL, proposed_at timestamptz NOT NULL,
    decided_by text, decided_at timestamptz, entry text,
    CONSTRAINT pk_treasury_break_resolutions PRIMARY KEY (book, id),
    CONSTRAINT fk_treasury_break_resolutions_book_treasury_breaks
        FOREIGN KEY (book, break_id) REFERENCES treasury_breaks (book, id),
    CONSTRAINT ck_treasury_break_resolutions_kind_known CHECK (kind IN ('entry', 'acceptance')),
    CONSTRAINT ck_treasury_break_resolutions_state_known CHECK (
        state IN ('proposed', 'confirmed', 'withdrawn', 'overtaken')),
    CONSTRAINT ck_treasury_break_resolutions_of_its_kind CHECK (
        num_nonnulls(against, amount) = CASE kind WHEN 'entry' THEN 2 ELSE 0 END
        AND (until IS NOT NULL) = (kind = 'acceptance')),
    CONSTRAINT ck_treasury_break_resolutions_amount_positive CHECK (amount > 0),
    CONSTRAINT ck_treasury_break_resolutions_decided_when CHECK (
        (state = 'proposed') = (decided_at IS NULL)
        AND (decided_by IS NOT NULL) = (state IN ('confirmed', 'withdrawn'))),
    CONSTRAINT ck_treasury_break_resolutions_confirmed_by_another CHECK (
        state <> 'confirmed' OR decided_by <> proposed_by),
    CONSTRAINT ck_treasury_break_resolutions_posted_by_its_entry CHECK (
        (entry IS NOT NULL) = (kind = 'entry' AND state = 'confirmed')))
""",
    """
CREATE UNIQUE INDEX uq_treasury_break_resolutions_open ON treasury_break_resolutions (book, break_id)
    WHERE state = 'proposed'
""",
    "CREATE INDEX ix_treasury_break_resolutions_break ON treasury_break_resolutions (book, break_id, id)",
    """
CREATE TABLE treasury_break_history (
    book text NOT NULL, break_id text NOT NULL, number integer NOT NULL, at timestamptz NOT NULL, by text,
    kind text NOT NULL, words text NOT NULL,
    CONSTRAINT pk_treasury_break_history PRIMARY KEY (book, break_id, number),
    CONSTRAINT fk_treasury_break_history_book_treasury_breaks
        FOREIGN KEY (book, break_id) REFERENCES treasury_breaks (book, id))
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("treasury_break_resolutions", "SELECT, INSERT, UPDATE")
    append_only("treasury_break_history")
    grant_app("treasury_break_history", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
