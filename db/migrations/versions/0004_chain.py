"""Networks, blocks, observations and what is sent."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0004_chain"
down_revision = "0003_identity"

TABLES = """
CREATE TABLE chain_networks (
    network text NOT NULL,
    chain_id bigint NOT NULL,
    genesis_hash text NOT NULL,
    height bigint NOT NULL,
    block_hash text,
    head_height bigint NOT NULL,
    final_height bigint NOT NULL,
    roots_verified boolean NOT NULL,
    halted text,
    epoch bigint NOT NULL,
    leader text,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_networks PRIMARY KEY (network)
);
CREATE TABLE chain_blocks (
    network text NOT NULL,
    block_hash text NOT NULL,
    number bigint NOT NULL,
    parent_hash text NOT NULL,
    mined_at timestamptz NOT NULL,
    base_fee_per_gas amount NOT NULL,
    verified boolean NOT NULL,
    orphaned boolean NOT NULL,
    revision integer NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_blocks PRIMARY KEY (network, block_hash),
    CONSTRAINT fk_chain_blocks_network_chain_networks FOREIGN KEY(network) REFERENCES chain_networks (network)
);
CREATE UNIQUE INDEX uq_chain_blocks_live ON chain_blocks (network, number) WHERE NOT orphaned;
CREATE TABLE chain_observations (
    network text NOT NULL,
    block_hash text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    block_number bigint NOT NULL,
    contract text,
    sender text NOT NULL,
    recipient text NOT NULL,
    amount amount NOT NULL,
    orphaned boolean NOT NULL,
    revision integer NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_observations PRIMARY KEY (network, block_hash, tx_hash, place),
    CONSTRAINT fk_chain_observations_network_block_hash_chain_blocks
        FOREIGN KEY(network, block_hash) REFERENCES chain_blocks (network, block_hash),
    CONSTRAINT ck_chain_observations_amount_positive CHECK (amount > 0),
    CONSTRAINT uq_chain_observations_seq UNIQUE (seq)
);
CREATE INDEX ix_chain_observations_number ON chain_observations (network, block_number);
CREATE INDEX ix_chain_observations_recipient ON chain_observations (network, recipient, block_number);
CREATE INDEX ix_chain_observations_sender ON chain_observations (network, sender, block_number);
CREATE INDEX ix_chain_observations_tx_hash ON chain_observations (network, tx_hash);
CREATE TABLE chain_outgoing (
    network text NOT NULL,
    block_hash text NOT NULL,
    tx_hash text NOT NULL,
    block_number bigint NOT NULL,
    sender text NOT NULL,
    nonce bigint NOT NULL,
    recipient text,
    succeeded boolean NOT NULL,
    gas_used bigint NOT NULL,
    effective_gas_price amount NOT NULL,
    fee_wei amount NOT NULL,
    orphaned boolean NOT NULL,
    revision integer NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_outgoing PRIMARY KEY (network, block_hash, tx_hash),
    CONSTRAINT fk_chain_outgoing_network_block_hash_chain_blocks
        FOREIGN KEY(network, block_hash) REFERENCES chain_blocks (network, block_hash)
);
CREATE INDEX ix_chain_outgoing_number ON chain_outgoing (network, block_number);
CREATE INDEX ix_chain_outgoing_sender ON chain_outgoing (network, sender, nonce);
CREATE INDEX ix_chain_outgoing_tx_hash ON chain_outgoing (network, tx_hash);
CREATE TABLE chain_addresses (
    family text NOT NULL,
    address text NOT NULL,
    role text NOT NULL,
    key_index integer NOT NULL,
    book text,
    owner text,
    issued_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_addresses PRIMARY KEY (family, address),
    CONSTRAINT uq_chain_addresses_family_role_key_index UNIQUE (family, role, key_index),
    CONSTRAINT ck_chain_addresses_role_known CHECK (role IN ('deposit', 'hot', 'gas')),
    CONSTRAINT ck_chain_addresses_deposits_have_owners CHECK ((role = 'deposit') = (owner IS NOT NULL)),
    CONSTRAINT ck_chain_addresses_owner_in_book CHECK ((book IS NULL) = (owner IS NULL))
);
CREATE INDEX ix_chain_addresses_owner ON chain_addresses (book, owner);
CREATE TABLE chain_address_counters (
    family text NOT NULL,
    role text NOT NULL,
    next_index integer NOT NULL,
    CONSTRAINT pk_chain_address_counters PRIMARY KEY (family, role)
);
CREATE TABLE chain_nonces (
    network text NOT NULL,
    sender text NOT NULL,
    next_nonce bigint NOT NULL,
    CONSTRAINT pk_chain_nonces PRIMARY KEY (network, sender),
    CONSTRAINT fk_chain_nonces_network_chain_networks FOREIGN KEY(network) REFERENCES chain_networks (network)
);
CREATE TABLE chain_transactions (
    id text NOT NULL,
    network text NOT NULL,
    kind text NOT NULL,
    book text NOT NULL,
    subject text NOT NULL,
    state text NOT NULL,
    waiting_for text,
    sender_role text NOT NULL,
    sender_index integer NOT NULL,
    sender text NOT NULL,
    nonce bigint,
    contract text,
    recipient text NOT NULL,
    recipient_role text,
    recipient_index integer,
    amount amount NOT NULL,
    gas_limit bigint NOT NULL,
    fee_wei_max amount NOT NULL,
    claims jsonb,
    refusal text,
    mined_attempt smallint,
    tx_hash text,
    block_number bigint,
    block_hash text,
    succeeded boolean,
    gas_used bigint,
    effective_gas_price amount,
    fee_wei amount,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_chain_transactions PRIMARY KEY (id),
    CONSTRAINT ck_chain_transactions_kind_known
        CHECK (kind IN ('withdrawal', 'sweep', 'gas_topup', 'cancel')),
    CONSTRAINT ck_chain_transactions_state_known
        CHECK (state IN ('reserved', 'signed', 'broadcast', 'mined', 'final', 'reverted', 'cancelled', 'refused',
        'needs_review')),
    CONSTRAINT ck_chain_transactions_nonce_until_refused CHECK ((nonce IS NULL) = (state = 'refused')),
    CONSTRAINT fk_chain_transactions_network_chain_networks
        FOREIGN KEY(network) REFERENCES chain_networks (network)
);
CREATE INDEX ix_chain_transactions_open ON chain_transactions (network, sender, nonce)
    WHERE state IN ('reserved', 'signed', 'broadcast', 'mined');
