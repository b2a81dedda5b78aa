"""Epochs' hashes written on a chain, a kind of own transaction found by what it writes; signatures made elsewhere."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0045_anchors"
down_revision = "0046_four_eyes"

STATEMENTS = (
    """
ALTER TABLE chain_transactions
    DROP CONSTRAINT ck_chain_transactions_kind_known,
    ADD CONSTRAINT ck_chain_transactions_kind_known
        CHECK (kind IN ('withdrawal', 'sweep', 'gas_topup', 'refill', 'batch', 'allowance', 'deployment', 'anchor',
                        'cancel'))
""",
    "DROP INDEX ix_chain_transactions_for_the_house",
    "CREATE INDEX ix_chain_transactions_for_the_house ON chain_transactions (book, id)"
    " WHERE kind IN ('allowance', 'deployment', 'anchor')",
    "CREATE INDEX ix_chain_transactions_anchored ON chain_transactions (book, (\"order\" ->> 'root'))"
    " WHERE kind = 'anchor'",
    """
CREATE TABLE treasury_handed_controls (
    book text NOT NULL, number bigint NOT NULL, network text NOT NULL, address text NOT NULL,
    kind text NOT NULL, signature bytea NOT NULL, block_number bigint, block_hash text, handed_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_handed_controls PRIMARY KEY (book, number, network, address),
    CONSTRAINT fk_treasury_handed_controls_book_treasury_solvency_epochs
        FOREIGN KEY (book, number) REFERENCES treasury_solvency_epochs (book, number),
    CONSTRAINT ck_treasury_handed_controls_kind_known CHECK (kind IN ('key', 'contract')),
    CONSTRAINT ck_treasury_handed_controls_contracts_at_a_block
        CHECK ((kind = 'contract') = (block_number IS NOT NULL) AND (kind = 'contract') = (block_hash IS NOT NULL)))
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    append_only("treasury_handed_controls")
    grant_app("treasury_handed_controls", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
