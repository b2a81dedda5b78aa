"""Keys have generations: own addresses, their pool, counters and findings, and transactions name theirs."""

from alembic import op

revision = "0011_generations"
down_revision = "0010_approvals"

COLUMNS = (
    ("chain_addresses", "generation"),
    ("chain_address_counters", "generation"),
    ("chain_address_pool", "generation"),
    ("chain_address_findings", "generation"),
    ("chain_transactions", "sender_generation"),
)

STATEMENTS = (
    *(f"ALTER TABLE {table} ADD COLUMN {column} smallint NOT NULL DEFAULT 1" for table, column in COLUMNS),
    *(f"ALTER TABLE {table} ALTER COLUMN {column} DROP DEFAULT" for table, column in COLUMNS),
    "ALTER TABLE chain_transactions ADD COLUMN recipient_generation smallint",
    "UPDATE chain_transactions SET recipient_generation = 1 WHERE recipient_role IS NOT NULL",
    "ALTER TABLE chain_addresses DROP CONSTRAINT uq_chain_addresses_family_role_key_index,"
    " ADD CONSTRAINT uq_chain_addresses_family_role_generation_key_index"
    " UNIQUE (family, role, generation, key_index)",
    "DROP INDEX ix_chain_addresses_unchecked",
    "CREATE INDEX ix_chain_addresses_unchecked ON chain_addresses (family, role, generation, key_index)"
    " WHERE checked_at IS NULL",
    "ALTER TABLE chain_address_counters DROP CONSTRAINT pk_chain_address_counters,"
    " ADD CONSTRAINT pk_chain_address_counters PRIMARY KEY (family, role, generation)",
    "ALTER TABLE chain_address_pool DROP CONSTRAINT pk_chain_address_pool,"
    " ADD CONSTRAINT pk_chain_address_pool PRIMARY KEY (family, role, generation, key_index)",
    "DROP INDEX uq_chain_address_findings_open",
    "CREATE UNIQUE INDEX uq_chain_address_findings_open ON chain_address_findings (family, role, generation, key_index)"
    " WHERE cleared_at IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