CREATE UNIQUE INDEX uq_chain_transactions_nonce ON chain_transactions (network, sender, nonce);
CREATE UNIQUE INDEX uq_chain_transactions_subject ON chain_transactions (book, subject)
    WHERE state <> 'refused';
CREATE TABLE chain_attempts (
    transaction_id text NOT NULL,
    attempt smallint NOT NULL,
    network text NOT NULL,
    kind text NOT NULL,
    nonce bigint NOT NULL,
    gas_limit bigint NOT NULL,
    max_fee_per_gas amount NOT NULL,
    max_priority_fee_per_gas amount NOT NULL,
    tx_hash text,
    raw bytea,
    signer_sequence bigint,
    signer_head bytea,
    created_at timestamptz NOT NULL,
    signed_at timestamptz,
    sent_at timestamptz,
    last_sent_at timestamptz,
    CONSTRAINT pk_chain_attempts PRIMARY KEY (transaction_id, attempt),
    CONSTRAINT uq_chain_attempts_network_tx_hash UNIQUE (network, tx_hash),
    CONSTRAINT ck_chain_attempts_kind_known CHECK (kind IN ('pay', 'cancel')),
    CONSTRAINT ck_chain_attempts_bytes_with_hash CHECK ((raw IS NULL) = (tx_hash IS NULL)),
    CONSTRAINT fk_chain_attempts_transaction_id_chain_transactions
        FOREIGN KEY(transaction_id) REFERENCES chain_transactions (id)
);
CREATE INDEX ix_chain_attempts_signer_sequence ON chain_attempts (signer_sequence)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in (
        "chain_networks",
        "chain_blocks",
        "chain_observations",
        "chain_outgoing",
        "chain_addresses",
        "chain_address_counters",
        "chain_nonces",
        "chain_transactions",
        "chain_attempts",
    ):
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
