"""The wallet's rows that ride with the book's entries. Balances are never here: the book has them."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, Table, Text, UniqueConstraint, text

from db.tables import metadata
from db.types import Amount, Instant

quotes = Table(
    "wallet_quotes",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("sell", Text, nullable=False),
    Column("buy", Text, nullable=False),
    Column("sold", Amount, nullable=False),
    Column("spread", Amount, nullable=False),
    Column("bought", Amount, nullable=False),
    Column(
        "price", Text, nullable=False
    ),  # "num/den" in smallest units, exact at any length; never computed with in SQL
    Column("rates_as_of", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    CheckConstraint("state IN ('open', 'used')", name="state_known"),
    CheckConstraint("spread < sold AND bought > 0", name="whole"),
    Index("ix_wallet_quotes_owner", "book", "owner", "id"),
)

conversions = Table(
    "wallet_conversions",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("quote", Text, nullable=False),
    Column("sell", Text, nullable=False),
    Column("buy", Text, nullable=False),
    Column("sold", Amount, nullable=False),
    Column("spread", Amount, nullable=False),
    Column("bought", Amount, nullable=False),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("book", "quote"),
    Index("ix_wallet_conversions_owner", "book", "owner", "id"),
)

DEAD_DEPOSITS = "('orphaned', 'reversed')"
"""States of a deposit whose block is no longer part of the chain."""

deposits = Table(
    "wallet_deposits",
    metadata,
    Column("book", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("version", Integer, primary_key=True),  # each revival of the same transfer in another block is a new one
    Column("id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("asset", Text),  # unset: a token that no deployment names
    Column("contract", Text),
    Column("chain_amount", Amount, nullable=False),
    Column("amount", Amount),
    Column("sender", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("entry", Text),  # the command that booked it: a hold, or an entry to suspense; unset while nothing is booked
    Column("seen_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "id"),
    CheckConstraint(
        "state IN ('pending', 'credited', 'final', 'orphaned', 'reversed', 'below_minimum', 'unknown_token')",
        name="state_known",
    ),
    CheckConstraint("(asset IS NULL) = (amount IS NULL)", name="amount_of_asset"),
    CheckConstraint("version > 0", name="version_from_one"),
    Index("ix_wallet_deposits_owner", "book", "owner", "id"),
    Index(
        "uq_wallet_deposits_live",
        "book",
        "network",
        "tx_hash",
        "place",
        unique=True,
        postgresql_where=text(f"state NOT IN {DEAD_DEPOSITS}"),
    ),
    Index("ix_wallet_deposits_open", "book", "network", postgresql_where=text("state IN ('pending', 'credited')")),
)

withdrawals = Table(
    "wallet_withdrawals",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cancellable", Boolean, nullable=False),  # until a nonce is reserved; what cancelling compares and sets
    Column("waiting_for", Text),
    Column("reason", Text),
    Column("asset", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("chain_amount", Amount, nullable=False),
    Column("fee_highest", Amount, nullable=False),
    Column("fee", Amount),
    Column("fee_price", Text, nullable=False),  # "num/den": smallest units of the asset per wei of gas
    Column("gas_limit", BigInteger, nullable=False),
    Column("fee_wei_max", Amount, nullable=False),
    Column("hold", Text, nullable=False),
    Column("tx_hash", Text),
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("fee_wei", Amount),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint(
        "state IN ('requested', 'held', 'screened', 'awaiting_approval', 'approved', 'nonce_reserved', 'signed',"
        " 'broadcast', 'mined', 'final', 'rejected', 'cancelled', 'reverted', 'needs_review')",
        name="state_known",
    ),
    CheckConstraint(
        "cancellable = (state IN ('held', 'screened', 'awaiting_approval', 'approved'))", name="cancellable_early"
    ),
    CheckConstraint("fee <= fee_highest", name="fee_within"),
    Index("ix_wallet_withdrawals_owner", "book", "owner", "id"),
    Index(
        "ix_wallet_withdrawals_open",
        "book",
        "network",
        "id",
        postgresql_where=text("state NOT IN ('final', 'rejected', 'cancelled', 'reverted')"),
    ),
)
