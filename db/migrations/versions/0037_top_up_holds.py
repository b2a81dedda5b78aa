"""What waits in the book for a top-up since it was asked for, and the house's fee of it.

Those asked for before have neither, and end as they would have.
"""

from alembic import op

revision = "0037_top_up_holds"
down_revision = "0040_breaks"

STATEMENTS = (
    """
ALTER TABLE fiat_top_ups
    ADD COLUMN hold text,
    ADD COLUMN service_fee amount NOT NULL DEFAULT 0,
    ADD CONSTRAINT ck_fiat_top_ups_service_fee_leaves_something CHECK (service_fee = 0 OR service_fee < amount)
""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
