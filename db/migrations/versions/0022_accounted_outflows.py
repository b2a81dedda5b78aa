"""What left without us is accounted for once: by an adjustment that names it, or as a withdrawal's payment."""

from alembic import op

revision = "0022_accounted_outflows"
down_revision = "0021_restores"

STATEMENTS = (
    "ALTER TABLE treasury_outflows ADD COLUMN accounted_by text",
    """
UPDATE treasury_outflows o SET accounted_by = a.id
  FROM treasury_adjustments a WHERE a.book = o.book AND a.evidence = o.id
""",
    """
UPDATE treasury_outflows o SET accounted_by = r.withdrawal
  FROM wallet_resolutions r
 WHERE o.accounted_by IS NULL AND o.state = 'booked' AND r.outcome = 'paid' AND r.book = o.book
   AND r.network = o.network AND r.tx_hash = o.tx_hash AND r.place = o.place AND r.block_hash = o.block_hash
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
