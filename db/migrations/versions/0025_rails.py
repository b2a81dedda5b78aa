"""Payment providers' rails: top-ups of all rails in one table; refunds, disputes, settlements, methods, webhooks."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0025_rails"
down_revision = "0024_bank"

TOP_UPS = (
    "ALTER TABLE fiat_top_ups ALTER COLUMN source DROP NOT NULL",
    """
ALTER TABLE fiat_top_ups
    ADD COLUMN capture_source text,
    ADD COLUMN captured amount NOT NULL DEFAULT 0,
    ADD COLUMN refunded amount NOT NULL DEFAULT 0,
    ADD COLUMN fee amount,
    ADD COLUMN capturing text NOT NULL DEFAULT 'automatic',
    ADD COLUMN method text,
    ADD COLUMN customer text,
    ADD COLUMN return_url text,
    ADD COLUMN action_kind text,
    ADD COLUMN action_value text,
    ADD COLUMN code text,
    ADD COLUMN reason text,
    ADD COLUMN capture_amount amount,
    ADD COLUMN cancelling boolean NOT NULL DEFAULT false,
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN submitted_at timestamptz,
    ADD COLUMN due_at timestamptz,
    ADD COLUMN revision integer NOT NULL DEFAULT 0,
    ADD COLUMN updated_at timestamptz
""",
    "UPDATE fiat_top_ups SET captured = amount, updated_at = created_at",
    """
ALTER TABLE fiat_top_ups
    ALTER COLUMN updated_at SET NOT NULL,
    ADD CONSTRAINT uq_fiat_top_ups_book_rail_capture_source UNIQUE (book, rail, capture_source),
    ADD CONSTRAINT ck_fiat_top_ups_captured_within_amount CHECK (captured <= amount),
    ADD CONSTRAINT ck_fiat_top_ups_captured_when_final CHECK ((state = 'final') = (captured > 0)),
    ADD CONSTRAINT ck_fiat_top_ups_state_known CHECK (state IN ('requested', 'submitted', 'unknown',
        'requires_action', 'approved', 'processing', 'authorised', 'final', 'failed', 'cancelled'))
""",
    "CREATE INDEX ix_fiat_top_ups_due ON fiat_top_ups (book, due_at) WHERE due_at IS NOT NULL",
)

LINES = (
    "ALTER TABLE fiat_bank_lines ADD COLUMN settlement text",
    "ALTER TABLE fiat_bank_lines DROP CONSTRAINT ck_fiat_bank_lines_state_known",
    """
ALTER TABLE fiat_bank_lines
    ADD CONSTRAINT ck_fiat_bank_lines_state_known
        CHECK (state IN ('credited', 'paid', 'returned', 'suspended', 'matched', 'settled', 'noted')),
    ADD CONSTRAINT ck_fiat_bank_lines_settlement_when_settled CHECK ((state = 'settled') = (settlement IS NOT NULL))
