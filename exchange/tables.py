"""Tables of the exchange. What commits with an entry of the book has the book first in its key."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text

from db.tables import metadata
from db.types import Balance, Instant

snapshots = Table(
    "exchange_snapshots",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("content", LargeBinary, nullable=False),  # `exchange.agreeing.Snapshot` as JSON
    Index("ix_exchange_snapshots_at", "book", "at"),
)

moves = Table(
    "exchange_moves",
    metadata,
    Column("book", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("asset", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("quantity", Balance, nullable=False),  # what the house had more of, or less
    Column("value", Balance, nullable=False),  # of it, in thousandths of the reference's smallest unit
    Column("realised", Balance, nullable=False),
    Column("rates", Text),
    Column("booked_at", Instant, nullable=False),
    CheckConstraint("kind IN ('bought', 'sold', 'spread', 'brought_in', 'taken_out')", name="kind_known"),
)

positions = Table(
    "exchange_positions",
    metadata,
    Column("book", Text, primary_key=True),
    Column("asset", Text, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("quantity", Balance, nullable=False),
    Column("cost", Balance, nullable=False),
    Column("realised", Balance, nullable=False),
    Column("earned", Balance, nullable=False),
    Column("through_seq", BigInteger, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
