"""Quotes, conversions, deposits and withdrawals of users."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0006_wallet"
down_revision = "0005_fiat"

TABLES = """
CREATE TABLE wallet_quotes (
    book text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    sell text NOT NULL,
    buy text NOT NULL,
    sold amount NOT NULL,
    spread amount NOT NULL,
    bought amount NOT NULL,
    price text NOT NULL,
    rates_as_of timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_quotes PRIMARY KEY (book, id),
    CONSTRAINT ck_wallet_quotes_state_known CHECK (state IN ('open', 'used')),
    CONSTRAINT ck_wallet_quotes_whole CHECK (spread < sold AND bought > 0)
);
CREATE INDEX ix_wallet_quotes_owner ON wallet_quotes (book, owner, id);
CREATE TABLE wallet_conversions (
    book text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    quote text NOT NULL,
    sell text NOT NULL,
    buy text NOT NULL,
    sold amount NOT NULL,
    spread amount NOT NULL,
    bought amount NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_conversions PRIMARY KEY (book, id),
    CONSTRAINT uq_wallet_conversions_book_quote UNIQUE (book, quote)
);
CREATE INDEX ix_wallet_conversions_owner ON wallet_conversions (book, owner, id);
CREATE TABLE wallet_deposits (
    book text NOT NULL,
    network text NOT NULL,
    tx_hash text NOT NULL,
    place text NOT NULL,
    version integer NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    asset text,
    contract text,
    chain_amount amount NOT NULL,
    amount amount,
    sender text NOT NULL,
    address text NOT NULL,
    block_number bigint NOT NULL,
    block_hash text NOT NULL,
    entry text,
    seen_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_deposits PRIMARY KEY (book, network, tx_hash, place, version),
    CONSTRAINT uq_wallet_deposits_book_id UNIQUE (book, id),
    CONSTRAINT ck_wallet_deposits_state_known
        CHECK (state IN ('pending', 'credited', 'final', 'orphaned', 'reversed', 'below_minimum', 'unknown_token')),
    CONSTRAINT ck_wallet_deposits_amount_of_asset CHECK ((asset IS NULL) = (amount IS NULL)),
    CONSTRAINT ck_wallet_deposits_version_from_one CHECK (version > 0)
);
CREATE INDEX ix_wallet_deposits_open ON wallet_deposits (book, network) WHERE state IN ('pending', 'credited');
CREATE INDEX ix_wallet_deposits_owner ON wallet_deposits (book, owner, id);
CREATE UNIQUE INDEX uq_wallet_deposits_live ON wallet_deposits (book, network, tx_hash, place)
    WHERE state NOT IN ('orphaned', 'reversed');
CREATE TABLE wallet_withdrawals (
    book text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    state text NOT NULL,
    cancellable boolean NOT NULL,
    waiting_for text,
    reason text,
    asset text NOT NULL,
    network text NOT NULL,
    address text NOT NULL,
    amount amount NOT NULL,
    chain_amount amount NOT NULL,
    fee_highest amount NOT NULL,
    fee amount,
    fee_price text NOT NULL,
    gas_limit bigint NOT NULL,
    fee_wei_max amount NOT NULL,
    hold text NOT NULL,
    tx_hash text,
    block_number bigint,
    block_hash text,
    fee_wei amount,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_wallet_withdrawals PRIMARY KEY (book, id),
    CONSTRAINT ck_wallet_withdrawals_state_known
        CHECK (state IN ('requested', 'held', 'screened', 'awaiting_approval', 'approved', 'nonce_reserved', 'signed',
            'broadcast', 'mined', 'final', 'rejected', 'cancelled', 'reverted', 'needs_review')),
    CONSTRAINT ck_wallet_withdrawals_cancellable_early
        CHECK (cancellable = (state IN ('held', 'screened', 'awaiting_approval', 'approved'))),
    CONSTRAINT ck_wallet_withdrawals_fee_within CHECK (fee <= fee_highest)
);
CREATE INDEX ix_wallet_withdrawals_open ON wallet_withdrawals (book, network, id)
    WHERE state NOT IN ('final', 'rejected', 'cancelled', 'reverted');
CREATE INDEX ix_wallet_withdrawals_owner ON wallet_withdrawals (book, owner, id)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("wallet_quotes", "wallet_conversions", "wallet_deposits", "wallet_withdrawals"):
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
