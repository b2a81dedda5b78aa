"""What is accepted of tokens, where they differ from it, and what really arrived of their transfers."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0012_tokens"
down_revision = "0011_generations"

STATEMENTS = (
    """
CREATE TABLE chain_tokens (
    network text NOT NULL,
    contract text NOT NULL,
    accepted jsonb NOT NULL,
    accepted_height bigint NOT NULL,
    accepted_hash text NOT NULL,
    accepted_at timestamptz NOT NULL,
    accepted_by text,
    events_through bigint NOT NULL,
    CONSTRAINT pk_chain_tokens PRIMARY KEY (network, contract)
)
""",
    """
CREATE TABLE chain_token_findings (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    network text NOT NULL,
    contract text NOT NULL,
    found jsonb NOT NULL,
    problems jsonb NOT NULL,
    upgraded_height bigint,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    last_height bigint NOT NULL,
    last_hash text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by text,
    reason text,
    CONSTRAINT pk_chain_token_findings PRIMARY KEY (seq),
    CONSTRAINT ck_chain_token_findings_closed_by_somebody CHECK (closed_by IS NULL OR closed_at IS NOT NULL)
)
""",
    "CREATE UNIQUE INDEX uq_chain_token_findings_open ON chain_token_findings (network, contract)"
    " WHERE closed_at IS NULL",
    """
CREATE TABLE chain_arrivals (
    network text NOT NULL,
    block_hash text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    amount amount,
    balance_before amount,
    balance_after amount,
    measured_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_arrivals PRIMARY KEY (network, block_hash, tx_hash, place),
    CONSTRAINT fk_chain_arrivals_observation
        FOREIGN KEY(network, block_hash, tx_hash, place)
        REFERENCES chain_observations (network, block_hash, tx_hash, place),
    CONSTRAINT ck_chain_arrivals_measured_whole CHECK ((balance_before IS NULL) = (amount IS NULL)),
    CONSTRAINT ck_chain_arrivals_measured_wholly CHECK ((balance_after IS NULL) = (amount IS NULL))
)
""",
    """
ALTER TABLE wallet_deposits
    DROP CONSTRAINT ck_wallet_deposits_state_known,
    DROP CONSTRAINT ck_wallet_deposits_amount_of_asset,
    ADD CONSTRAINT ck_wallet_deposits_state_known
        CHECK (state IN ('pending', 'credited', 'final', 'orphaned', 'reversed', 'below_minimum', 'unknown_token',
            'under_review', 'quarantined', 'not_received')),
    ADD CONSTRAINT ck_wallet_deposits_amount_of_asset CHECK (amount IS NULL OR asset IS NOT NULL)
""",
    "CREATE INDEX ix_wallet_deposits_doubtful ON wallet_deposits (book, network, id)"
    " WHERE state IN ('below_minimum', 'unknown_token', 'under_review', 'quarantined', 'not_received')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("chain_tokens", "SELECT, INSERT, UPDATE")
    grant_app("chain_token_findings", "SELECT, INSERT, UPDATE")
    grant_app("chain_arrivals", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
