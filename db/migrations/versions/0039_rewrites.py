"""A count of rewritten lines: updated or deleted by whomever, past the triggers that refuse it.

The trigger fires also for who has switched triggers off for a session, and a sequence keeps its count though the tx be
rolled back. Reconciling looks at all lines when the count has changed.
"""

from alembic import op

from db.migrations.ops import grant_app

revision = "0039_rewrites"
down_revision = "0037_top_up_holds"

STATEMENTS = (
    "CREATE SEQUENCE treasury_rewrites",
    """
CREATE FUNCTION treasury_note_rewrite() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM nextval('treasury_rewrites');
    RETURN NULL;
END $$
""",
    "REVOKE ALL ON FUNCTION treasury_note_rewrite() FROM PUBLIC",
    "CREATE TRIGGER note_rewrite AFTER UPDATE OR DELETE ON ledger_lines"
    " FOR EACH ROW EXECUTE FUNCTION treasury_note_rewrite()",
    "ALTER TABLE ledger_lines ENABLE ALWAYS TRIGGER note_rewrite",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("treasury_rewrites", "SELECT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
