"""Inflows, adjustments, reconciliations and breaks."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0007_treasury"
down_revision = "0006_wallet"

TABLES = """
CREATE TABLE treasury_inflows (
    book text NOT NULL,
    network text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    version integer NOT NULL,
    id text NOT NULL,
    state text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    sender text NOT NULL,
    address text NOT NULL,
    role text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    booked_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_inflows PRIMARY KEY (book, network, tx_hash, place, version),
    CONSTRAINT uq_treasury_inflows_book_id UNIQUE (book, id),
    CONSTRAINT ck_treasury_inflows_state_known CHECK (state IN ('booked', 'reversed')),
    CONSTRAINT ck_treasury_inflows_role_known CHECK (role IN ('hot', 'gas'))
);
CREATE UNIQUE INDEX uq_treasury_inflows_live ON treasury_inflows (book, network, tx_hash, place)
    WHERE state = 'booked';
CREATE TABLE treasury_adjustments (
    book text NOT NULL,
    id text NOT NULL,
    treasurer text NOT NULL,
    source text NOT NULL,
    target text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    reason text NOT NULL,
    evidence text,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_adjustments PRIMARY KEY (book, id),
    CONSTRAINT ck_treasury_adjustments_amount_positive CHECK (amount > 0)
);
CREATE TABLE treasury_reconciliations (
    book text NOT NULL,
    id text NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    checks integer NOT NULL,
    breaks integer NOT NULL,
    networks jsonb NOT NULL,
    in_flight jsonb NOT NULL,
    CONSTRAINT pk_treasury_reconciliations PRIMARY KEY (book, id)
);
CREATE TABLE treasury_breaks (
    book text NOT NULL,
    id text NOT NULL,
    reason text NOT NULL,
    network text NOT NULL,
    account text NOT NULL,
    asset text NOT NULL,
    detail text NOT NULL,
    expected balance NOT NULL,
    found balance NOT NULL,
    first_run text NOT NULL,
    last_run text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    resolved_at timestamptz,
    CONSTRAINT pk_treasury_breaks PRIMARY KEY (book, id)
);
CREATE UNIQUE INDEX uq_treasury_breaks_open ON treasury_breaks (book, reason, network, account, asset, detail)
    WHERE resolved_at IS NULL
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("treasury_inflows", "treasury_adjustments", "treasury_breaks"):
        grant_app(table, "SELECT, INSERT, UPDATE")
    grant_app("treasury_reconciliations", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
