"""The ledger: books, assets, accounts, commands with their lines, holds, and the only functions that write them."""

from alembic import op

from db.migrations.ops import append_only, grant_app, grant_app_execute

revision = "0002_ledger"
down_revision = "0001_domains"

TABLES = """
CREATE TABLE ledger_books (
    book text CONSTRAINT pk_ledger_books PRIMARY KEY,
    seq bigint NOT NULL,
    booked_at timestamptz NOT NULL
);
CREATE TABLE ledger_assets (
    asset text CONSTRAINT pk_ledger_assets PRIMARY KEY,
    kind text NOT NULL,
    scale smallint NOT NULL CONSTRAINT ck_ledger_assets_scale_in_range CHECK (scale BETWEEN 0 AND 30)
);
CREATE TABLE ledger_accounts (
    book text CONSTRAINT fk_ledger_accounts_book_ledger_books REFERENCES ledger_books,
    account text,
    owner text NOT NULL,
    purpose text NOT NULL,
    asset text NOT NULL CONSTRAINT fk_ledger_accounts_asset_ledger_assets REFERENCES ledger_assets,
    limited boolean NOT NULL,
    frozen boolean NOT NULL,
    closed boolean NOT NULL,
    credit_line amount NOT NULL,
    debits_posted amount NOT NULL,
    credits_posted amount NOT NULL,
    debits_pending amount NOT NULL,
    credits_pending amount NOT NULL,
    CONSTRAINT pk_ledger_accounts PRIMARY KEY (book, account),
    CONSTRAINT ck_ledger_accounts_limit_respected
        CHECK (NOT limited OR debits_posted + debits_pending <= credits_posted + credit_line)
);
CREATE INDEX ix_ledger_accounts_owner ON ledger_accounts (book, owner, asset);
CREATE INDEX ix_ledger_accounts_asset ON ledger_accounts (book, asset);
CREATE TABLE ledger_freezes (
    book text CONSTRAINT fk_ledger_freezes_book_ledger_books REFERENCES ledger_books,
    scope text,
    target text,
    frozen boolean NOT NULL,
    CONSTRAINT pk_ledger_freezes PRIMARY KEY (book, scope, target)
);
CREATE TABLE ledger_commands (
    book text CONSTRAINT fk_ledger_commands_book_ledger_books REFERENCES ledger_books,
    seq bigint,
    id text NOT NULL,
    kind text NOT NULL,
    subject text,
    content bytea NOT NULL,
    refusal jsonb,
    terms jsonb NOT NULL,
    evidence jsonb,
    network text,
    block_number bigint,
    block_hash text,
    bank_account text,
    statement text,
    statement_line integer,
    booked_at timestamptz NOT NULL,
    effective_at timestamptz,
    salt bytea NOT NULL,
    metadata jsonb NOT NULL,
    leaf bytea NOT NULL,
    CONSTRAINT pk_ledger_commands PRIMARY KEY (book, seq),
    CONSTRAINT uq_ledger_commands_book_id UNIQUE (book, id)
);
CREATE INDEX ix_ledger_commands_subject ON ledger_commands (book, subject, seq) WHERE subject IS NOT NULL;
CREATE INDEX ix_ledger_commands_block ON ledger_commands (network, block_number) WHERE network IS NOT NULL;
CREATE INDEX ix_ledger_commands_statement ON ledger_commands (bank_account, statement, statement_line)
    WHERE statement IS NOT NULL;
CREATE INDEX ix_ledger_commands_booked_at ON ledger_commands (book, booked_at);
CREATE TABLE ledger_lines (
    book text,
    seq bigint,
    line smallint,
    kind text NOT NULL CONSTRAINT ck_ledger_lines_kind_known CHECK (kind IN ('posted', 'held', 'released')),
    debit text NOT NULL,
    credit text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL CONSTRAINT ck_ledger_lines_amount_positive CHECK (amount > 0),
    debit_balance balance NOT NULL,
    credit_balance balance NOT NULL,
    hold text,
    hold_posting smallint,
    CONSTRAINT pk_ledger_lines PRIMARY KEY (book, seq, line),
    CONSTRAINT ck_ledger_lines_two_accounts CHECK (debit <> credit),
    CONSTRAINT fk_ledger_lines_book_ledger_commands FOREIGN KEY (book, seq) REFERENCES ledger_commands,
    CONSTRAINT fk_ledger_lines_debit FOREIGN KEY (book, debit) REFERENCES ledger_accounts,
    CONSTRAINT fk_ledger_lines_credit FOREIGN KEY (book, credit) REFERENCES ledger_accounts
);
CREATE INDEX ix_ledger_lines_debit ON ledger_lines (book, debit, seq, line);
CREATE INDEX ix_ledger_lines_credit ON ledger_lines (book, credit, seq, line);
CREATE TABLE ledger_holds (
    book text CONSTRAINT fk_ledger_holds_book_ledger_books REFERENCES ledger_books,
    hold text,
    state text NOT NULL CONSTRAINT ck_ledger_holds_state_known
        CHECK (state IN ('open', 'settled', 'voided', 'expired')),
    expires_at timestamptz,
    CONSTRAINT pk_ledger_holds PRIMARY KEY (book, hold)
);
CREATE INDEX ix_ledger_holds_expiry ON ledger_holds (book, expires_at)
    WHERE state = 'open' AND expires_at IS NOT NULL;
CREATE TABLE ledger_hold_postings (
    book text,
    hold text,
    posting smallint,
    debit text NOT NULL,
    credit text NOT NULL,
    asset text NOT NULL,
    amount amount NOT NULL,
    remaining amount NOT NULL,
    CONSTRAINT pk_ledger_hold_postings PRIMARY KEY (book, hold, posting),
    CONSTRAINT fk_ledger_hold_postings_hold FOREIGN KEY (book, hold) REFERENCES ledger_holds,
    CONSTRAINT ck_ledger_hold_postings_remainder_within CHECK (remaining <= amount)
);
CREATE INDEX ix_ledger_hold_postings_open ON ledger_hold_postings (book, debit) WHERE remaining > 0
"""

