"""Addresses derived ahead of need, indexes reserved from the signer's journal, addresses that aren't the signer's."""

from alembic import op

from db.migrations.ops import APP_ROLE, app_role_exists, grant_app

revision = "0009_address_pool"
down_revision = "0008_seals"

STATEMENTS = (
    "ALTER TABLE chain_addresses ADD COLUMN checked_at timestamptz",
    "CREATE INDEX ix_chain_addresses_unchecked ON chain_addresses (family, role, key_index) WHERE checked_at IS NULL",
    "ALTER TABLE chain_address_counters ALTER COLUMN next_index TYPE bigint, ADD COLUMN reserved_until bigint",
    """
CREATE TABLE chain_address_pool (
    family text NOT NULL,
    role text NOT NULL,
    key_index integer NOT NULL,
    address text NOT NULL,
    derived_at timestamptz NOT NULL,
    checked_at timestamptz,
    CONSTRAINT pk_chain_address_pool PRIMARY KEY (family, role, key_index),
    CONSTRAINT uq_chain_address_pool_family_address UNIQUE (family, address)
)
""",
    """
CREATE TABLE chain_address_findings (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    family text NOT NULL,
    role text NOT NULL,
    key_index integer NOT NULL,
    derived text,
    found text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    cleared_at timestamptz,
    CONSTRAINT pk_chain_address_findings PRIMARY KEY (seq)
)
""",
    "CREATE UNIQUE INDEX uq_chain_address_findings_open ON chain_address_findings (family, role, key_index)"
    " WHERE cleared_at IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("chain_address_pool", "SELECT, INSERT, DELETE")
    grant_app("chain_address_findings", "SELECT, INSERT, UPDATE")
    if app_role_exists():  # what is issued stays as it was issued, whoever has the service's password
        op.execute(f"REVOKE UPDATE ON chain_addresses FROM {APP_ROLE}")
        for table in ("chain_addresses", "chain_address_pool"):
            op.execute(f"GRANT UPDATE (checked_at) ON {table} TO {APP_ROLE}")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
