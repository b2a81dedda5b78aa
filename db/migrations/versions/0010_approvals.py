"""What approvers are asked, and what they signed."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0010_approvals"
down_revision = "0009_address_pool"

TABLES = """
CREATE TABLE treasury_approvals (
    book text NOT NULL,
    id text NOT NULL,
    request text NOT NULL,
    content bytea NOT NULL,
    state text NOT NULL,
    subject text NOT NULL,
    terms jsonb NOT NULL,
    statement bytea NOT NULL,
    maker text NOT NULL,
    made_by_scheme text,
    made_by_payload bytea,
    not_after timestamptz NOT NULL,
    fee_wei_max amount NOT NULL,
    policy_version bigint NOT NULL,
    policy_fingerprint bytea NOT NULL,
    needed smallint NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    closed_at timestamptz,
    CONSTRAINT pk_treasury_approvals PRIMARY KEY (book, id),
    CONSTRAINT uq_treasury_approvals_book_request UNIQUE (book, request),
    CONSTRAINT ck_treasury_approvals_state_known
        CHECK (state IN ('open', 'approved', 'consumed', 'withdrawn')),
    CONSTRAINT ck_treasury_approvals_closed_when CHECK ((closed_at IS NOT NULL) = (state IN ('consumed', 'withdrawn'))),
    CONSTRAINT ck_treasury_approvals_made_by_whole CHECK ((made_by_scheme IS NULL) = (made_by_payload IS NULL))
);
CREATE INDEX ix_treasury_approvals_subject ON treasury_approvals (book, subject);
CREATE TABLE treasury_approval_signatures (
    book text NOT NULL,
    approval text NOT NULL,
    approver text NOT NULL,
    scheme text NOT NULL,
    payload bytea NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT pk_treasury_approval_signatures PRIMARY KEY (book, approval, approver),
    CONSTRAINT fk_treasury_approval_signatures_book_approval_treasury_approvals
        FOREIGN KEY(book, approval) REFERENCES treasury_approvals (book, id)
)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    grant_app("treasury_approvals", "SELECT, INSERT, UPDATE")
    append_only("treasury_approval_signatures")
    grant_app("treasury_approval_signatures", "SELECT, INSERT")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
