"""Seals: signed statements over contiguous stretches of the book, written by one function and never changed."""

from alembic import op

from db.migrations.ops import append_only, grant_app, grant_app_execute

revision = "0008_seals"
down_revision = "0007_treasury"

TABLE = """
CREATE TABLE ledger_seals (
    book integer CONSTRAINT fk_ledger_seals_book_ledger_books REFERENCES ledger_books,
    number integer CONSTRAINT ck_ledger_seals_number_positive CHECK (number > 0),
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    root bytea NOT NULL CONSTRAINT ck_ledger_seals_root_length CHECK (octet_length(root) = 32),
    previous bytea CONSTRAINT ck_ledger_seals_previous_length CHECK (octet_length(previous) = 32),
    sealed_at timestamptz NOT NULL,
    signature bytea NOT NULL CONSTRAINT ck_ledger_seals_signature_length CHECK (octet_length(signature) = 64),
    key bytea NOT NULL CONSTRAINT ck_ledger_seals_key_length CHECK (octet_length(key) = 32),
    CONSTRAINT pk_ledger_seals PRIMARY KEY (book, number),
    CONSTRAINT uq_ledger_seals_book_last_seq UNIQUE (book, last_seq),
    CONSTRAINT ck_ledger_seals_range_not_empty CHECK (first_seq <= last_seq),
    CONSTRAINT ck_ledger_seals_chained CHECK ((number = 1) = (previous IS NULL))
)
"""

SEAL = """
CREATE FUNCTION ledger_seal(
    p_book integer, p_number integer, p_first_seq bigint, p_last_seq bigint, p_root bytea, p_previous bytea,
    p_sealed_at timestamptz, p_signature bytea, p_key bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    earlier ledger_seals%ROWTYPE;
    head bigint;
BEGIN
    -- One at a time; whoever finds that another sealed meanwhile is told false and looks again.
    PERFORM pg_advisory_xact_lock(7306094, p_book);
    SELECT * INTO earlier FROM ledger_seals WHERE book = p_book ORDER BY number DESC LIMIT 1;
    IF p_number <> coalesce(earlier.number, 0) + 1 OR p_first_seq <> coalesce(earlier.last_seq, 0) + 1 THEN
        RETURN false;
    END IF;
    SELECT seq INTO head FROM ledger_books WHERE number = p_book;
    IF p_last_seq > head OR p_sealed_at < earlier.sealed_at THEN
        RAISE EXCEPTION 'book %: a seal covers what is booked, and time never falls', p_book;
    END IF;
    INSERT INTO ledger_seals (book, number, first_seq, last_seq, root, previous, sealed_at, signature, key)
    VALUES (p_book, p_number, p_first_seq, p_last_seq, p_root, p_previous, p_sealed_at, p_signature, p_key);
    RETURN true;
END $$
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(SEAL)
    append_only("ledger_seals")
    grant_app("ledger_seals", "SELECT")
    grant_app_execute("ledger_seal(integer, integer, bigint, bigint, bytea, bytea, timestamptz, bytea, bytea)")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
