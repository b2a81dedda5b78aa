"""Own transactions that aren't plain transfers: batches, allowances, deployments, carried authorisations."""

from alembic import op

revision = "0015_orders"
down_revision = "0014_coins"

STATEMENTS = (
    'ALTER TABLE chain_transactions ADD COLUMN "order" jsonb',
    """
ALTER TABLE chain_transactions
    DROP CONSTRAINT ck_chain_transactions_kind_known,
    ADD CONSTRAINT ck_chain_transactions_kind_known
        CHECK (kind IN ('withdrawal', 'sweep', 'gas_topup', 'refill', 'batch', 'allowance', 'deployment', 'cancel'))
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
