"""What revisions share: append-only tables, and rights for the service's role where there is one.

A database given by URL may know a single role that owns and uses everything; rights are then left alone.
"""

from alembic import op
from sqlalchemy import text

APP_ROLE = "onebook_app"
"""The login role of the running service. It owns nothing; `db.server` makes it, or the operator does."""


def append_only(table: str) -> None:
    """Refuse every UPDATE, DELETE and TRUNCATE on `table`, for every role.

    Row triggers reach the partitions of a partitioned table by themselves; the TRUNCATE trigger doesn't, so call this
    for each partition that is made as well (there it adds only what is missing).
    """
    op.execute(
        f"CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    if not _is_partition(table):
        op.execute(
            f"CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )


def grant_app(table: str, rights: str) -> None:
    """Give the service's role `rights` ("SELECT, INSERT") on `table`, and use of its own sequences with INSERT."""
    if not app_role_exists():
        return
    op.execute(f"GRANT {rights} ON {table} TO {APP_ROLE}")
    if "INSERT" in rights.upper():
        for sequence in _sequences_of(table):
            op.execute(f"GRANT USAGE ON SEQUENCE {sequence} TO {APP_ROLE}")


def grant_app_execute(function: str) -> None:
    """Let the service's role, and no other but the owner, call `function`, given with its argument types."""
    op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    if app_role_exists():
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP_ROLE}")


def app_role_exists() -> bool:
    """Whether this server knows the service's role."""
    found = op.get_bind().execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": APP_ROLE})
    return found.first() is not None


def _is_partition(table: str) -> bool:
    asked = text("SELECT relispartition FROM pg_class WHERE oid = CAST(:name AS text)::regclass")
    return bool(op.get_bind().execute(asked, {"name": table}).scalar_one())


def _sequences_of(table: str) -> list[str]:
    asked = text(
        "SELECT s.oid::regclass::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
        " WHERE d.refobjid = CAST(:name AS text)::regclass"
    )
    return list(op.get_bind().execute(asked, {"name": table}).scalars())
