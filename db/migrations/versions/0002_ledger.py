"""The ledger: books, assets, accounts, commands with their lines, holds, and the only functions that write them.

Inside, a book and an account are numbers and a hold is the seq of its command: rows and indexes stay narrow. Histories
are partitioned by (book, seq), so that their indexes stay small and old stretches can be moved or kept apart. No row of
a history points by a foreign key at an account: `ledger_write` checks once per batch what a key would check per row.
"""

from alembic import op

from db.migrations.ops import append_only, grant_app, grant_app_execute

revision = "0002_ledger"
down_revision = "0001_domains"

TABLES = """
CREATE TABLE ledger_books (
    number integer GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_ledger_books PRIMARY KEY,
    book text NOT NULL CONSTRAINT uq_ledger_books_book UNIQUE,
    seq bigint NOT NULL,
    booked_at timestamptz NOT NULL,
    closed_until timestamptz,
    accounts integer NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE ledger_assets (
    asset text CONSTRAINT pk_ledger_assets PRIMARY KEY,
    kind text NOT NULL,
    scale smallint NOT NULL CONSTRAINT ck_ledger_assets_scale_in_range CHECK (scale BETWEEN 0 AND 30)
);
CREATE TABLE ledger_accounts (
    book integer CONSTRAINT fk_ledger_accounts_book_ledger_books REFERENCES ledger_books,
    account integer,
    limited boolean NOT NULL,
    frozen boolean NOT NULL,
    closed boolean NOT NULL,
    name text NOT NULL,
    owner text NOT NULL,
    purpose text NOT NULL,
    asset text NOT NULL CONSTRAINT fk_ledger_accounts_asset_ledger_assets REFERENCES ledger_assets,
    credit_line amount NOT NULL,
    debits_posted amount NOT NULL,
    credits_posted amount NOT NULL,
    debits_pending amount NOT NULL,
    credits_pending amount NOT NULL,
    CONSTRAINT pk_ledger_accounts PRIMARY KEY (book, account),
    CONSTRAINT uq_ledger_accounts_book_name UNIQUE (book, name),
    CONSTRAINT ck_ledger_accounts_limit_respected
        CHECK (NOT limited OR debits_posted + debits_pending <= credits_posted + credit_line)
) WITH (fillfactor = 85);
CREATE INDEX ix_ledger_accounts_owner ON ledger_accounts (book, owner, asset);
CREATE INDEX ix_ledger_accounts_asset ON ledger_accounts (book, asset);
CREATE TABLE ledger_freezes (
    book integer CONSTRAINT fk_ledger_freezes_book_ledger_books REFERENCES ledger_books,
    scope text,
    target text,
    frozen boolean NOT NULL,
    CONSTRAINT pk_ledger_freezes PRIMARY KEY (book, scope, target)
);
CREATE TABLE ledger_counters (
    book integer,
    counter text,
    used amount NOT NULL,
    CONSTRAINT pk_ledger_counters PRIMARY KEY (book, counter)
) WITH (fillfactor = 70);
CREATE TABLE ledger_ids (
    seq bigint NOT NULL,
    book integer,
    key bytea CONSTRAINT ck_ledger_ids_key_length CHECK (octet_length(key) = 16),
    CONSTRAINT pk_ledger_ids PRIMARY KEY (book, key)
);
CREATE TABLE ledger_commands (
    seq bigint,
    booked_at timestamptz NOT NULL,
    effective_at timestamptz,
    book integer,
    kind text NOT NULL,
    id text NOT NULL,
    subject text,
    content bytea NOT NULL,
    refusal text,
    detail text,
    metadata_hash bytea,
    leaf bytea NOT NULL,
    CONSTRAINT pk_ledger_commands PRIMARY KEY (book, seq)
) PARTITION BY RANGE (book, seq);
CREATE INDEX ix_ledger_commands_subject ON ledger_commands (book, subject, seq) WHERE subject IS NOT NULL;
CREATE TABLE ledger_lines (
    seq bigint,
    book integer,
    debit integer NOT NULL,
    credit integer NOT NULL,
    line smallint,
    hold_posting smallint,
    hold bigint,
    kind text NOT NULL CONSTRAINT ck_ledger_lines_kind_known CHECK (kind IN ('posted', 'held', 'released')),
    amount amount NOT NULL CONSTRAINT ck_ledger_lines_amount_positive CHECK (amount > 0),
    debit_balance balance NOT NULL,
    credit_balance balance NOT NULL,
    CONSTRAINT pk_ledger_lines PRIMARY KEY (book, seq, line),
    CONSTRAINT ck_ledger_lines_two_accounts CHECK (debit <> credit)
) PARTITION BY RANGE (book, seq);
CREATE INDEX ix_ledger_lines_debit ON ledger_lines (book, debit, seq);
CREATE INDEX ix_ledger_lines_credit ON ledger_lines (book, credit, seq);
CREATE TABLE ledger_holds (
    hold bigint,
    expires_at timestamptz,
    book integer,
    debit integer NOT NULL,
    credit integer NOT NULL,
    posting smallint,
    state text NOT NULL CONSTRAINT ck_ledger_holds_state_known
        CHECK (state IN ('open', 'settled', 'voided', 'expired')),
    amount amount NOT NULL,
    remaining amount NOT NULL,
    charges text,
    CONSTRAINT pk_ledger_holds PRIMARY KEY (book, hold, posting),
    CONSTRAINT ck_ledger_holds_remainder_within CHECK (remaining <= amount)
) WITH (fillfactor = 80);
CREATE INDEX ix_ledger_holds_open ON ledger_holds (book, debit, hold) WHERE state = 'open';
CREATE INDEX ix_ledger_holds_expiry ON ledger_holds (book, expires_at)
    WHERE state = 'open' AND expires_at IS NOT NULL;
CREATE TABLE ledger_metadata (
    seq bigint,
    book integer,
    salt bytea NOT NULL,
    metadata jsonb NOT NULL,
    CONSTRAINT pk_ledger_metadata PRIMARY KEY (book, seq)
);
CREATE INDEX ix_ledger_metadata_search ON ledger_metadata USING gin (metadata jsonb_path_ops);
CREATE TABLE ledger_evidence (
    seq bigint,
    book integer,
    statement_line integer,
    block_number bigint,
    network text,
    block_hash text,
    tx_hash text,
    place text,
    bank_account text,
    statement text,
    CONSTRAINT pk_ledger_evidence PRIMARY KEY (book, seq),
    CONSTRAINT ck_ledger_evidence_one_kind CHECK ((network IS NULL) <> (statement IS NULL))
);
CREATE INDEX ix_ledger_evidence_block ON ledger_evidence (book, network, block_number) WHERE network IS NOT NULL;
CREATE INDEX ix_ledger_evidence_statement ON ledger_evidence (book, bank_account, statement, statement_line)
    WHERE statement IS NOT NULL;
CREATE TABLE ledger_backdated (
    seq bigint,
    effective_at timestamptz NOT NULL,
    book integer,
    account integer,
    line smallint,
    step balance NOT NULL,
    CONSTRAINT pk_ledger_backdated PRIMARY KEY (book, account, seq, line) INCLUDE (effective_at, step)
);
CREATE TABLE ledger_reversals (
    entry bigint,
    seq bigint,
    book integer,
    line smallint,
    amount amount NOT NULL,
    CONSTRAINT pk_ledger_reversals PRIMARY KEY (book, entry, line, seq)
)
"""

