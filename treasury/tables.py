"""Treasury's rows: what came in to the house, adjustments by hand, reconciliations and the breaks they found."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from db.tables import metadata
from db.types import Amount, Balance, Instant

inflows = Table(
    "treasury_inflows",
    metadata,
    Column("book", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("version", Integer, primary_key=True),  # each revival of the same transfer in another block is a new one
    Column("id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("sender", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("booked_at", Instant, nullable=False),
    UniqueConstraint("book", "id"),
    CheckConstraint("state IN ('booked', 'reversed')", name="state_known"),
    CheckConstraint("role IN ('hot', 'gas')", name="role_known"),
    Index(
        "uq_treasury_inflows_live",
        "book",
        "network",
        "tx_hash",
        "place",
        unique=True,
        postgresql_where=text("state = 'booked'"),
    ),
)

adjustments = Table(
    "treasury_adjustments",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("treasurer", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("amount > 0", name="amount_positive"),
)

reconciliations = Table(
    "treasury_reconciliations",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),
    Column("checks", Integer, nullable=False),
    Column("breaks", Integer, nullable=False),
    Column("networks", JSONB, nullable=False),  # what each was judged through, or why it wasn't
    Column("in_flight", JSONB, nullable=False),
)

breaks = Table(
    "treasury_breaks",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("network", Text, nullable=False),  # empty where none is concerned; part of what a break is known by
    Column("account", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("expected", Balance, nullable=False),
    Column("found", Balance, nullable=False),
    Column("first_run", Text, nullable=False),
    Column("last_run", Text, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("resolved_at", Instant),
    Index(
        "uq_treasury_breaks_open",
        "book",
        "reason",
        "network",
        "account",
        "asset",
        "detail",
        unique=True,
        postgresql_where=text("resolved_at IS NULL"),
    ),
)
