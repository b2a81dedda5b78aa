"""The wallet's rows that ride with the book's entries. Balances are never here: the book has them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
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

from db.tables import metadata
from db.types import Amount, Instant

quotes = Table(
    "wallet_quotes",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("sell", Text, nullable=False),
    Column("buy", Text, nullable=False),
    Column("sold", Amount, nullable=False),
    Column("spread", Amount, nullable=False),
    Column("fee", Amount, nullable=False, server_default=text("0")),
    Column("bought", Amount, nullable=False),
    Column(
        "price", Text, nullable=False
    ),  # "num/den" in smallest units, exact at any length; never computed with in SQL
    Column("exact", Text, nullable=False, server_default=text("'sell'")),
    Column("lost", Text, nullable=False, server_default=text("'0/1'")),  # "num/den" of a smallest unit
    Column("rates", Text, nullable=False, server_default=text("''")),
    Column("rates_as_of", Instant, nullable=False),
    Column("reference", Text),
    Column("value", Amount),  # in thousandths of the reference's smallest unit
    Column("spread_value", Amount),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    CheckConstraint("spread < sold AND bought > 0", name="whole"),
    Index("ix_wallet_quotes_owner", "book", "owner", "id"),
    Index("ix_wallet_quotes_expiring", "book", "expires_at"),
    Index("ix_wallet_quotes_rates", "book", "rates"),
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
    Column("fee", Amount, nullable=False, server_default=text("0")),
    Column("bought", Amount, nullable=False),
    Column("rates", Text, nullable=False, server_default=text("''")),
    Column("reference", Text),
    Column("value", Amount),
    Column("spread_value", Amount),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("book", "quote"),
    Index("ix_wallet_conversions_rates", "book", "rates"),
    Index("ix_wallet_conversions_owner", "book", "owner", "id"),
)

orders = Table(
    "wallet_orders",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("request", Text, nullable=False),  # the command of what follows, or of the top-up
    Column("sell", Text, nullable=False),
    Column("buy", Text, nullable=False),
    Column("amount", Amount, nullable=False),  # delivered, of `buy`; of a top-up, of `sell`
    Column("buy_at_least", Amount),
    Column("conversion", Text),
    Column("top_up", Text),
    Column("waiting_for", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", Instant),
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "request"),
    CheckConstraint("kind IN ('transfer', 'withdrawal', 'payout', 'top_up')", name="kind_known"),
    CheckConstraint("state IN ('awaiting_top_up', 'converting', 'done', 'failed', 'cancelled')", name="state_known"),
    CheckConstraint("(kind = 'top_up') = (top_up IS NOT NULL)", name="top_up_of_top_ups"),
    CheckConstraint("state <> 'done' OR conversion IS NOT NULL", name="converted_when_done"),
    Index("ix_wallet_orders_owner", "book", "owner", "id"),
    Index("ix_wallet_orders_due", "book", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_wallet_orders_top_up", "book", "top_up", postgresql_where=text("top_up IS NOT NULL")),
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
    Column("amount", Amount),  # what arrived, never what an event told; unset as long as that isn't known
    Column("sender", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("entry", Text),  # the command that booked it: a hold, or an entry to suspense; unset while nothing is booked
    Column("seen_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "id"),
    CheckConstraint(
        "state IN ('pending', 'credited', 'final', 'orphaned', 'reversed', 'below_minimum', 'unknown_token',"
        " 'under_review', 'quarantined', 'not_received', 'surplus', 'sender_listed')",
        name="state_known",
    ),
    CheckConstraint("amount IS NULL OR asset IS NOT NULL", name="amount_of_asset"),
    CheckConstraint("version > 0", name="version_from_one"),
    Index("ix_wallet_deposits_owner", "book", "owner", "id"),
    Index("ix_wallet_deposits_likeness", "book", "owner", text('"left"(sender, 6)'), text('"right"(sender, 4)')),
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
    Index(
        "ix_wallet_deposits_doubtful",
        "book",
        "network",
        "id",
        postgresql_where=text(
            "state IN ('below_minimum', 'unknown_token', 'under_review', 'quarantined', 'not_received', 'surplus',"
            " 'sender_listed')"
        ),
    ),
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
    Column("cancelling", Text),  # why a treasurer wants it given up, though a nonce is reserved; NULL: nobody does
    Column("asset", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("chain_amount", Amount, nullable=False),
    Column("fee_highest", Amount, nullable=False),
    Column("fee", Amount),
    Column("service_fee", Amount, nullable=False, server_default="0"),  # by the tariff, beside the network's
    Column("fee_price", Text, nullable=False),  # "num/den": smallest units of the asset per wei of gas
    Column("gas_limit", BigInteger, nullable=False),
    Column("fee_wei_max", Amount, nullable=False),
    Column("hold", Text, nullable=False),
    Column("tx_hash", Text),
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("fee_wei", Amount),
    Column("recipient", Text),  # the user whose deposit address it is: settled in the book; NULL: paid over the chain
    Column("accepted", Text, nullable=False, server_default=""),  # the warnings that its owner accepted, by blanks
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
    CheckConstraint("recipient IS NULL OR (state = 'final' AND tx_hash IS NULL)", name="internal_at_once"),
    Index("ix_wallet_withdrawals_owner", "book", "owner", "id"),
    Index("ix_wallet_withdrawals_likeness", "book", "owner", text('"left"(address, 6)'), text('"right"(address, 4)')),
    Index(
        "ix_wallet_withdrawals_open",
        "book",
        "network",
        "id",
        postgresql_where=text("state NOT IN ('final', 'rejected', 'cancelled', 'reverted')"),
    ),
    Index(
        "ix_wallet_withdrawals_approved",
        "book",
        "network",
        "asset",
        "id",
        postgresql_where=text("state = 'approved'"),
    ),
)

resolutions = Table(
    "wallet_resolutions",
    metadata,
    Column("book", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),  # the block's hash where no transaction is named
    Column("place", Text, primary_key=True),  # of the payment, `gas` of what it cost, or `nonce:wdr_...`
    Column("withdrawal", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("treasurer", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("outcome IN ('paid', 'returned')", name="outcome_known"),
    Index("ix_wallet_resolutions_withdrawal", "book", "withdrawal"),
)
"""What a person said became of a withdrawal under review, by the evidence that it rests on: each is used once."""

cancellations = Table(
    "wallet_cancellations",
    metadata,
    Column("book", Text, primary_key=True),
    Column("withdrawal", Text, primary_key=True),
    Column("key", Text, nullable=False),  # of the request
    Column("content", LargeBinary, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_at", Instant, nullable=False),
    UniqueConstraint("book", "key"),
    ForeignKeyConstraint(["book", "withdrawal"], ["wallet_withdrawals.book", "wallet_withdrawals.id"]),
)
"""What a treasurer asked to give up: once per withdrawal, whatever becomes of it."""

batches = Table(
    "wallet_batches",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),  # `bat_...`: the subject of its transaction as well
    Column("network", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("contract", Text),  # the token; NULL: the network's own coin
    Column("via", Text, nullable=False),  # the payout contract
    Column("state", Text, nullable=False),  # booked: what it cost is in the book, of its legs perhaps not all
    Column("outcome", Text),
    Column("amount", Amount, nullable=False),  # the sum of its legs, in chain units
    Column("cost_wei", Amount),  # gas of its transaction and of its allowances: what its legs share
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("state IN ('open', 'booked', 'ended')", name="state_known"),
    CheckConstraint(
        "outcome IN ('final', 'reverted', 'cancelled', 'refused', 'needs_review', 'lost')", name="outcome_known"
    ),
    CheckConstraint("(outcome IS NULL) = (state = 'open')", name="outcome_told"),
    Index("ix_wallet_batches_open", "book", "network", "id", postgresql_where=text("state <> 'ended'")),
)
"""Withdrawals that are paid by one transaction through the payout contract."""

batch_legs = Table(
    "wallet_batch_legs",
    metadata,
    Column("book", Text, primary_key=True),
    Column("batch", Text, primary_key=True),
    Column("position", SmallInteger, primary_key=True),  # from 0, as in the contract's call
    Column("withdrawal", Text, nullable=False),
    Column("result", Text, nullable=False),  # given_back: never signed, and paid alone since
    ForeignKeyConstraint(["book", "batch"], ["wallet_batches.book", "wallet_batches.id"]),
    ForeignKeyConstraint(["book", "withdrawal"], ["wallet_withdrawals.book", "wallet_withdrawals.id"]),
    CheckConstraint(
        "result IN ('open', 'paid', 'failed', 'unclear', 'released', 'given_back', 'lost')", name="result_known"
    ),
    Index(
        "uq_wallet_batch_legs_withdrawal",
        "book",
        "withdrawal",
        unique=True,
        postgresql_where=text("result <> 'given_back'"),
    ),
)
"""Which withdrawals a batch pays; no withdrawal is in two that may pay it."""

paid_alone = Table(
    "wallet_paid_alone",
    metadata,
    Column("book", Text, primary_key=True),
    Column("withdrawal", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("decided_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "withdrawal"], ["wallet_withdrawals.book", "wallet_withdrawals.id"]),
)
"""Withdrawals that no batch takes any more."""

own_gas = Table(
    "wallet_own_gas",
    metadata,
    Column("book", Text, primary_key=True),
    Column("transaction_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("fee_wei", Amount, nullable=False),
    Column("booked_at", Instant, nullable=False),
)
"""Final transactions that pay nobody (allowances, deployments, anchors) and whose gas is booked."""
