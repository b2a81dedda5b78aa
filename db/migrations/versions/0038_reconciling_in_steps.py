"""Reconciling in steps: what was checked of the book, balances sampled on chain, and what a break stands on.

Digests are exclusive ors of 64-bit hashes: independent of order, and carried on by what is added. They tell that
something isn't as it was, never what; that is read from the rows. Hashes differ between PostgreSQL's major versions,
so the version that they were made by stands beside them.
"""

from alembic import op

from db.migrations.ops import grant_app

revision = "0038_reconciling"
down_revision = "0043_operations"

FUNCTIONS = (
    """
CREATE FUNCTION treasury_counters_digest(
    account integer, debits_posted numeric, credits_posted numeric, debits_pending numeric, credits_pending numeric
) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN debits_posted = 0 AND credits_posted = 0 AND debits_pending = 0 AND credits_pending = 0 THEN 0::bigint
        ELSE hash_numeric_extended(credits_pending, hash_numeric_extended(debits_pending,
             hash_numeric_extended(credits_posted, hash_numeric_extended(debits_posted, account)))) END
$$
""",
    """
CREATE FUNCTION treasury_line_digest(
    seq bigint, line smallint, kind text, debit integer, credit integer, amount numeric, debit_balance numeric,
    credit_balance numeric, hold bigint, hold_posting smallint
) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT hash_numeric_extended(credit_balance, hash_numeric_extended(debit_balance, hash_numeric_extended(amount,
           hashint8extended((debit::bigint << 32) | credit, hashint8extended(
           (coalesce(hold, -1) << 8) | ascii(kind), hashint8extended(
           (seq << 15) | line, coalesce(hold_posting, -1)::bigint))))))
$$
""",
)

TABLES = (
    """
CREATE TABLE treasury_book_checks (
    book integer NOT NULL, seq bigint NOT NULL, server integer NOT NULL, rewritten bigint NOT NULL,
    next_bucket bigint NOT NULL, checked_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_book_checks PRIMARY KEY (book))
""",
    """
CREATE TABLE treasury_book_counters (
    book integer NOT NULL, account integer NOT NULL, debits_posted balance NOT NULL, credits_posted balance NOT NULL,
    debits_pending balance NOT NULL, credits_pending balance NOT NULL,
    CONSTRAINT pk_treasury_book_counters PRIMARY KEY (book, account)) WITH (fillfactor = 85)
""",
    """
CREATE TABLE treasury_book_digests (
    book integer NOT NULL, part text NOT NULL, bucket bigint NOT NULL, rows bigint NOT NULL, digest bigint NOT NULL,
    found_rows bigint, found_digest bigint, altered jsonb,
    CONSTRAINT pk_treasury_book_digests PRIMARY KEY (book, part, bucket),
    CONSTRAINT ck_treasury_book_digests_part_known CHECK (part IN ('accounts', 'lines')),
    CONSTRAINT ck_treasury_book_digests_found_whole CHECK (
        (found_rows IS NULL) = (found_digest IS NULL) AND (found_rows IS NULL) = (altered IS NULL)))
""",
    """
CREATE TABLE treasury_samples (
    network text NOT NULL, block_hash text NOT NULL, block_number bigint NOT NULL, mined_at timestamptz NOT NULL,
    taken_at timestamptz NOT NULL, judged_at timestamptz, held jsonb NOT NULL, deviating jsonb NOT NULL,
    CONSTRAINT pk_treasury_samples PRIMARY KEY (network, block_hash))
""",
    "CREATE INDEX ix_treasury_samples_number ON treasury_samples (network, block_number)",
    "CREATE INDEX ix_chain_blocks_orphaned ON chain_blocks (network, number) WHERE orphaned",
    "ALTER TABLE treasury_breaks ADD evidence jsonb NOT NULL DEFAULT '[]', ADD seen_in text NOT NULL DEFAULT ''",
    "ALTER TABLE treasury_reconciliations ADD changed boolean NOT NULL DEFAULT true",
    "CREATE INDEX ix_treasury_reconciliations_quiet ON treasury_reconciliations (book, finished_at) WHERE NOT changed",
)


def upgrade() -> None:
    for statement in (*FUNCTIONS, *TABLES):
        op.execute(statement)
    for table in ("treasury_book_checks", "treasury_book_counters", "treasury_book_digests", "treasury_samples"):
        grant_app(table, "SELECT, INSERT, UPDATE, DELETE")
    grant_app("treasury_reconciliations", "DELETE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
