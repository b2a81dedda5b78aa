"""What screening told of senders, where nodes disagreed, since when a network is halted; refills; incarnations."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0013_screening"
down_revision = "0012_tokens"

STATEMENTS = (
    """
CREATE TABLE chain_screenings (
    network text NOT NULL,
    block_hash text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    objection text,
    asked_in text NOT NULL,
    screened_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_screenings PRIMARY KEY (network, block_hash, tx_hash, place),
    CONSTRAINT fk_chain_screenings_observation
        FOREIGN KEY(network, block_hash, tx_hash, place)
        REFERENCES chain_observations (network, block_hash, tx_hash, place)
)
""",
    """
CREATE TABLE chain_disagreements (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    network text NOT NULL,
    height bigint NOT NULL,
    told jsonb NOT NULL,
    stops boolean NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT pk_chain_disagreements PRIMARY KEY (seq)
)
""",
    "CREATE UNIQUE INDEX uq_chain_disagreements_open ON chain_disagreements (network) WHERE ended_at IS NULL",
    "ALTER TABLE chain_networks ADD COLUMN halted_at timestamptz",
    "UPDATE chain_networks SET halted_at = updated_at WHERE halted IS NOT NULL",
    "ALTER TABLE chain_networks"
    " ADD CONSTRAINT ck_chain_networks_halted_since CHECK ((halted IS NULL) = (halted_at IS NULL))",
    """
ALTER TABLE chain_transactions
    DROP CONSTRAINT ck_chain_transactions_kind_known,
    ADD CONSTRAINT ck_chain_transactions_kind_known
        CHECK (kind IN ('withdrawal', 'sweep', 'gas_topup', 'refill', 'cancel'))
""",
    "ALTER TABLE chain_address_counters ADD COLUMN incarnation text",
    """
ALTER TABLE wallet_deposits
    DROP CONSTRAINT ck_wallet_deposits_state_known,
    ADD CONSTRAINT ck_wallet_deposits_state_known
        CHECK (state IN ('pending', 'credited', 'final', 'orphaned', 'reversed', 'below_minimum', 'unknown_token',
            'under_review', 'quarantined', 'not_received', 'sender_listed'))
""",
    "DROP INDEX ix_wallet_deposits_doubtful",
    "CREATE INDEX ix_wallet_deposits_doubtful ON wallet_deposits (book, network, id)"
    " WHERE state IN ('below_minimum', 'unknown_token', 'under_review', 'quarantined', 'not_received',"
    " 'sender_listed')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("chain_screenings", "SELECT, INSERT")
    grant_app("chain_disagreements", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
