"""Tables of the rails. What commits with an entry of the book has the book first in its key."""

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    Column("settlement", Text),  # of a provider, whose money it is
    Column("recorded_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "statement"], ["fiat_bank_statements.book", "fiat_bank_statements.id"]),
    CheckConstraint("direction IN ('CRDT', 'DBIT')", name="direction_known"),
    CheckConstraint("state IN ('credited', 'suspended', 'matched', 'settled', 'noted')", name="state_known"),
    CheckConstraint("(state IN ('credited', 'matched')) = (top_up IS NOT NULL)", name="top_up_when_credited"),
    CheckConstraint("(state = 'settled') = (settlement IS NOT NULL)", name="settlement_when_settled"),
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
    Column("source", Text),  # what its rail knows it by: a bank line's id, a provider's payment
    Column("capture_source", Text),
    Column("captured", Amount, nullable=False, server_default=text("0")),
    Column("refunded", Amount, nullable=False, server_default=text("0")),
    Column("fee", Amount),
    Column("capturing", Text, nullable=False, server_default=text("'automatic'")),
    Column("method", Text),
    Column("customer", Text),
    Column("return_url", Text),
    Column("action_kind", Text),
    Column("action_value", Text),  # cleared when the payer has nothing more to do
    Column("code", Text),
    Column("reason", Text),
    Column("capture_amount", Amount),
    Column("cancelling", Boolean, nullable=False, server_default=text("false")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("submitted_at", Instant),
    Column("due_at", Instant),  # when the worker looks at it next; null when it need not
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "rail", "source"),
    UniqueConstraint("book", "rail", "capture_source"),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("captured <= amount", name="captured_within_amount"),
    CheckConstraint("(state = 'final') = (captured > 0)", name="captured_when_final"),
    CheckConstraint(
        "state IN ('requested', 'submitted', 'unknown', 'requires_action', 'approved', 'processing', 'authorised',"
        " 'final', 'failed', 'cancelled')",
        name="state_known",
    ),
    Index("ix_fiat_top_ups_due", "book", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_fiat_top_ups_owner", "book", "owner", text("id DESC")),
)
