"""People, API keys and their scopes."""

from alembic import op

from db.migrations.ops import grant_app

revision = "0003_identity"
down_revision = "0002_ledger"

TABLES = """
CREATE TABLE identity_users (
    book text,
    id text,
    handle text NOT NULL CONSTRAINT ck_identity_users_handle_form CHECK (handle ~ '^[a-z0-9_]{3,32}$'),
    name text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_identity_users PRIMARY KEY (book, id),
    CONSTRAINT uq_identity_users_book_handle UNIQUE (book, handle)
);
CREATE TABLE identity_api_keys (
    book text,
    id text,
    user_id text,
    label text NOT NULL,
    secret_hash bytea NOT NULL,
    hint text NOT NULL,
    scopes text[] NOT NULL CONSTRAINT ck_identity_api_keys_some_scope CHECK (cardinality(scopes) > 0),
    rate_per_minute integer NOT NULL CONSTRAINT ck_identity_api_keys_rate_positive CHECK (rate_per_minute > 0),
    created_at timestamptz NOT NULL,
    created_by text,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT pk_identity_api_keys PRIMARY KEY (book, id),
    CONSTRAINT uq_identity_api_keys_book_secret_hash UNIQUE (book, secret_hash),
    CONSTRAINT fk_identity_api_keys_book_user_id_identity_users
        FOREIGN KEY (book, user_id) REFERENCES identity_users (book, id)
);
CREATE INDEX ix_identity_api_keys_book_user_id ON identity_api_keys (book, user_id)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)
    for table in ("identity_users", "identity_api_keys"):
        grant_app(table, "SELECT, INSERT, UPDATE")


def downgrade() -> None:
    raise NotImplementedError("the book is never migrated backwards; restore a backup")
