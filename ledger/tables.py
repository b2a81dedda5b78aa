"""The book's tables, for the questions asked of them. Migration 0002 makes them, with their keys, checks and indexes.

A book and an account are numbers here, and a hold is its command's seq. The service's role reads, and writes only
through the functions `ledger_lock` and `ledger_write`, which run with their owner's rights.
"""

from sqlalchemy import BigInteger as Big
from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
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
    Column("number", Integer, primary_key=True),
    Column("book", Text, nullable=False, unique=True),
    Column("seq", Big, nullable=False),
    Column("booked_at", Instant, nullable=False),
    Column("closed_until", Instant),
    Column("accounts", Integer, nullable=False),
)
"""`accounts` is the number of the account opened last."""

assets = Table(
    "ledger_assets",
    metadata,
    Column("asset", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("scale", SmallInteger, nullable=False),
)

accounts = Table(
    "ledger_accounts",
    metadata,
    Column("book", Integer, ForeignKey("ledger_books.number"), primary_key=True),
    Column("account", Integer, primary_key=True),
    Column("limited", Boolean, nullable=False),
    Column("frozen", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("asset", Text, ForeignKey("ledger_assets.asset"), nullable=False),
    Column("credit_line", Amount, nullable=False),
    Column("debits_posted", Amount, nullable=False),
    Column("credits_posted", Amount, nullable=False),
    Column("debits_pending", Amount, nullable=False),
    Column("credits_pending", Amount, nullable=False),
    UniqueConstraint("book", "name"),
    Index("ix_ledger_accounts_owner", "book", "owner", "asset"),
    Index("ix_ledger_accounts_asset", "book", "asset"),
)

freezes = Table(
    "ledger_freezes",
    metadata,
    Column("book", Integer, ForeignKey("ledger_books.number"), primary_key=True),
    Column("scope", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("frozen", Boolean, nullable=False),
)

counters = Table(
    "ledger_counters",
    metadata,
    Column("book", Integer, primary_key=True),
    Column("counter", Text, primary_key=True),
    Column("used", Amount, nullable=False),
)

ids = Table(
    "ledger_ids",
    metadata,
    Column("seq", Big, nullable=False),
    Column("book", Integer, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
)
"""Every command's id for ever: `key` is the first 16 bytes of its SHA-256."""

commands = Table(
    "ledger_commands",
    metadata,
    Column("seq", Big, primary_key=True),
    Column("booked_at", Instant, nullable=False),
    Column("effective_at", Instant),
    Column("book", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("subject", Text),
    Column("content", Digest, nullable=False),
    Column("refusal", Text),
    Column("detail", Text),
    Column("metadata_hash", Digest),
    Column("leaf", Digest, nullable=False),
    Index("ix_ledger_commands_subject", "book", "subject", "seq", postgresql_where=text("subject IS NOT NULL")),
    Index("ix_ledger_commands_closings", "book", "seq", postgresql_where=text("kind = 'close_period'")),
)
"""`detail` is canonical JSON of what neither columns nor lines tell (`ledger.canonical`), NULL for most commands."""

lines = Table(
    "ledger_lines",
    metadata,
    Column("seq", Big, primary_key=True),
    Column("book", Integer, primary_key=True),
    Column("debit", Integer, nullable=False),
    Column("credit", Integer, nullable=False),
    Column("line", SmallInteger, primary_key=True),
    Column("hold_posting", SmallInteger),
    Column("hold", Big),
    Column("kind", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("debit_balance", Balance, nullable=False),
    Column("credit_balance", Balance, nullable=False),
    Index("ix_ledger_lines_debit", "book", "debit", "seq"),
    Index("ix_ledger_lines_credit", "book", "credit", "seq"),
)

holds = Table(
    "ledger_holds",
    metadata,
    Column("hold", Big, primary_key=True),
    Column("expires_at", Instant),
    Column("book", Integer, primary_key=True),
    Column("debit", Integer, nullable=False),
    Column("credit", Integer, nullable=False),
    Column("posting", SmallInteger, primary_key=True),
    Column("state", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("remaining", Amount, nullable=False),
    Column("charges", Text),
    Index("ix_ledger_holds_open", "book", "debit", "hold", postgresql_where=text("state = 'open'")),
    Index(
        "ix_ledger_holds_expiry",
        "book",
        "expires_at",
        postgresql_where=text("state = 'open' AND expires_at IS NOT NULL"),
    ),
)
"""One row per held posting; `state`, `expires_at` and `charges` are the hold's, `charges` on its first posting only."""

metadatas = Table(
    "ledger_metadata",
    metadata,
    Column("seq", Big, primary_key=True),
    Column("book", Integer, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Index(
        "ix_ledger_metadata_search",
        "metadata",
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
    ),
)
"""What may be erased (`ledger_erase_metadata`): the command keeps the salted hash."""

evidences = Table(
    "ledger_evidence",
    metadata,
    Column("seq", Big, primary_key=True),
    Column("book", Integer, primary_key=True),
    Column("statement_line", Integer),
    Column("block_number", Big),
    Column("network", Text),
    Column("block_hash", Text),
    Column("tx_hash", Text),
    Column("place", Text),
    Column("bank_account", Text),
    Column("statement", Text),
    Index("ix_ledger_evidence_block", "book", "network", "block_number", postgresql_where=text("network IS NOT NULL")),
    Index(
        "ix_ledger_evidence_statement",
        "book",
        "bank_account",
        "statement",
        "statement_line",
        postgresql_where=text("statement IS NOT NULL"),
    ),
)
"""Evidence once more, to be found by block or by statement; the whole of it stands in the command's `detail`."""

backdated = Table(
    "ledger_backdated",
    metadata,
    Column("seq", Big, primary_key=True),
    Column("effective_at", Instant, nullable=False),
    Column("book", Integer, primary_key=True),
    Column("account", Integer, primary_key=True),
    Column("line", SmallInteger, primary_key=True),
    Column("step", Balance, nullable=False),
)
"""Steps of accounts' balances that were effective before they were booked."""

reversals = Table(
    "ledger_reversals",
    metadata,
    Column("entry", Big, primary_key=True),
    Column("seq", Big, primary_key=True),
    Column("book", Integer, primary_key=True),
    Column("line", SmallInteger, primary_key=True),
    Column("amount", Amount, nullable=False),
)
"""How much of which line of `entry` the command `seq` took back."""

seals = Table(
    "ledger_seals",
    metadata,
    Column("book", Integer, ForeignKey(books.c.number), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first_seq", Big, nullable=False),
    Column("last_seq", Big, nullable=False),
    Column("root", Digest, nullable=False),
    Column("previous", Digest),
    Column("sealed_at", Instant, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("key", LargeBinary, nullable=False),
    UniqueConstraint("book", "last_seq"),
)
"""Signed statements over stretches of commands (`ledger.seals`); migration 0008."""
