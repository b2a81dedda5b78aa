"""Domains for money, the function that keeps rows as they were written, and who may do what in the schema."""

from alembic import op

from db.errors import APPEND_ONLY_STATE
from db.migrations.ops import APP_ROLE, app_role_exists, grant_app

revision = "0001_domains"
down_revision = None


def upgrade() -> None:
    op.execute(
        "CREATE DOMAIN amount AS numeric CONSTRAINT whole_and_bounded"
        f" CHECK (VALUE >= 0 AND VALUE < {2**256} AND scale(VALUE) = 0)"
    )
    op.execute(
        "CREATE DOMAIN balance AS numeric CONSTRAINT whole_and_bounded"
        f" CHECK (VALUE > {-(2**257)} AND VALUE < {2**257} AND scale(VALUE) = 0)"
    )
    op.execute(
        f"""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% refused: the rows of % are never changed', TG_OP, TG_TABLE_NAME
                USING ERRCODE = '{APPEND_ONLY_STATE}', TABLE = TG_TABLE_NAME;
        END $$
        """
    )
    op.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if app_role_exists():
        op.execute(f"GRANT USAGE ON SCHEMA public TO {APP_ROLE}")
        grant_app("alembic_version", "SELECT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
