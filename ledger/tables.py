"""The book's tables. Histories are append-only by trigger; the service's role reads them and writes only through
`ledger_lock` and `ledger_write`, which run with their owner's rights (migration 0002)."""

from sqlalchemy import BigInteger as Big
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from db.tables import metadata
from db.types import Amount, Balance, Digest, Instant

books = Table(
    "ledger_books",
    metadata,
    Column("book", Text, primary_key=True),
    Column("seq", Big, nullable=False),
    Column("booked_at", Instant, nullable=False),
)

assets = Table(
    "ledger_assets",
    metadata,
    Column("asset", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("scale", SmallInteger, nullable=False),
    CheckConstraint("scale BETWEEN 0 AND 30", name="scale_in_range"),
)

accounts = Table(
    "ledger_accounts",
    metadata,
    Column("book", Text, ForeignKey("ledger_books.book"), primary_key=True),
    Column("account", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("asset", Text, ForeignKey("ledger_assets.asset"), nullable=False),
    Column("limited", Boolean, nullable=False),
    Column("frozen", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("credit_line", Amount, nullable=False),
    Column("debits_posted", Amount, nullable=False),
    Column("credits_posted", Amount, nullable=False),
    Column("debits_pending", Amount, nullable=False),
    Column("credits_pending", Amount, nullable=False),
    CheckConstraint(
        "NOT limited OR debits_posted + debits_pending <= credits_posted + credit_line", name="limit_respected"
    ),
    Index("ix_ledger_accounts_owner", "book", "owner", "asset"),
    Index("ix_ledger_accounts_asset", "book", "asset"),
)

freezes = Table(
    "ledger_freezes",
    metadata,
    Column("book", Text, ForeignKey("ledger_books.book"), primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("frozen", Boolean, nullable=False),
)

commands = Table(
    "ledger_commands",
    metadata,
    Column("book", Text, ForeignKey("ledger_books.book"), primary_key=True),
    Column("seq", Big, primary_key=True),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text),
    Column("content", Digest, nullable=False),
    Column("refusal", JSONB(none_as_null=True)),
    Column("terms", JSONB, nullable=False),
    Column("evidence", JSONB(none_as_null=True)),
    Column("network", Text),
    Column("block_number", Big),
    Column("block_hash", Text),
    Column("bank_account", Text),
    Column("statement", Text),
    Column("statement_line", Integer),
    Column("booked_at", Instant, nullable=False),
    Column("effective_at", Instant),
    Column("salt", LargeBinary, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("leaf", Digest, nullable=False),
    UniqueConstraint("book", "id"),
    Index("ix_ledger_commands_subject", "book", "subject", "seq", postgresql_where=text("subject IS NOT NULL")),
    Index("ix_ledger_commands_block", "network", "block_number", postgresql_where=text("network IS NOT NULL")),
    Index(
        "ix_ledger_commands_statement",
        "bank_account",
        "statement",
        "statement_line",
        postgresql_where=text("statement IS NOT NULL"),
    ),
    Index("ix_ledger_commands_booked_at", "book", "booked_at"),
)

lines = Table(
    "ledger_lines",
    metadata,
    Column("book", Text, primary_key=True),
    Column("seq", Big, primary_key=True),
    Column("line", SmallInteger, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("debit", Text, nullable=False),
    Column("credit", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("debit_balance", Balance, nullable=False),
    Column("credit_balance", Balance, nullable=False),
    Column("hold", Text),
    Column("hold_posting", SmallInteger),
    ForeignKeyConstraint(["book", "seq"], ["ledger_commands.book", "ledger_commands.seq"]),
    ForeignKeyConstraint(["book", "debit"], ["ledger_accounts.book", "ledger_accounts.account"]),
    ForeignKeyConstraint(["book", "credit"], ["ledger_accounts.book", "ledger_accounts.account"]),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("debit <> credit", name="two_accounts"),
    CheckConstraint("kind IN ('posted', 'held', 'released')", name="kind_known"),
    Index("ix_ledger_lines_debit", "book", "debit", "seq", "line"),
    Index("ix_ledger_lines_credit", "book", "credit", "seq", "line"),
)

holds = Table(
    "ledger_holds",
    metadata,
    Column("book", Text, ForeignKey("ledger_books.book"), primary_key=True),
    Column("hold", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("expires_at", Instant),
    CheckConstraint("state IN ('open', 'settled', 'voided', 'expired')", name="state_known"),
    Index(
        "ix_ledger_holds_expiry",
        "book",
        "expires_at",
        postgresql_where=text("state = 'open' AND expires_at IS NOT NULL"),
    ),
)

hold_postings = Table(
    "ledger_hold_postings",
    metadata,
    Column("book", Text, primary_key=True),
    Column("hold", Text, primary_key=True),
    Column("posting", SmallInteger, primary_key=True),
    Column("debit", Text, nullable=False),
    Column("credit", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("remaining", Amount, nullable=False),
    ForeignKeyConstraint(["book", "hold"], ["ledger_holds.book", "ledger_holds.hold"]),
    CheckConstraint("remaining <= amount", name="remainder_within"),
    Index("ix_ledger_hold_postings_open", "book", "debit", postgresql_where=text("remaining > 0")),
)
