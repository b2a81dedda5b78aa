"""Tables of the rails. What commits with an entry of the book has the book first in its key."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from db.tables import metadata
from db.types import Amount, Balance, Digest, Instant

references = Table(
    "fiat_references",
    metadata,
    Column("book", Text, primary_key=True),
    Column("reference", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("issued_at", Instant, nullable=False),
    UniqueConstraint("book", "owner"),
)

statements = Table(
    "fiat_bank_statements",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("bank_id", Text, nullable=False),
    Column("sequence", BigInteger),
    Column("opening", Balance, nullable=False),
    Column("closing", Balance, nullable=False),
    Column("closing_on", Date, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("file", Text, nullable=False),
    Column("file_sha256", Digest, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("imported_at", Instant),  # null until every line is in the book
    Column("gap", Balance),  # closing, less the closing before and the lines that this statement brought
    CheckConstraint("(imported_at IS NULL) = (gap IS NULL)", name="gap_known_when_imported"),
    Index("ix_fiat_bank_statements_order", "book", "account", "closing_on", "sequence", "received_at"),
)

lines = Table(
    "fiat_bank_lines",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("statement", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("direction", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("booked_on", Date, nullable=False),
    Column("value_on", Date, nullable=False),
    Column("bank_reference", Text, nullable=False),
    Column("end_to_end_id", Text, nullable=False),
    Column("remittance", Text, nullable=False),
    Column("counterparty", Text, nullable=False),
    Column("counterparty_account", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("owner", Text),
    Column("top_up", Text),
    Column("recorded_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "statement"], ["fiat_bank_statements.book", "fiat_bank_statements.id"]),
    CheckConstraint("direction IN ('CRDT', 'DBIT')", name="direction_known"),
    CheckConstraint("state IN ('credited', 'suspended', 'matched', 'noted')", name="state_known"),
    CheckConstraint("(state IN ('credited', 'matched')) = (top_up IS NOT NULL)", name="top_up_when_credited"),
    CheckConstraint("state = 'credited' OR reason IS NOT NULL", name="reason_unless_credited"),
    Index("ix_fiat_bank_lines_statement", "book", "statement", "number"),
    Index("ix_fiat_bank_lines_state", "book", "state", "recorded_at", "id"),
)

top_ups = Table(
    "fiat_top_ups",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("rail", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("state", Text, nullable=False),
    Column("source", Text, nullable=False),  # what its rail knows it by: a bank line's id
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("book", "rail", "source"),
    CheckConstraint("amount > 0", name="amount_positive"),
    Index("ix_fiat_top_ups_owner", "book", "owner", text("id DESC")),
)
