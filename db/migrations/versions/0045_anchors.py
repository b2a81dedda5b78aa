"""Epochs' hashes written on a chain: a kind of own transaction, found by the 32 bytes that it writes."""

from alembic import op

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
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
