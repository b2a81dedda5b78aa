"""Operations: the audit log of people's acts, reasons of freezes, closed periods, what awaits a second treasurer."""

from alembic import op

from db.migrations.ops import append_only, grant_app

revision = "0043_operations"
down_revision = "0036_orders"

STATEMENTS = (
    """
CREATE TABLE treasury_audit_log (
    book text NOT NULL, id text NOT NULL, act text NOT NULL, at timestamptz NOT NULL, actor_key text NOT NULL,
    actor_user text, action text NOT NULL, subject text, outcome text NOT NULL, reason_code text, reason text,
    request text, detail text,
    CONSTRAINT pk_treasury_audit_log PRIMARY KEY (book, id),
    CONSTRAINT ck_treasury_audit_log_outcome_known CHECK (outcome IN ('begun', 'done', 'refused', 'failed')))
""",
    "CREATE INDEX ix_treasury_audit_log_subject ON treasury_audit_log (book, subject, id)",
    "CREATE INDEX ix_treasury_audit_log_actor ON treasury_audit_log (book, actor_key, id)",
    """
CREATE TABLE treasury_freezes (
    book text NOT NULL, id text NOT NULL, scope text NOT NULL, target text NOT NULL, reason_code text NOT NULL,
    reason text NOT NULL, set_by text NOT NULL, set_at timestamptz NOT NULL, expires_at timestamptz,
    lifted_at timestamptz, lifted_by text, lift_reason text,
    CONSTRAINT pk_treasury_freezes PRIMARY KEY (book, id),
    CONSTRAINT ck_treasury_freezes_scope_known CHECK (scope IN ('account', 'owner', 'asset', 'network')),
    CONSTRAINT ck_treasury_freezes_lifted_whole CHECK (
        (lifted_at IS NULL) = (lifted_by IS NULL) AND (lifted_at IS NULL) = (lift_reason IS NULL)))
""",
    "CREATE INDEX ix_treasury_freezes_standing ON treasury_freezes (book, scope, target) WHERE lifted_at IS NULL",
    """
CREATE INDEX ix_treasury_freezes_expiring ON treasury_freezes (book, expires_at)
    WHERE lifted_at IS NULL AND expires_at IS NOT NULL
""",
    # What was frozen before reasons were kept.
    """
INSERT INTO treasury_freezes (book, id, scope, target, reason_code, reason, set_by, set_at)
SELECT b.book, 'frz_' || substr(md5(f.scope || '/' || f.target), 1, 26), f.scope, f.target, 'other',
       'frozen before reasons were kept', 'process:migration', b.booked_at
  FROM ledger_freezes f JOIN ledger_books b ON b.number = f.book WHERE f.frozen
""",
    """
CREATE TABLE treasury_periods (
    book text NOT NULL, id text NOT NULL, command text NOT NULL, name text, until timestamptz NOT NULL,
    closed_at timestamptz NOT NULL, closed_by text NOT NULL, reason text NOT NULL, open_items jsonb NOT NULL,
    CONSTRAINT pk_treasury_periods PRIMARY KEY (book, id),
    CONSTRAINT uq_treasury_periods_book_until UNIQUE (book, until))
""",
    """
CREATE TABLE treasury_proposals (
    book text NOT NULL, id text NOT NULL, state text NOT NULL, source text NOT NULL, target text NOT NULL,
    asset text NOT NULL, amount amount NOT NULL, reason text NOT NULL, evidence text, maker text NOT NULL,
    created_at timestamptz NOT NULL, expires_at timestamptz NOT NULL, closed_by text, closed_at timestamptz,
    adjustment text,
    CONSTRAINT pk_treasury_proposals PRIMARY KEY (book, id),
    CONSTRAINT ck_treasury_proposals_state_known CHECK (state IN ('open', 'confirmed', 'withdrawn')),
    CONSTRAINT ck_treasury_proposals_closed CHECK (
        (closed_by IS NULL) = (state = 'open') AND (closed_at IS NULL) = (state = 'open')),
    CONSTRAINT ck_treasury_proposals_confirmed_as CHECK ((adjustment IS NOT NULL) = (state = 'confirmed')),
    CONSTRAINT ck_treasury_proposals_four_eyes CHECK (state <> 'confirmed' OR closed_by <> maker),
    CONSTRAINT ck_treasury_proposals_amount_positive CHECK (amount > 0))
""",
    "CREATE INDEX ix_treasury_proposals_open ON treasury_proposals (book, id) WHERE state = 'open'",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    append_only("treasury_audit_log")
    grant_app("treasury_audit_log", "SELECT, INSERT")
    grant_app("treasury_periods", "SELECT, INSERT")
    grant_app("treasury_freezes", "SELECT, INSERT, UPDATE")
    grant_app("treasury_proposals", "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