LOCK = """
CREATE FUNCTION ledger_lock(
    p_book text, OUT number integer, OUT seq bigint, OUT booked_at timestamptz, OUT closed_until timestamptz,
    OUT accounts integer
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    -- Under REPEATABLE READ what is read after the lock would be older than the lock.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the book is written under READ COMMITTED only';
    END IF;
    SELECT b.number, b.seq, b.booked_at, b.closed_until, b.accounts
      INTO number, seq, booked_at, closed_until, accounts
      FROM ledger_books b WHERE b.book = p_book FOR UPDATE;
END $$
"""

WRITE = """
CREATE FUNCTION ledger_write(
    p_book integer, p_head bigint, p_closed_until timestamptz, p_accounts integer,
    c_from bigint[], c_booked_at timestamptz[], c_kind text[], c_id text[], c_subject text[], c_refusal text[],
    c_keys bytea, c_contents bytea, c_leaves bytea, c_more jsonb,
    l_seq bigint[], l_line smallint[], l_kind text[], l_debit integer[], l_credit integer[], l_amount numeric[],
    l_debit_balance numeric[], l_credit_balance numeric[], l_hold bigint[], l_hold_posting smallint[],
    a_account integer[], a_debits numeric[], a_credits numeric[], a_balance numeric[],
    b_account integer[], b_debits numeric[], b_credits numeric[], b_balance numeric[], b_debits_pending numeric[],
    b_credits_pending numeric[], b_held numeric[],
    h_hold bigint[], h_posting smallint[], h_expires_at timestamptz[], h_debit integer[], h_credit integer[],
    h_amount numeric[], h_remaining numeric[], h_state text[], h_charges text[],
    u_hold bigint[], u_posting smallint[], u_remaining numeric[], u_state text[],
    p_rest jsonb
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    fitting bigint;
    altered integer[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the book is written under READ COMMITTED only';
    END IF;
    -- The lock, in a statement of its own: what follows sees all that was committed before it.
    UPDATE ledger_books
       SET seq = p_head + cardinality(c_id), booked_at = c_booked_at[cardinality(c_booked_at)],
           closed_until = p_closed_until, accounts = p_accounts
     WHERE number = p_book AND seq = p_head AND booked_at <= c_booked_at[1] AND accounts <= p_accounts;
    IF NOT FOUND THEN
        RETURN false;
    END IF;

    IF p_rest ? 'accounts' THEN
        INSERT INTO ledger_accounts (book, account, limited, frozen, closed, name, owner, purpose, asset, credit_line,
                                     debits_posted, credits_posted, debits_pending, credits_pending)
        SELECT p_book, a.account, a.limited, false, false, a.name, a.owner, a.purpose, a.asset, 0, 0, 0, 0, 0
          FROM jsonb_to_recordset(p_rest -> 'accounts') AS a(
               account integer, limited boolean, name text, owner text, purpose text, asset text);
    END IF;
    IF p_rest ? 'flags' THEN
        -- What a lower credit line demands may be paid back by this very batch: see below.
        UPDATE ledger_accounts a
           SET frozen = f.frozen, closed = f.closed, credit_line = greatest(a.credit_line, f.credit_line)
          FROM jsonb_to_recordset(p_rest -> 'flags') AS f(
               account integer, frozen boolean, closed boolean, credit_line amount)
         WHERE a.book = p_book AND a.account = f.account;
    END IF;

    -- Arrays are taken apart in the select list, side by side: in FROM each would be stored first.
    INSERT INTO ledger_ids (book, key, seq)
    SELECT p_book, substr(c_keys, c.place * 16 - 15, 16), p_head + c.place
      FROM (SELECT generate_series(1, cardinality(c_id)) AS place) AS c;
    INSERT INTO ledger_commands (book, seq, booked_at, effective_at, kind, id, subject, content, refusal, detail,
                                 metadata_hash, leaf)
    SELECT p_book, p_head + c.place, c_booked_at[width_bucket(c.place, c_from)],
           (c_more -> c.place::text ->> 'effective_at')::timestamptz, c.kind, c.id, nullif(c.subject, ''),
           substr(c_contents, c.place * 32 - 31, 32), nullif(c.refusal, ''),
           c_more -> c.place::text ->> 'detail',
           decode(c_more -> c.place::text ->> 'metadata_hash', 'hex'), substr(c_leaves, c.place * 32 - 31, 32)
      FROM (SELECT generate_series(1, cardinality(c_id)) AS place, unnest(c_kind) AS kind, unnest(c_id) AS id,
                   unnest(c_subject) AS subject, unnest(c_refusal) AS refusal) AS c;

    -- The book comes out of the subquery too, so that the planner has one way to go: from there into the key. (With a
    -- parameter a plan made for a short table could begin with the table, and would be kept for a long one.)
    IF cardinality(a_account) > 0 THEN
        UPDATE ledger_accounts a
           SET debits_posted = a.debits_posted + d.debits, credits_posted = a.credits_posted + d.credits
          FROM (SELECT p_book AS book, unnest(a_account) AS account, unnest(a_debits) AS debits,
                       unnest(a_credits) AS credits, unnest(a_balance) AS balance) AS d
         WHERE a.book = d.book AND a.account = d.account
           AND a.credits_posted - a.debits_posted = d.balance - d.credits + d.debits;
        GET DIAGNOSTICS fitting = ROW_COUNT;
        IF fitting <> cardinality(a_account) THEN
            SELECT array_agg(d.account) INTO altered
              FROM unnest(a_account, a_balance) AS d(account, balance) LEFT JOIN ledger_accounts a
                   ON a.book = p_book AND a.account = d.account AND a.credits_posted - a.debits_posted = d.balance
             WHERE a.account IS NULL;
            RAISE EXCEPTION 'book %: some accounts are not what was decided on', p_book
                USING ERRCODE = 'OB002', DETAIL = altered::text;
        END IF;
    END IF;
    IF cardinality(b_account) > 0 THEN
        UPDATE ledger_accounts a
           SET debits_posted = a.debits_posted + d.debits, credits_posted = a.credits_posted + d.credits,
               debits_pending = a.debits_pending + d.debits_pending,
               credits_pending = a.credits_pending + d.credits_pending
          FROM (SELECT p_book AS book, unnest(b_account) AS account, unnest(b_debits) AS debits,
                       unnest(b_credits) AS credits, unnest(b_balance) AS balance,
                       unnest(b_debits_pending) AS debits_pending, unnest(b_credits_pending) AS credits_pending,
                       unnest(b_held) AS held) AS d
         WHERE a.book = d.book AND a.account = d.account
           AND a.credits_posted - a.debits_posted = d.balance - d.credits + d.debits
           AND a.debits_pending = d.held - d.debits_pending;
        GET DIAGNOSTICS fitting = ROW_COUNT;
        IF fitting <> cardinality(b_account) THEN
            SELECT array_agg(d.account) INTO altered
              FROM unnest(b_account, b_balance, b_held) AS d(account, balance, held) LEFT JOIN ledger_accounts a
                   ON a.book = p_book AND a.account = d.account AND a.credits_posted - a.debits_posted = d.balance
                      AND a.debits_pending = d.held
             WHERE a.account IS NULL;
            RAISE EXCEPTION 'book %: some accounts are not what was decided on', p_book
                USING ERRCODE = 'OB002', DETAIL = altered::text;
        END IF;
    END IF;
    IF p_rest ? 'flags' THEN
        UPDATE ledger_accounts a SET credit_line = f.credit_line
          FROM jsonb_to_recordset(p_rest -> 'flags') AS f(account integer, credit_line amount)
         WHERE a.book = p_book AND a.account = f.account AND a.credit_line <> f.credit_line;
    END IF;
    IF cardinality(l_seq) > 0 THEN
        INSERT INTO ledger_lines (book, seq, line, kind, debit, credit, amount, debit_balance, credit_balance, hold,
                                  hold_posting)
        SELECT p_book, l.seq, l.line, l.kind, l.debit, l.credit, l.amount, l.debit_balance, l.credit_balance, l.hold,
               l.hold_posting
          FROM (SELECT unnest(l_seq) AS seq, unnest(l_line) AS line, unnest(l_kind) AS kind, unnest(l_debit) AS debit,
                       unnest(l_credit) AS credit, unnest(l_amount) AS amount,
                       unnest(l_debit_balance) AS debit_balance, unnest(l_credit_balance) AS credit_balance,
                       unnest(l_hold) AS hold, unnest(l_hold_posting) AS hold_posting) AS l;
    END IF;

    IF cardinality(h_hold) > 0 THEN
        INSERT INTO ledger_holds (book, hold, posting, expires_at, debit, credit, amount, remaining, state, charges)
        SELECT p_book, h.hold, h.posting, h.expires_at, h.debit, h.credit, h.amount, h.remaining,
               h.state, nullif(h.charges, '')
          FROM (SELECT unnest(h_hold) AS hold, unnest(h_posting) AS posting, unnest(h_expires_at) AS expires_at,
                       unnest(h_debit) AS debit, unnest(h_credit) AS credit, unnest(h_amount) AS amount,
                       unnest(h_remaining) AS remaining, unnest(h_state) AS state, unnest(h_charges) AS charges) AS h;
    END IF;
    -- Here LATERAL with LIMIT leaves one way to go: an index on open holds would fit the state.
    IF cardinality(u_hold) > 0 THEN
        UPDATE ledger_holds h SET remaining = u.remaining, state = u.state
          FROM (SELECT unnest(u_hold) AS hold, unnest(u_posting) AS posting, unnest(u_remaining) AS remaining,
                       unnest(u_state) AS state) AS u,
               LATERAL (SELECT f.ctid FROM ledger_holds f
                         WHERE f.book = p_book AND f.hold = u.hold AND f.posting = u.posting LIMIT 1) AS place
         WHERE h.ctid = place.ctid AND h.state = 'open' AND h.remaining >= u.remaining;
        GET DIAGNOSTICS fitting = ROW_COUNT;
        IF fitting <> cardinality(u_hold) THEN
            SELECT array_agg(DISTINCT h.debit) INTO altered
              FROM unnest(u_hold, u_posting, u_remaining, u_state) AS u(hold, posting, remaining, state),
                   LATERAL (SELECT * FROM ledger_holds WHERE book = p_book AND ledger_holds.hold = u.hold
                             ORDER BY posting LIMIT 10000) AS h
             WHERE h.posting = u.posting AND (h.remaining, h.state) IS DISTINCT FROM (u.remaining, u.state);
            RAISE EXCEPTION 'book %: some holds are not what was decided on', p_book
                USING ERRCODE = 'OB002', DETAIL = coalesce(altered::text, '{}');
        END IF;
    END IF;
    IF p_rest IS NOT NULL THEN
        PERFORM ledger_write_rest(p_book, p_rest);
    END IF;
    RETURN true;
END $$
"""