""",
)

TABLES = """
CREATE TABLE fiat_refunds (
    book text NOT NULL,
    id text NOT NULL,
    top_up text NOT NULL,
    owner text NOT NULL,
    rail text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    source text,
    hold text,
    payment text NOT NULL,
    capture text,
    fee balance NOT NULL DEFAULT 0,
    code text,
    reason text,
    attempts integer NOT NULL DEFAULT 0,
    submitted_at timestamptz,
    due_at timestamptz,
    revision integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_refunds PRIMARY KEY (book, id),
    CONSTRAINT fk_fiat_refunds_book_top_up_fiat_top_ups
        FOREIGN KEY (book, top_up) REFERENCES fiat_top_ups (book, id),
    CONSTRAINT uq_fiat_refunds_book_rail_source UNIQUE (book, rail, source),
    CONSTRAINT ck_fiat_refunds_amount_positive CHECK (amount > 0),
    CONSTRAINT ck_fiat_refunds_state_known
        CHECK (state IN ('requested', 'submitted', 'unknown', 'pending', 'final', 'failed')),
    CONSTRAINT ck_fiat_refunds_users_are_held CHECK ((origin = 'user') = (hold IS NOT NULL))
);
CREATE INDEX ix_fiat_refunds_top_up ON fiat_refunds (book, top_up, id DESC);
CREATE INDEX ix_fiat_refunds_due ON fiat_refunds (book, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE fiat_disputes (
    book text NOT NULL,
    id text NOT NULL,
    rail text NOT NULL,
    source text NOT NULL,
    top_up text NOT NULL,
    owner text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    state text NOT NULL,
    withdrawn amount NOT NULL,
    fee balance NOT NULL,
    reason text,
    opened_at timestamptz NOT NULL,
    respond_by timestamptz,
    revision integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_disputes PRIMARY KEY (book, id),
    CONSTRAINT fk_fiat_disputes_book_top_up_fiat_top_ups
        FOREIGN KEY (book, top_up) REFERENCES fiat_top_ups (book, id),
    CONSTRAINT uq_fiat_disputes_book_rail_source UNIQUE (book, rail, source),
    CONSTRAINT ck_fiat_disputes_state_known
        CHECK (state IN ('inquiry', 'open', 'under_review', 'won', 'lost', 'closed'))
);
CREATE INDEX ix_fiat_disputes_state ON fiat_disputes (book, state, id DESC);
CREATE TABLE fiat_settlements (
    book text NOT NULL,
    id text NOT NULL,
    rail text NOT NULL,
    source text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    state text NOT NULL,
    arrives_on text,
    descriptor text,
    bank_line text,
    entries integer,
    differences integer NOT NULL DEFAULT 0,
    unexplained balance NOT NULL DEFAULT 0,
    revision integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_settlements PRIMARY KEY (book, id),
    CONSTRAINT uq_fiat_settlements_book_rail_source UNIQUE (book, rail, source),
    CONSTRAINT uq_fiat_settlements_book_bank_line UNIQUE (book, bank_line),
    CONSTRAINT ck_fiat_settlements_state_known CHECK (state IN ('sent', 'matched', 'failed')),
    CONSTRAINT ck_fiat_settlements_line_when_matched CHECK (state <> 'matched' OR bank_line IS NOT NULL)
);
CREATE INDEX ix_fiat_settlements_unread ON fiat_settlements (book, id) WHERE entries IS NULL;
CREATE TABLE fiat_settlement_entries (
    book text NOT NULL,
    settlement text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    object text,
    gross balance NOT NULL,
    fee balance NOT NULL,
    net balance NOT NULL,
    at timestamptz NOT NULL,
    subject text,
    difference text,
    CONSTRAINT pk_fiat_settlement_entries PRIMARY KEY (book, settlement, id),
    CONSTRAINT fk_fiat_settlement_entries_book_settlement_fiat_settlements
        FOREIGN KEY (book, settlement) REFERENCES fiat_settlements (book, id)
);
CREATE TABLE fiat_payment_methods (
    book text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    rail text NOT NULL,
    token text NOT NULL,
    customer text,
    brand text NOT NULL,
    last4 text,
    expires_year integer,
    expires_month integer,
    removed boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_payment_methods PRIMARY KEY (book, id),
    CONSTRAINT ck_fiat_payment_methods_last4_four_digits CHECK (last4 ~ '^[0-9]{4}$')
);
CREATE INDEX ix_fiat_payment_methods_owner ON fiat_payment_methods (book, owner, id DESC);
CREATE TABLE fiat_webhooks (
    book text NOT NULL,
    rail text NOT NULL,
    event text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    object_kind text NOT NULL,
    object text NOT NULL,
    reference text,
    state text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    code text,
    body_sha256 bytea NOT NULL,
    body_sealed bytea,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    due_at timestamptz,
    done_at timestamptz,
    CONSTRAINT pk_fiat_webhooks PRIMARY KEY (book, rail, event),
    CONSTRAINT uq_fiat_webhooks_book_id UNIQUE (book, id),
    CONSTRAINT ck_fiat_webhooks_state_known CHECK (state IN ('waiting', 'done', 'dead')),
    CONSTRAINT ck_fiat_webhooks_due_while_waiting CHECK ((state = 'waiting') = (due_at IS NOT NULL))
);
CREATE INDEX ix_fiat_webhooks_due ON fiat_webhooks (book, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE fiat_rail_cursors (
    book text NOT NULL,
    rail text NOT NULL,
    list text NOT NULL,
    cursor text,
    looked_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_rail_cursors PRIMARY KEY (book, rail, list)
);
CREATE TABLE fiat_sandbox_objects (
    book text NOT NULL,
    id text NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    reference text,
    document jsonb NOT NULL,
    CONSTRAINT pk_fiat_sandbox_objects PRIMARY KEY (book, id),
    CONSTRAINT uq_fiat_sandbox_objects_book_kind_reference UNIQUE (book, kind, reference)
);
CREATE INDEX ix_fiat_sandbox_objects_seq ON fiat_sandbox_objects (book, kind, seq);
CREATE TABLE fiat_sandbox_events (
    book text NOT NULL,
    id text NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    object_kind text NOT NULL,
    object text NOT NULL,
    reference text,
    at timestamptz NOT NULL,
    sent boolean NOT NULL DEFAULT false,
    CONSTRAINT pk_fiat_sandbox_events PRIMARY KEY (book, id)
);
CREATE INDEX ix_fiat_sandbox_events_unsent ON fiat_sandbox_events (book, seq) WHERE NOT sent
"""

NEW = (
    *("fiat_refunds", "fiat_disputes", "fiat_settlements", "fiat_settlement_entries", "fiat_payment_methods"),
    *("fiat_webhooks", "fiat_rail_cursors", "fiat_sandbox_objects", "fiat_sandbox_events"),
)


def upgrade() -> None:
    for statement in (*TOP_UPS, *LINES, *TABLES.split(";\n")):
        op.execute(statement)
    for table in NEW:
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
