"""Tables of the payment providers' rails; that of the top-ups themselves is in `fiat.tables`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from db.tables import metadata
from db.types import Amount, Balance, Digest, Instant

refunds = Table(
    "fiat_refunds",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("top_up", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("rail", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("state", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("source", Text),
    Column("hold", Text),
    Column("payment", Text, nullable=False),
    Column("capture", Text),
    Column("fee", Balance, nullable=False, server_default=text("0")),
    Column("code", Text),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("submitted_at", Instant),
    Column("due_at", Instant),
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("ending", Text),  # what a treasurer says became of it
    Column("ending_evidence", Text),
    Column("ending_reason", Text),
    Column("ending_by", Text),
    Column("ending_at", Instant),
    Column("agreed_by", Text),  # another one, by whom it was ended
    Column("agreed_reason", Text),
    ForeignKeyConstraint(["book", "top_up"], ["fiat_top_ups.book", "fiat_top_ups.id"]),
    UniqueConstraint("book", "rail", "source"),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("state IN ('requested', 'submitted', 'unknown', 'pending', 'final', 'failed')", name="state_known"),
    CheckConstraint("ending IN ('succeeded', 'failed')", name="ending_known"),
    CheckConstraint(
        "num_nonnulls(ending, ending_evidence, ending_reason, ending_by, ending_at) IN (0, 5)", name="ending_whole"
    ),
    CheckConstraint(
        "(agreed_by IS NULL) = (agreed_reason IS NULL)"
        " AND (agreed_by IS NULL OR (ending_by IS NOT NULL AND agreed_by <> ending_by))",
        name="agreed_by_another",
    ),
    CheckConstraint("(origin = 'user') = (hold IS NOT NULL)", name="users_are_held"),
    Index("ix_fiat_refunds_top_up", "book", "top_up", text("id DESC")),
    Index("ix_fiat_refunds_due", "book", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_fiat_refunds_unknown", "book", text("id DESC"), postgresql_where=text("state = 'unknown'")),
)

disputes = Table(
    "fiat_disputes",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("rail", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("top_up", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("state", Text, nullable=False),
    Column("withdrawn", Amount, nullable=False),
    Column("fee", Balance, nullable=False),
    Column("reason", Text),
    Column("opened_at", Instant, nullable=False),
    Column("respond_by", Instant),
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "top_up"], ["fiat_top_ups.book", "fiat_top_ups.id"]),
    UniqueConstraint("book", "rail", "source", "top_up"),
    CheckConstraint("state IN ('inquiry', 'open', 'under_review', 'won', 'lost', 'closed')", name="state_known"),
    Index("ix_fiat_disputes_state", "book", "state", text("id DESC")),
    Index("ix_fiat_disputes_top_up", "book", "top_up"),
)

settlements = Table(
    "fiat_settlements",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("rail", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Balance, nullable=False),  # negative: taken from our bank account
    Column("state", Text, nullable=False),
    Column("arrives_on", Text),
    Column("descriptor", Text),
    Column("bank_line", Text),
    Column("entries", Integer),
    Column("differences", Integer, nullable=False, server_default=text("0")),
    Column("unexplained", Balance, nullable=False, server_default=text("0")),
    Column("accepted_at", Instant),  # when a treasurer took what doesn't fit as it is
    Column("accepted_by", Text),
    Column("accepted_reason", Text),
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "rail", "source"),
    UniqueConstraint("book", "bank_line"),
    CheckConstraint("amount <> 0", name="amount_not_zero"),
    CheckConstraint("state IN ('sent', 'matched', 'failed')", name="state_known"),
    CheckConstraint("state <> 'matched' OR bank_line IS NOT NULL", name="line_when_matched"),
    CheckConstraint(
        "(accepted_at IS NULL) = (accepted_by IS NULL) AND (accepted_at IS NULL) = (accepted_reason IS NULL)",
        name="accepted_whole",
    ),
    Index("ix_fiat_settlements_unread", "book", "id", postgresql_where=text("entries IS NULL")),
    Index("ix_fiat_settlements_sent", "book", "rail", "arrives_on", postgresql_where=text("state = 'sent'")),
    Index(
        "ix_fiat_settlements_differing",
        "book",
        "id",
        postgresql_where=text("accepted_at IS NULL AND (differences > 0 OR unexplained <> 0)"),
    ),
)

settlement_entries = Table(
    "fiat_settlement_entries",
    metadata,
    Column("book", Text, primary_key=True),
    Column("settlement", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("object", Text),
    Column("gross", Balance, nullable=False),
    Column("fee", Balance, nullable=False),
    Column("net", Balance, nullable=False),
    Column("at", Instant, nullable=False),
    Column("subject", Text),
    Column("difference", Text),
    ForeignKeyConstraint(["book", "settlement"], ["fiat_settlements.book", "fiat_settlements.id"]),
)

payment_methods = Table(
    "fiat_payment_methods",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("rail", Text, nullable=False),
    # What older versions kept in clear; sealed before the service starts (`fiat.sealing`), and null from then on.
    Column("token", Text),
    Column("customer", Text),
    Column("last4", Text),
    Column("personal", LargeBinary),  # the provider's token, its name of the user, the last digits: `fiat.rails.sealed`
    Column("brand", Text, nullable=False),
    Column("expires_year", Integer),
    Column("expires_month", Integer),
    Column("removed", Boolean, nullable=False, server_default=text("false")),
    Column("created_at", Instant, nullable=False),
    CheckConstraint("last4 ~ '^[0-9]{4}$'", name="last4_four_digits"),
    CheckConstraint(
        "(personal IS NULL) = (token IS NOT NULL) AND (personal IS NULL OR (customer IS NULL AND last4 IS NULL))",
        name="sealed_or_old",
    ),
    Index("ix_fiat_payment_methods_in_clear", "book", "id", postgresql_where=text("personal IS NULL")),
    Index("ix_fiat_payment_methods_owner", "book", "owner", text("id DESC")),
)

webhooks = Table(
    "fiat_webhooks",
    metadata,
    Column("book", Text, primary_key=True),
    Column("rail", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("object_kind", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("reference", Text),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("code", Text),
    Column("body_sha256", Digest, nullable=False),
    Column("body_sealed", LargeBinary),  # null without a key, and after 30 days: `fiat.rails.sealed`
    Column("occurred_at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("due_at", Instant),
    Column("done_at", Instant),
    UniqueConstraint("book", "id"),
    CheckConstraint("state IN ('waiting', 'done', 'dead')", name="state_known"),
    CheckConstraint("(state = 'waiting') = (due_at IS NOT NULL)", name="due_while_waiting"),
    Index("ix_fiat_webhooks_due", "book", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_fiat_webhooks_bodies", "book", "received_at", postgresql_where=text("body_sealed IS NOT NULL")),
    Index("ix_fiat_webhooks_dead", "book", "id", postgresql_where=text("state = 'dead'")),
)

rail_cursors = Table(
    "fiat_rail_cursors",
    metadata,
    Column("book", Text, primary_key=True),
    Column("rail", Text, primary_key=True),
    Column("list", Text, primary_key=True),
    Column("cursor", Text),
    Column("looked_at", Instant, nullable=False),
)

sandbox_objects = Table(
    "fiat_sandbox_objects",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reference", Text),
    Column("document", JSONB, nullable=False),
    UniqueConstraint("book", "kind", "reference"),
    Index("ix_fiat_sandbox_objects_seq", "book", "kind", "seq"),
)

sandbox_events = Table(
    "fiat_sandbox_events",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("object_kind", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("reference", Text),
    Column("at", Instant, nullable=False),
    Column("sent", Boolean, nullable=False, server_default=text("false")),
    Index("ix_fiat_sandbox_events_unsent", "book", "seq", postgresql_where=text("NOT sent")),
)