WRITE_REST = """
CREATE FUNCTION ledger_write_rest(p_book integer, p_rest jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO ledger_freezes (book, scope, target, frozen)
    SELECT p_book, f.scope, f.target, f.frozen
      FROM jsonb_to_recordset(p_rest -> 'freezes') AS f(scope text, target text, frozen boolean)
        ON CONFLICT (book, scope, target) DO UPDATE SET frozen = excluded.frozen;
    INSERT INTO ledger_counters (book, counter, used)
    SELECT p_book, c.counter, c.used FROM jsonb_to_recordset(p_rest -> 'counters') AS c(counter text, used amount)
        ON CONFLICT (book, counter) DO UPDATE SET used = excluded.used;
    INSERT INTO ledger_metadata (book, seq, salt, metadata)
    SELECT p_book, m.seq, decode(m.salt, 'hex'), m.metadata
      FROM jsonb_to_recordset(p_rest -> 'metadata') AS m(seq bigint, salt text, metadata jsonb);
    INSERT INTO ledger_evidence (book, seq, network, block_number, block_hash, tx_hash, place, bank_account, statement,
                                 statement_line)
    SELECT p_book, e.seq, e.network, e.block_number, e.block_hash, e.tx_hash, e.place, e.bank_account, e.statement,
           e.statement_line
      FROM jsonb_to_recordset(p_rest -> 'evidence') AS e(
           seq bigint, network text, block_number bigint, block_hash text, tx_hash text, place text,
           bank_account text, statement text, statement_line integer);
    INSERT INTO ledger_backdated (book, account, seq, line, effective_at, step)
    SELECT p_book, b.account, b.seq, b.line, b.effective_at, b.step
      FROM jsonb_to_recordset(p_rest -> 'backdated') AS b(
           account integer, seq bigint, line smallint, effective_at timestamptz, step balance);
    INSERT INTO ledger_reversals (book, entry, line, seq, amount)
    SELECT p_book, r.entry, r.line, r.seq, r.amount
      FROM jsonb_to_recordset(p_rest -> 'reversals') AS r(entry bigint, line smallint, seq bigint, amount amount);
END $$
"""

