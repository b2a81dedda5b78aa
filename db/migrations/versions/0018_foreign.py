"""What own addresses did without us: findings that halt a sender, foreign outflows, and resolutions by hand."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0018_foreign"
down_revision = "0017_recipients"

STATEMENTS = (
    """
CREATE TABLE chain_sender_states (
    network text NOT NULL,
    address text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    nonce bigint NOT NULL,
    code_hash text,
    CONSTRAINT pk_chain_sender_states PRIMARY KEY (network, address)
)
""",
    """
CREATE TABLE chain_sender_findings (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    network text NOT NULL,
    address text NOT NULL,
    kind text NOT NULL,
    what text NOT NULL,
    tx_hash text,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    words text NOT NULL,
    found_at timestamptz NOT NULL,
    closed_at timestamptz,
    closed_by text,
    reason text,
    CONSTRAINT pk_chain_sender_findings PRIMARY KEY (seq),
    CONSTRAINT uq_chain_sender_findings_network_address_kind_what UNIQUE (network, address, kind, what),
    CONSTRAINT ck_chain_sender_findings_kind_known
        CHECK (kind IN ('transaction', 'outflow', 'code', 'nonce', 'balance')),
    CONSTRAINT ck_chain_sender_findings_closed_by_somebody CHECK (closed_by IS NULL OR closed_at IS NOT NULL),
    CONSTRAINT ck_chain_sender_findings_closed_for_a_reason CHECK ((closed_by IS NULL) = (reason IS NULL))
)
""",
    "CREATE INDEX ix_chain_sender_findings_open ON chain_sender_findings (network, address) WHERE closed_at IS NULL",
    """
CREATE TABLE treasury_outflows (
    book text NOT NULL,
    network text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    address text NOT NULL,
    version integer NOT NULL,
    id text NOT NULL,
    state text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    recipient text,
    role text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    booked_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_outflows PRIMARY KEY (book, network, tx_hash, place, version),
    CONSTRAINT uq_treasury_outflows_book_id UNIQUE (book, id),
    CONSTRAINT ck_treasury_outflows_state_known CHECK (state IN ('booked', 'reversed')),
    CONSTRAINT ck_treasury_outflows_role_known CHECK (role IN ('deposit', 'hot', 'gas'))
)
""",
    "CREATE UNIQUE INDEX uq_treasury_outflows_live ON treasury_outflows (book, network, tx_hash, place)"
    " WHERE state = 'booked'",
    """
CREATE TABLE wallet_resolutions (
    book text NOT NULL,
    network text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    withdrawal text NOT NULL,
    outcome text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    treasurer text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_resolutions PRIMARY KEY (book, network, tx_hash, place),
    CONSTRAINT ck_wallet_resolutions_outcome_known CHECK (outcome IN ('paid', 'returned'))
)
""",
    "CREATE INDEX ix_wallet_resolutions_withdrawal ON wallet_resolutions (book, withdrawal)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table in ("chain_sender_states", "chain_sender_findings", "treasury_outflows", "wallet_resolutions"):
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
