"""The signer's code beside its words: what people could approve waits for them instead of being rejected."""

from alembic import op

revision = "0023_refusal_codes"
down_revision = "0022_accounted_outflows"


def upgrade() -> None:
    op.execute("ALTER TABLE chain_transactions ADD COLUMN refusal_code text")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