PARTITIONS = """
CREATE FUNCTION ledger_extend(p_book integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    size constant bigint := 8388608;  -- commands in a partition
    head bigint;
    first bigint;
    parent text;
    part text;
BEGIN
    -- Makes the partitions that the book's next `size` commands need; returns the first seq beyond them.
    PERFORM pg_advisory_xact_lock(7306093, p_book);
    SELECT seq INTO head FROM ledger_books WHERE number = p_book;
    FOR first IN SELECT step * size FROM generate_series(head / size, head / size + 1) AS step LOOP
        FOREACH parent IN ARRAY ARRAY['ledger_commands', 'ledger_lines'] LOOP
            part := format('%s_%s_%s', parent, p_book, first / size);
            IF to_regclass(part) IS NULL THEN
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
                EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON %I'
                    ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', part);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s, %s) TO (%s, %s)',
                    parent, part, p_book, first, p_book, first + size);
            END IF;
        END LOOP;
    END LOOP;
    RETURN first + size;
END $$
"""

CREATE_BOOK = """
CREATE FUNCTION ledger_create_book(p_book text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO ledger_books (book, seq, booked_at, accounts) VALUES (p_book, 0, 'epoch', 0) ON CONFLICT DO NOTHING;
    PERFORM ledger_extend(number) FROM ledger_books WHERE book = p_book;
END $$
"""

