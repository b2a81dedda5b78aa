"""Sweeps of deposit addresses, their own transactions and authorisations, and requests to refill the hot address."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0019_sweeps"
down_revision = "0018_foreign"

STATEMENTS = (
    """
CREATE TABLE chain_authorisations (
    book text NOT NULL,
    subject text NOT NULL,
    network text NOT NULL,
    contract text NOT NULL,
    domain_name text NOT NULL,
    domain_version text NOT NULL,
    owner_generation smallint NOT NULL,
    owner_index integer NOT NULL,
    owner text NOT NULL,
    recipient_role text NOT NULL,
    recipient_generation smallint NOT NULL,
    recipient_index integer NOT NULL,
    recipient text NOT NULL,
    amount amount NOT NULL,
    nonce text NOT NULL,
    valid_before bigint NOT NULL,
    signature bytea,
    signer_sequence bigint,
    signer_head bytea,
    created_at timestamptz NOT NULL,
    signed_at timestamptz,
    CONSTRAINT pk_chain_authorisations PRIMARY KEY (book, subject),
    CONSTRAINT uq_chain_authorisations_network_contract_owner_nonce UNIQUE (network, contract, owner, nonce),
    CONSTRAINT fk_chain_authorisations_network_chain_networks
        FOREIGN KEY(network) REFERENCES chain_networks (network)
)
""",
    "CREATE INDEX ix_chain_authorisations_signer_sequence ON chain_authorisations (signer_sequence)",
    """
CREATE TABLE treasury_sweeps (
    book text NOT NULL,
    id text NOT NULL,
    state text NOT NULL,
    method text NOT NULL,
    network text NOT NULL,
    asset text NOT NULL,
    contract text,
    address text NOT NULL,
    generation smallint NOT NULL,
    key_index integer NOT NULL,
    chain_amount amount,
    amount amount,
    number integer NOT NULL,
    tries integer NOT NULL,
    next_try_at timestamptz,
    waiting_for text,
    reason text,
    gas_limit bigint,
    fee_wei_max amount,
    valid_before bigint,
    tx_hash text,
    block_number bigint,
    block_hash text,
    place text,
    asked_by text,
    request text,
    content bytea,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_sweeps PRIMARY KEY (book, id),
    CONSTRAINT uq_treasury_sweeps_book_request UNIQUE (book, request),
    CONSTRAINT ck_treasury_sweeps_state_known
        CHECK (state IN ('planned', 'authorising', 'topping_up', 'reserved', 'signed', 'broadcast', 'mined', 'final',
            'unsweepable', 'needs_review', 'dropped')),
    CONSTRAINT ck_treasury_sweeps_method_known CHECK (method IN ('transfer', 'authorisation')),
    CONSTRAINT ck_treasury_sweeps_final_with_evidence CHECK (state <> 'final' OR place IS NOT NULL)
)
""",
    "CREATE UNIQUE INDEX uq_treasury_sweeps_open ON treasury_sweeps (book, network, address)"
    " WHERE state NOT IN ('final', 'unsweepable', 'dropped')",
    "CREATE INDEX ix_treasury_sweeps_unfinished ON treasury_sweeps (book, network, address)"
    " WHERE state NOT IN ('final', 'dropped')",
    "CREATE INDEX ix_treasury_sweeps_tx_hash ON treasury_sweeps (network, tx_hash)",
    """
CREATE TABLE treasury_moves (
    book text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    sweep text NOT NULL,
    network text NOT NULL,
    address text NOT NULL,
    chain_amount amount NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_moves PRIMARY KEY (book, id),
    CONSTRAINT ck_treasury_moves_kind_known CHECK (kind IN ('sweep', 'relay', 'top_up')),
    CONSTRAINT ck_treasury_moves_state_known
        CHECK (state IN ('under_way', 'booked', 'refused', 'needs_review', 'dropped'))
)
""",
    "CREATE UNIQUE INDEX uq_treasury_moves_top_up ON treasury_moves (book, network, address)"
    " WHERE kind = 'top_up' AND state = 'under_way'",
    "CREATE INDEX ix_treasury_moves_unfinished ON treasury_moves (book, id)"
    " WHERE state IN ('under_way', 'needs_review')",
    "ALTER TABLE treasury_inflows ADD COLUMN source text NOT NULL DEFAULT 'suspense'",
    """
CREATE TABLE treasury_refills (
    book text NOT NULL,
    id text NOT NULL,
    state text NOT NULL,
    network text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    reason text NOT NULL,
    inflow text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_refills PRIMARY KEY (book, id),
    CONSTRAINT ck_treasury_refills_state_known CHECK (state IN ('open', 'arrived', 'closed', 'lapsed'))
)
""",
    "CREATE UNIQUE INDEX uq_treasury_refills_open ON treasury_refills (book, network, asset)"
    " WHERE state IN ('open', 'arrived')",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table in ("chain_authorisations", "treasury_sweeps", "treasury_moves", "treasury_refills"):
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
