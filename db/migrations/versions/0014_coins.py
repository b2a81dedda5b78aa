"""Native coins that no transaction names: traces told after their blocks, balances looked at, surpluses."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0014_coins"
down_revision = "0013_screening"

STATEMENTS = (
    "ALTER TABLE chain_networks ADD COLUMN late bigint DEFAULT '0' NOT NULL",
    "ALTER TABLE chain_blocks ADD COLUMN traced boolean",
    "ALTER TABLE chain_observations ADD COLUMN late bigint, ADD COLUMN attached_to text",
    "CREATE UNIQUE INDEX uq_chain_observations_late ON chain_observations (network, late) WHERE late IS NOT NULL",
    """
CREATE TABLE chain_coin_balances (
    network text NOT NULL,
    address text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    balance amount NOT NULL,
    CONSTRAINT pk_chain_coin_balances PRIMARY KEY (network, address)
)
""",
    """
CREATE TABLE chain_surpluses (
    network text NOT NULL,
    block_hash text NOT NULL,
    address text NOT NULL,
    block_number bigint NOT NULL,
    since bigint NOT NULL,
    balance amount NOT NULL,
    found_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_surpluses PRIMARY KEY (network, block_hash, address),
    CONSTRAINT fk_chain_surpluses_network_chain_blocks
        FOREIGN KEY(network, block_hash) REFERENCES chain_blocks (network, block_hash)
)
""",
    "CREATE INDEX ix_chain_surpluses_address ON chain_surpluses (network, address, block_number)",
    """
ALTER TABLE wallet_deposits
    DROP CONSTRAINT ck_wallet_deposits_state_known,
    ADD CONSTRAINT ck_wallet_deposits_state_known
        CHECK (state IN ('pending', 'credited', 'final', 'orphaned', 'reversed', 'below_minimum', 'unknown_token',
            'under_review', 'quarantined', 'not_received', 'surplus', 'sender_listed'))
""",
    "DROP INDEX ix_wallet_deposits_doubtful",
    "CREATE INDEX ix_wallet_deposits_doubtful ON wallet_deposits (book, network, id)"
    " WHERE state IN ('below_minimum', 'unknown_token', 'under_review', 'quarantined', 'not_received', 'surplus',"
    " 'sender_listed')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("chain_coin_balances", "SELECT, INSERT, UPDATE")
    grant_app("chain_surpluses", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
