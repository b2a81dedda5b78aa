"""Rows of what people do to treasury and operation: the audit log, freezes, closed periods, proposals."""

from sqlalchemy import CheckConstraint, Column, Index, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB

from db.tables import metadata
from db.types import Instant

audit_log = Table(
    "treasury_audit_log",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("act", Text, nullable=False),  # the first row about the same act
    Column("at", Instant, nullable=False),
    Column("actor_key", Text, nullable=False),
    Column("actor_user", Text),
    Column("action", Text, nullable=False),
    Column("subject", Text),
    Column("outcome", Text, nullable=False),
    Column("reason_code", Text),
    Column("reason", Text),
    Column("request", Text),
    Column("detail", Text),
    CheckConstraint("outcome IN ('begun', 'done', 'refused', 'failed')", name="outcome_known"),
    Index("ix_treasury_audit_log_subject", "book", "subject", "id"),
    Index("ix_treasury_audit_log_actor", "book", "actor_key", "id"),
)
"""What people did, append-only; each row is sealed by a record in the book's sequence."""

freezes = Table(
    "treasury_freezes",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason_code", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("lifted_at", Instant),
    Column("lifted_by", Text),
    Column("lift_reason", Text),
    CheckConstraint("scope IN ('account', 'owner', 'asset', 'network')", name="scope_known"),
    CheckConstraint(
        "(lifted_at IS NULL) = (lifted_by IS NULL) AND (lifted_at IS NULL) = (lift_reason IS NULL)", name="lifted_whole"
    ),
    Index("ix_treasury_freezes_standing", "book", "scope", "target", postgresql_where=text("lifted_at IS NULL")),
    Index(
        "ix_treasury_freezes_expiring",
        "book",
        "expires_at",
        postgresql_where=text("lifted_at IS NULL AND expires_at IS NOT NULL"),
    ),
)
"""Why something is frozen: several reasons may stand for one target. That it's frozen is said by the book."""

periods = Table(
    "treasury_periods",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("command", Text, nullable=False),  # that closed it
    Column("name", Text),  # `2026-10`, `2026-10-31`; NULL: closed up to an instant
    Column("until", Instant, nullable=False),
    Column("closed_at", Instant, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("confirmed_by", Text),  # who took it on themselves as well that something stood open
    Column("reason", Text, nullable=False),
    Column("open_items", JSONB, nullable=False),  # what stood open when it was closed all the same
    UniqueConstraint("book", "until"),
    CheckConstraint("confirmed_by <> closed_by", name="four_eyes"),
)
"""Periods that were closed, by whom, and in spite of what."""

proposals = Table(
    "treasury_proposals",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),  # an end by `expires_at` isn't written: the clock tells it
    Column("terms", JSONB, nullable=False),  # its kind's; amounts are text
    Column("reason", Text, nullable=False),
    Column("maker", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("closed_by", Text),
    Column("closed_at", Instant),
    Column("made", Text),  # what it became
    CheckConstraint("kind IN ('adjustment', 'reversal', 'credit_line', 'period')", name="kind_known"),
    CheckConstraint("state IN ('open', 'confirmed', 'withdrawn')", name="state_known"),
    CheckConstraint("(closed_by IS NULL) = (state = 'open') AND (closed_at IS NULL) = (state = 'open')", name="closed"),
    CheckConstraint("(made IS NOT NULL) = (state = 'confirmed')", name="confirmed_as"),
    CheckConstraint("state <> 'confirmed' OR closed_by <> maker", name="four_eyes"),
    Index("ix_treasury_proposals_open", "book", "id", postgresql_where=text("state = 'open'")),
)
"""What a second treasurer is to confirm."""
