"""Epochs of what is owed and held, and own addresses' signatures over them."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0041_solvency"
down_revision = "0044_reports"

STATEMENTS = (
    """
CREATE TABLE treasury_solvency_epochs (
    book text NOT NULL, number bigint NOT NULL, digest text NOT NULL, command text NOT NULL, statement text NOT NULL,
    asked_by text, made_at timestamptz NOT NULL, controls_at timestamptz, seal text,
    CONSTRAINT pk_treasury_solvency_epochs PRIMARY KEY (book, number),
    CONSTRAINT ck_treasury_solvency_epochs_number_positive CHECK (number > 0))
""",
    "CREATE INDEX ix_treasury_solvency_epochs_unfinished ON treasury_solvency_epochs (book, number)"
    " WHERE controls_at IS NULL OR seal IS NULL",
    """
CREATE TABLE chain_controls (
    book text NOT NULL, subject text NOT NULL, network text NOT NULL, role text NOT NULL,
    generation smallint NOT NULL, key_index integer NOT NULL, address text NOT NULL, epoch bigint NOT NULL,
    root bytea NOT NULL, signature bytea, refusal text, signer_sequence bigint, signer_head bytea,
    created_at timestamptz NOT NULL, signed_at timestamptz,
    CONSTRAINT pk_chain_controls PRIMARY KEY (book, subject),
    CONSTRAINT fk_chain_controls_network_chain_networks FOREIGN KEY (network) REFERENCES chain_networks (network),
    CONSTRAINT ck_chain_controls_one_answer CHECK (signature IS NULL OR refusal IS NULL))
""",
    "CREATE INDEX ix_chain_controls_epoch ON chain_controls (book, epoch)",
    "CREATE INDEX ix_chain_controls_signer_sequence ON chain_controls (signer_sequence)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    grant_app("treasury_solvency_epochs", "SELECT, INSERT, UPDATE (controls_at, seal)")
    grant_app("chain_controls", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