REGISTER_ASSET = """
CREATE FUNCTION ledger_register_asset(p_asset text, p_kind text, p_scale smallint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO ledger_assets VALUES (p_asset, p_kind, p_scale) ON CONFLICT DO NOTHING
$$
"""

ERASE_METADATA = """
CREATE FUNCTION ledger_erase_metadata(p_book text, p_id_key bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    -- The command keeps its salted hash: the book still proves, and no longer tells.
    DELETE FROM ledger_metadata m USING ledger_books b, ledger_ids i
     WHERE b.book = p_book AND i.book = b.number AND i.key = p_id_key AND m.book = b.number AND m.seq = i.seq;
    RETURN FOUND;
END $$
"""

# Plans of these never change with what the tables' statistics happen to say: always by index, planned once.
# (A plan made for an empty table would be kept for a long one; LATERAL with LIMIT leaves it only one way to go.)
BY_INDEX = """LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off"""

FIND_IDS = f"""
CREATE FUNCTION ledger_find_ids(p_book integer, p_keys bytea[]) RETURNS TABLE (key bytea, seq bigint) {BY_INDEX} AS $$
BEGIN
    RETURN QUERY
    SELECT wanted.key, found.seq
      FROM unnest(p_keys) AS wanted(key), LATERAL (
           SELECT i.seq FROM ledger_ids i WHERE i.book = p_book AND i.key = wanted.key LIMIT 1) AS found;
END $$
"""

