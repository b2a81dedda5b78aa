"""Who was put into which tier, by whom and why: a row for each change, never altered."""

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text

from db.tables import metadata
from db.types import Instant

tier_changes = Table(
    "tariff_tier_changes",
    metadata,
    Column("book", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # from 1, gapless; the highest is in force
    Column("from_tier", Text, nullable=False),
    Column("to_tier", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed_by", Text, nullable=False),  # the API key
    Column("changed_at", Instant, nullable=False),
    CheckConstraint("number > 0", name="number_from_one"),
    CheckConstraint("from_tier <> to_tier", name="something_changed"),
    CheckConstraint("reason <> ''", name="reason_given"),
)
