"""Bank statements, their lines, payment references and top-ups."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0005_fiat"
down_revision = "0004_chain"

TABLES = """
CREATE TABLE fiat_references (
    book text NOT NULL,
    reference text NOT NULL,
    owner text NOT NULL,
    issued_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_references PRIMARY KEY (book, reference),
    CONSTRAINT uq_fiat_references_book_owner UNIQUE (book, owner)
);
CREATE TABLE fiat_bank_statements (
    book text NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    asset text NOT NULL,
    bank_id text NOT NULL,
    sequence bigint,
    opening balance NOT NULL,
    closing balance NOT NULL,
    closing_on date NOT NULL,
    lines integer NOT NULL,
    pending integer NOT NULL,
    file text NOT NULL,
    file_sha256 bytea NOT NULL,
    received_at timestamptz NOT NULL,
    imported_at timestamptz,
    gap balance,
    CONSTRAINT pk_fiat_bank_statements PRIMARY KEY (book, id),
    CONSTRAINT ck_fiat_bank_statements_gap_known_when_imported CHECK ((imported_at IS NULL) = (gap IS NULL))
);
CREATE INDEX ix_fiat_bank_statements_order ON fiat_bank_statements (book, account, closing_on, sequence, received_at);
CREATE TABLE fiat_bank_lines (
    book text NOT NULL,
    id text NOT NULL,
    account text NOT NULL,
    statement text NOT NULL,
    number integer NOT NULL,
    direction text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    booked_on date NOT NULL,
    value_on date NOT NULL,
    bank_reference text NOT NULL,
    end_to_end_id text NOT NULL,
    remittance text NOT NULL,
    counterparty text NOT NULL,
    counterparty_account text NOT NULL,
    state text NOT NULL,
    reason text,
    owner text,
    top_up text,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_bank_lines PRIMARY KEY (book, id),
    CONSTRAINT fk_fiat_bank_lines_book_statement_fiat_bank_statements
        FOREIGN KEY (book, statement) REFERENCES fiat_bank_statements (book, id),
    CONSTRAINT ck_fiat_bank_lines_direction_known CHECK (direction IN ('CRDT', 'DBIT')),
    CONSTRAINT ck_fiat_bank_lines_state_known
        CHECK (state IN ('credited', 'suspended', 'matched', 'noted')),
    CONSTRAINT ck_fiat_bank_lines_top_up_when_credited
        CHECK ((state IN ('credited', 'matched')) = (top_up IS NOT NULL)),
    CONSTRAINT ck_fiat_bank_lines_reason_unless_credited CHECK (state = 'credited' OR reason IS NOT NULL)
);
CREATE INDEX ix_fiat_bank_lines_state ON fiat_bank_lines (book, state, recorded_at, id);
CREATE INDEX ix_fiat_bank_lines_statement ON fiat_bank_lines (book, statement, number);
CREATE TABLE fiat_top_ups (
    book text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    rail text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    state text NOT NULL,
    source text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_top_ups PRIMARY KEY (book, id),
    CONSTRAINT uq_fiat_top_ups_book_rail_source UNIQUE (book, rail, source),
    CONSTRAINT ck_fiat_top_ups_amount_positive CHECK (amount > 0)
);
CREATE INDEX ix_fiat_top_ups_owner ON fiat_top_ups (book, owner, id DESC)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("fiat_references", "fiat_bank_statements", "fiat_bank_lines", "fiat_top_ups"):
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