FIND_ACCOUNTS = f"""
CREATE FUNCTION ledger_find_accounts(p_book integer, p_names text[]) RETURNS SETOF ledger_accounts {BY_INDEX} AS $$
BEGIN
    RETURN QUERY
    SELECT found.*
      FROM unnest(p_names) AS wanted(name), LATERAL (
           SELECT * FROM ledger_accounts a WHERE a.book = p_book AND a.name = wanted.name LIMIT 1) AS found;
END $$
"""

FIND_HOLDS = f"""
CREATE FUNCTION ledger_find_holds(p_book integer, p_holds bigint[]) RETURNS TABLE (
    hold bigint, state text, expires_at timestamptz, charges text, debit integer, credit integer, debit_name text,
    credit_name text, asset text, amount text, remaining text
) {BY_INDEX} AS $$
BEGIN
    RETURN QUERY
    SELECT h.hold, h.state, h.expires_at, h.charges, h.debit, h.credit, d.name, c.name, d.asset, h.amount::text,
           h.remaining::text
      FROM unnest(p_holds) AS wanted(hold),
           LATERAL (SELECT * FROM ledger_holds WHERE book = p_book AND ledger_holds.hold = wanted.hold
                     ORDER BY posting LIMIT 10000) AS h,
           LATERAL (SELECT name, a.asset FROM ledger_accounts a WHERE book = p_book AND account = h.debit LIMIT 1) AS d,
           LATERAL (SELECT name FROM ledger_accounts WHERE book = p_book AND account = h.credit LIMIT 1) AS c
     ORDER BY h.hold, h.posting;
END $$
"""

