"""The exchange: snapshots of rates, what quotes and conversions were worth, the house's position."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0035_exchange"
down_revision = "0030_signed_settlements"

STATEMENTS = (
    """
CREATE TABLE exchange_snapshots (
    book text NOT NULL, id text NOT NULL, at timestamptz NOT NULL, content bytea NOT NULL,
    CONSTRAINT pk_exchange_snapshots PRIMARY KEY (book, id))
""",
    "CREATE INDEX ix_exchange_snapshots_at ON exchange_snapshots (book, at)",
    """
CREATE TABLE exchange_moves (
    book text NOT NULL, seq bigint NOT NULL, line integer NOT NULL, asset text NOT NULL, kind text NOT NULL,
    quantity balance NOT NULL, value balance NOT NULL, realised balance NOT NULL, rates text,
    booked_at timestamptz NOT NULL,
    CONSTRAINT pk_exchange_moves PRIMARY KEY (book, seq, line, asset),
    CONSTRAINT ck_exchange_moves_kind_known CHECK (kind IN ('bought', 'sold', 'spread', 'brought_in', 'taken_out')))
""",
    """
CREATE TABLE exchange_positions (
    book text NOT NULL, asset text NOT NULL, reference text NOT NULL, quantity balance NOT NULL, cost balance NOT NULL,
    realised balance NOT NULL, earned balance NOT NULL, through_seq bigint NOT NULL, updated_at timestamptz NOT NULL,
    CONSTRAINT pk_exchange_positions PRIMARY KEY (book, asset))
""",
    """
ALTER TABLE wallet_quotes
    DROP CONSTRAINT ck_wallet_quotes_state_known,
    DROP COLUMN state,
    ADD COLUMN fee amount NOT NULL DEFAULT 0,
    ADD COLUMN exact text NOT NULL DEFAULT 'sell',
    ADD COLUMN lost text NOT NULL DEFAULT '0/1',
    ADD COLUMN rates text NOT NULL DEFAULT '',
    ADD COLUMN reference text,
    ADD COLUMN value amount,
    ADD COLUMN spread_value amount
""",
    """
ALTER TABLE wallet_conversions
    ADD COLUMN fee amount NOT NULL DEFAULT 0,
    ADD COLUMN rates text NOT NULL DEFAULT '',
    ADD COLUMN reference text,
    ADD COLUMN value amount,
    ADD COLUMN spread_value amount
""",
    "CREATE INDEX ix_wallet_quotes_expiring ON wallet_quotes (book, expires_at)",
    "CREATE INDEX ix_wallet_quotes_rates ON wallet_quotes (book, rates)",
    "CREATE INDEX ix_wallet_conversions_rates ON wallet_conversions (book, rates)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    append_only("exchange_moves")
    grant_app("exchange_snapshots", "SELECT, INSERT, DELETE")
    grant_app("exchange_moves", "SELECT, INSERT")
    grant_app("exchange_positions", "SELECT, INSERT, UPDATE")
    grant_app("wallet_quotes", "DELETE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
