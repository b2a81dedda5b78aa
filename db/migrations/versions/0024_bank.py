"""Payouts and their batches, the bank's messages, virtual IBANs; personal data of bank lines is sealed.

What lines held in clear stays in nullable columns until the service seals it, which it does before it starts: the key
isn't here (`fiat.sealing`).
"""

from alembic import op

from db.migrations.ops import grant_app

revision = "0024_bank"
down_revision = "0023_refusal_codes"

STATEMENTS = (
    """
CREATE TABLE fiat_payout_batches (
    book text NOT NULL,
    id text NOT NULL,
    rail text NOT NULL,
    account text NOT NULL,
    asset text NOT NULL,
    payouts integer NOT NULL,
    total amount NOT NULL,
    state text NOT NULL,
    reason text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_payout_batches PRIMARY KEY (book, id),
    CONSTRAINT ck_fiat_payout_batches_state_known
        CHECK (state IN ('prepared', 'submitted', 'unknown', 'rejected'))
)
""",
    """
CREATE TABLE fiat_payouts (
    book text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    rail text NOT NULL,
    account text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    fee amount NOT NULL,
    state text NOT NULL,
    reason text,
    detail text,
    recipient bytea NOT NULL,
    recipient_mark text NOT NULL,
    hold text NOT NULL,
    batch text,
    accepted_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_payouts PRIMARY KEY (book, id),
    CONSTRAINT fk_fiat_payouts_batch FOREIGN KEY(book, batch) REFERENCES fiat_payout_batches (book, id),
    CONSTRAINT ck_fiat_payouts_amount_positive CHECK (amount > 0),
    CONSTRAINT ck_fiat_payouts_state_known
        CHECK (state IN ('requested', 'submitting', 'submitted', 'unknown', 'paid', 'returned', 'rejected', 'failed',
                         'cancelled')),
    CONSTRAINT ck_fiat_payouts_batch_before_submission
        CHECK (batch IS NOT NULL OR state IN ('requested', 'rejected', 'cancelled'))
)
""",
    "CREATE INDEX ix_fiat_payouts_owner ON fiat_payouts (book, owner, id DESC)",
    "CREATE INDEX ix_fiat_payouts_batch ON fiat_payouts (book, batch)",
    "CREATE INDEX ix_fiat_payouts_open ON fiat_payouts (book, rail, id)"
    " WHERE state IN ('requested', 'submitting', 'submitted', 'unknown')",
    """
CREATE TABLE fiat_bank_messages (
    book text NOT NULL,
    id text NOT NULL,
    kind text NOT NULL,
    bank_id text NOT NULL,
    file text NOT NULL,
    file_sha256 bytea NOT NULL,
    told integer NOT NULL,
    moved integer NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_bank_messages PRIMARY KEY (book, id)
)
""",
    """
CREATE TABLE fiat_virtual_ibans (
    book text NOT NULL,
    account text NOT NULL,
    number bigint NOT NULL,
    owner text NOT NULL,
    issued_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_virtual_ibans PRIMARY KEY (book, account, number),
    CONSTRAINT uq_fiat_virtual_ibans_book_account_owner UNIQUE (book, account, owner)
)
""",
    # Statements: notifications have no balances
    "ALTER TABLE fiat_bank_statements ADD COLUMN kind text NOT NULL DEFAULT 'statement',"
    " ADD COLUMN format text NOT NULL DEFAULT 'camt.053',"
    " ALTER COLUMN opening DROP NOT NULL, ALTER COLUMN closing DROP NOT NULL, ALTER COLUMN closing_on DROP NOT NULL,"
    " DROP CONSTRAINT ck_fiat_bank_statements_gap_known_when_imported",
    "ALTER TABLE fiat_bank_statements ALTER COLUMN kind DROP DEFAULT, ALTER COLUMN format DROP DEFAULT,"
    " ADD CONSTRAINT ck_fiat_bank_statements_kind_known CHECK (kind IN ('statement', 'notification')),"
    " ADD CONSTRAINT ck_fiat_bank_statements_balances_of_statements CHECK"
    " ((kind = 'statement') = (opening IS NOT NULL AND closing IS NOT NULL AND closing_on IS NOT NULL)),"
    " ADD CONSTRAINT ck_fiat_bank_statements_gap_known_when_imported CHECK"
    " ((gap IS NOT NULL) = (kind = 'statement' AND imported_at IS NOT NULL))",
    # Lines: what is personal is sealed
    "ALTER TABLE fiat_bank_lines ADD COLUMN personal bytea, ADD COLUMN payout text,"
    " ALTER COLUMN end_to_end_id DROP NOT NULL, ALTER COLUMN remittance DROP NOT NULL,"
    " ALTER COLUMN counterparty DROP NOT NULL, ALTER COLUMN counterparty_account DROP NOT NULL,"
    " DROP CONSTRAINT ck_fiat_bank_lines_state_known, DROP CONSTRAINT ck_fiat_bank_lines_top_up_when_credited,"
    " DROP CONSTRAINT ck_fiat_bank_lines_reason_unless_credited",
    "ALTER TABLE fiat_bank_lines"
    " ADD CONSTRAINT ck_fiat_bank_lines_state_known CHECK"
    " (state IN ('credited', 'paid', 'returned', 'suspended', 'matched', 'noted')),"
    " ADD CONSTRAINT ck_fiat_bank_lines_top_up_when_credited CHECK (state <> 'credited' OR top_up IS NOT NULL),"
    " ADD CONSTRAINT ck_fiat_bank_lines_payout_when_paid CHECK"
    " (state NOT IN ('paid', 'returned') OR payout IS NOT NULL),"
    " ADD CONSTRAINT ck_fiat_bank_lines_nobodys_when_suspended CHECK"
    " (state NOT IN ('suspended', 'noted') OR (top_up IS NULL AND payout IS NULL)),"
    " ADD CONSTRAINT ck_fiat_bank_lines_somebodys_when_matched CHECK"
    " (state <> 'matched' OR top_up IS NOT NULL OR payout IS NOT NULL),"
    " ADD CONSTRAINT ck_fiat_bank_lines_reason_unless_matched CHECK"
    " (state IN ('credited', 'paid', 'returned') OR reason IS NOT NULL),"
    " ADD CONSTRAINT ck_fiat_bank_lines_sealed_or_old CHECK"
    " (personal IS NOT NULL OR (end_to_end_id IS NOT NULL AND remittance IS NOT NULL AND counterparty IS NOT NULL"
    " AND counterparty_account IS NOT NULL))",
    "CREATE INDEX ix_fiat_bank_lines_in_clear ON fiat_bank_lines (book, id) WHERE remittance IS NOT NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    for table in ("fiat_payout_batches", "fiat_payouts", "fiat_bank_messages"):
        grant_app(table, "SELECT, INSERT, UPDATE")
    grant_app("fiat_virtual_ibans", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
