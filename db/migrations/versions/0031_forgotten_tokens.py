"""Top-ups whose order was answered or given up forget their provider's tokens: older versions kept them in clear."""

from alembic import op

revision = "0031_forgotten_tokens"
down_revision = "0035_exchange"


def upgrade() -> None:
    # What was not answered yet may be ordered once more, and needs them.
    op.execute(
        "UPDATE fiat_top_ups SET method = NULL, customer = NULL"
        " WHERE state NOT IN ('requested', 'submitted', 'unknown') AND (method IS NOT NULL OR customer IS NOT NULL)"
    )


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
