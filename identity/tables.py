"""Users and API keys as rows. A handle is stored in lower case; a key only as the hash of its secret."""

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, Integer, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY

from db.tables import metadata
from db.types import Digest, Instant

users = Table(
    "identity_users",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("handle", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("book", "handle"),
    CheckConstraint("handle ~ '^[a-z0-9_]{3,32}$'", name="handle_form"),
)

api_keys = Table(
    "identity_api_keys",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("user_id", Text),
    Column("person", Text),  # whose it is, of the house's people
    Column("label", Text, nullable=False),
    Column("secret_hash", Digest, nullable=False),
    Column("hint", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("rate_per_minute", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", Text),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    ForeignKeyConstraint(["book", "user_id"], ["identity_users.book", "identity_users.id"]),
    UniqueConstraint("book", "secret_hash"),
    CheckConstraint("rate_per_minute > 0", name="rate_positive"),
    CheckConstraint("cardinality(scopes) > 0", name="some_scope"),
    CheckConstraint("person ~ '^[a-z][a-z0-9-]{1,31}$'", name="person_form"),
    CheckConstraint("person IS NULL OR user_id IS NULL", name="person_of_house"),
    Index("ix_identity_api_keys_book_user_id", "book", "user_id"),
)