FIND_LINES = f"""
CREATE FUNCTION ledger_find_lines(p_book integer, p_seqs bigint[]) RETURNS TABLE (
    seq bigint, kind text, debit text, credit text, asset text, amount text, debit_balance text, credit_balance text,
    hold text, hold_posting smallint
) {BY_INDEX} AS $$
BEGIN
    RETURN QUERY
    SELECT l.seq, l.kind, d.name, c.name, d.asset, l.amount::text, l.debit_balance::text, l.credit_balance::text,
           (SELECT h.id FROM ledger_commands h WHERE h.book = p_book AND h.seq = l.hold), l.hold_posting
      FROM unnest(p_seqs) AS wanted(seq),
           LATERAL (SELECT * FROM ledger_lines WHERE book = p_book AND ledger_lines.seq = wanted.seq
                     ORDER BY line LIMIT 32767) AS l,
           LATERAL (SELECT name, a.asset FROM ledger_accounts a WHERE book = p_book AND account = l.debit LIMIT 1) AS d,
           LATERAL (SELECT name FROM ledger_accounts WHERE book = p_book AND account = l.credit LIMIT 1) AS c
     ORDER BY l.seq, l.line;
END $$
"""

FIND_COMMANDS = f"""
CREATE FUNCTION ledger_find_commands(p_book integer, p_seqs bigint[]) RETURNS SETOF ledger_commands {BY_INDEX} AS $$
BEGIN
    RETURN QUERY
    SELECT found.*
      FROM unnest(p_seqs) AS wanted(seq), LATERAL (
           SELECT * FROM ledger_commands c WHERE c.book = p_book AND c.seq = wanted.seq LIMIT 1) AS found
     ORDER BY found.seq;
END $$
"""

SEQ_AT = """
CREATE FUNCTION ledger_seq_at(p_book integer, p_at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := 0;   -- booked at or before p_at
    high bigint;       -- booked after it
    middle bigint;
    at timestamptz;
BEGIN
    -- The last command booked at or before an instant. booked_at never falls as seq rises, so halving finds it.
    SELECT seq + 1 INTO high FROM ledger_books WHERE number = p_book;
    WHILE high - low > 1 LOOP
        middle := (low + high) / 2;
        SELECT booked_at INTO at FROM ledger_commands WHERE book = p_book AND seq = middle;
        IF at <= p_at THEN low := middle; ELSE high := middle; END IF;
    END LOOP;
    RETURN low;
END $$
"""

HISTORIES = ("ledger_commands", "ledger_lines", "ledger_assets", "ledger_evidence", "ledger_backdated")
STATES = ("ledger_books", "ledger_accounts", "ledger_freezes", "ledger_counters", "ledger_holds", "ledger_metadata")


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for function in (LOCK, WRITE_REST, WRITE, PARTITIONS, CREATE_BOOK, REGISTER_ASSET, ERASE_METADATA, SEQ_AT):
        op.execute(function)
    for function in (FIND_IDS, FIND_ACCOUNTS, FIND_HOLDS, FIND_LINES, FIND_COMMANDS):
        op.execute(function)
    for history in (*HISTORIES, "ledger_ids", "ledger_reversals"):
        append_only(history)
    for table in (*HISTORIES, "ledger_ids", "ledger_reversals", *STATES):
        grant_app(table, "SELECT")
    write_arguments = WRITE[WRITE.index("(") + 1 : WRITE.index(") RETURNS")]
    types = ", ".join(argument.split()[-1] for argument in write_arguments.split(","))
    for signature in (
        "ledger_lock(text)",
        f"ledger_write({types})",
        "ledger_extend(integer)",
        "ledger_create_book(text)",
        "ledger_register_asset(text, text, smallint)",
        "ledger_erase_metadata(text, bytea)",
        "ledger_seq_at(integer, timestamptz)",
        "ledger_find_ids(integer, bytea[])",
        "ledger_find_accounts(integer, text[])",
        "ledger_find_holds(integer, bigint[])",
        "ledger_find_lines(integer, bigint[])",
        "ledger_find_commands(integer, bigint[])",
    ):
        grant_app_execute(signature)
    op.execute("REVOKE ALL ON FUNCTION ledger_write_rest(integer, jsonb) FROM PUBLIC")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