LOCK = """
CREATE FUNCTION ledger_lock(p_book text, OUT seq bigint, OUT booked_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    -- Under REPEATABLE READ what is read after the lock would be older than the lock.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the book is written under READ COMMITTED only';
    END IF;
    SELECT b.seq, b.booked_at INTO seq, booked_at FROM ledger_books b WHERE b.book = p_book FOR UPDATE;
END $$
"""

WRITE = """
CREATE FUNCTION ledger_write(p_book text, p_head_seq bigint, p_booked_at timestamptz, p_payload jsonb)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE ledger_books
       SET seq = seq + jsonb_array_length(p_payload -> 'commands'), booked_at = p_booked_at
     WHERE book = p_book AND seq = p_head_seq AND booked_at <= p_booked_at;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'book % is not at seq %: it was decided without the lock', p_book, p_head_seq;
    END IF;

    INSERT INTO ledger_accounts
    SELECT p_book, a.id, a.owner, a.purpose, a.asset, a.limited, a.frozen, a.closed, a.credit_line,
           a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending
      FROM jsonb_to_recordset(p_payload -> 'accounts') AS a(
           id text, owner text, purpose text, asset text, limited boolean, frozen boolean, closed boolean,
           credit_line amount, debits_posted amount, credits_posted amount, debits_pending amount,
           credits_pending amount)
        ON CONFLICT (book, account) DO UPDATE
       SET frozen = excluded.frozen, closed = excluded.closed, credit_line = excluded.credit_line,
           debits_posted = excluded.debits_posted, credits_posted = excluded.credits_posted,
           debits_pending = excluded.debits_pending, credits_pending = excluded.credits_pending;

    INSERT INTO ledger_commands
    SELECT p_book, c.seq, c.id, c.kind, c.subject, decode(c.content, 'hex'), nullif(c.refusal, 'null'), c.terms,
           nullif(c.evidence, 'null'), c.network, c.block_number, c.block_hash, c.bank_account, c.statement,
           c.statement_line, p_booked_at, c.effective_at, decode(c.salt, 'hex'), c.metadata, decode(c.leaf, 'hex')
      FROM jsonb_to_recordset(p_payload -> 'commands') AS c(
           seq bigint, id text, kind text, subject text, content text, refusal jsonb, terms jsonb, evidence jsonb,
           network text, block_number bigint, block_hash text, bank_account text, statement text,
           statement_line integer, effective_at timestamptz, salt text, metadata jsonb, leaf text);

    INSERT INTO ledger_lines
    SELECT p_book, l.seq, l.line, l.kind, l.debit, l.credit, l.asset, l.amount, l.debit_balance, l.credit_balance,
           l.hold, l.hold_posting
      FROM jsonb_to_recordset(p_payload -> 'lines') AS l(
           seq bigint, line smallint, kind text, debit text, credit text, asset text, amount amount,
           debit_balance balance, credit_balance balance, hold text, hold_posting smallint);

    INSERT INTO ledger_holds
    SELECT p_book, h.hold, h.state, h.expires_at
      FROM jsonb_to_recordset(p_payload -> 'holds') AS h(hold text, state text, expires_at timestamptz)
        ON CONFLICT (book, hold) DO UPDATE SET state = excluded.state;

    INSERT INTO ledger_hold_postings
    SELECT p_book, p.hold, p.posting, p.debit, p.credit, p.asset, p.amount, p.remaining
      FROM jsonb_to_recordset(p_payload -> 'hold_postings') AS p(
           hold text, posting smallint, debit text, credit text, asset text, amount amount, remaining amount)
        ON CONFLICT (book, hold, posting) DO UPDATE SET remaining = excluded.remaining;

    INSERT INTO ledger_freezes
    SELECT p_book, f.scope, f.target, f.frozen
      FROM jsonb_to_recordset(p_payload -> 'freezes') AS f(scope text, target text, frozen boolean)
        ON CONFLICT (book, scope, target) DO UPDATE SET frozen = excluded.frozen;
END $$
"""

CREATE_BOOK = """
CREATE FUNCTION ledger_create_book(p_book text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO ledger_books VALUES (p_book, 0, 'epoch') ON CONFLICT DO NOTHING
$$
"""

REGISTER_ASSET = """
CREATE FUNCTION ledger_register_asset(p_asset text, p_kind text, p_scale smallint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO ledger_assets VALUES (p_asset, p_kind, p_scale) ON CONFLICT DO NOTHING
$$
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for function in (LOCK, WRITE, CREATE_BOOK, REGISTER_ASSET):
        op.execute(function)
    for history in ("ledger_commands", "ledger_lines", "ledger_assets"):
        append_only(history)
    for table in (
        "ledger_books",
        "ledger_assets",
        "ledger_accounts",
        "ledger_freezes",
        "ledger_commands",
        "ledger_lines",
        "ledger_holds",
        "ledger_hold_postings",
    ):
        grant_app(table, "SELECT")
    for signature in (
        "ledger_lock(text)",
        "ledger_write(text, bigint, timestamptz, jsonb)",
        "ledger_create_book(text)",
        "ledger_register_asset(text, text, smallint)",
    ):
        grant_app_execute(signature)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
