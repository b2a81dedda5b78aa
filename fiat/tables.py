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
    LargeBinary,
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
    Column("kind", Text, nullable=False),  # a statement closes with a balance; a notification tells lines ahead of it
    Column("format", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("bank_id", Text, nullable=False),
    Column("sequence", BigInteger),
    Column("opening", Balance),
    Column("closing", Balance),
    Column("closing_on", Date),
    Column("lines", Integer, nullable=False),
    Column("pending", Integer, nullable=False),
    Column("file", Text, nullable=False),
    Column("file_sha256", Digest, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("imported_at", Instant),  # null until every line is in the book
    Column("gap", Balance),  # closing, less the closing before and the lines that this statement brought
    CheckConstraint("kind IN ('statement', 'notification')", name="kind_known"),
    CheckConstraint(
        "(kind = 'statement') = (opening IS NOT NULL AND closing IS NOT NULL AND closing_on IS NOT NULL)",
        name="balances_of_statements",
    ),
    CheckConstraint(
        "(gap IS NOT NULL) = (kind = 'statement' AND imported_at IS NOT NULL)", name="gap_known_when_imported"
    ),
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
    # What older versions kept in clear; sealed before the service starts (`fiat.sealing`), and null from then on.
    Column("end_to_end_id", Text),
    Column("remittance", Text),
    Column("counterparty", Text),
    Column("counterparty_account", Text),
    Column("personal", LargeBinary),  # who paid or was paid, and what they wrote: `fiat.personal`
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("owner", Text),
    Column("top_up", Text),
    Column("payout", Text),
    Column("settlement", Text),  # of a provider, whose money it is
    Column("recorded_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "statement"], ["fiat_bank_statements.book", "fiat_bank_statements.id"]),
    CheckConstraint("direction IN ('CRDT', 'DBIT')", name="direction_known"),
    CheckConstraint(
        "state IN ('credited', 'paid', 'returned', 'suspended', 'matched', 'settled', 'noted')", name="state_known"
    ),
    CheckConstraint("state <> 'credited' OR top_up IS NOT NULL", name="top_up_when_credited"),
    CheckConstraint("(state = 'settled') = (settlement IS NOT NULL)", name="settlement_when_settled"),
    CheckConstraint("state NOT IN ('paid', 'returned') OR payout IS NOT NULL", name="payout_when_paid"),
    CheckConstraint(
        "state NOT IN ('suspended', 'noted') OR (top_up IS NULL AND payout IS NULL)", name="nobodys_when_suspended"
    ),
    CheckConstraint("state <> 'matched' OR top_up IS NOT NULL OR payout IS NOT NULL", name="somebodys_when_matched"),
    CheckConstraint("state IN ('credited', 'paid', 'returned') OR reason IS NOT NULL", name="reason_unless_matched"),
    CheckConstraint(
        "personal IS NOT NULL OR (end_to_end_id IS NOT NULL AND remittance IS NOT NULL AND counterparty IS NOT NULL"
        " AND counterparty_account IS NOT NULL)",
        name="sealed_or_old",
    ),
    Index("ix_fiat_bank_lines_in_clear", "book", "id", postgresql_where=text("remittance IS NOT NULL")),
    Index("ix_fiat_bank_lines_statement", "book", "statement", "number"),
    Index("ix_fiat_bank_lines_day", "book", "account", "booked_on"),
    Index("ix_fiat_bank_lines_state", "book", "state", "recorded_at", "id"),
    Index("ix_fiat_bank_lines_suspended", "book", "asset", "amount", postgresql_where=text("state = 'suspended'")),
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
    Column("hold", Text),  # what waits in the book for it; null of a bank's, and of older versions'
    Column("service_fee", Amount, nullable=False, server_default=text("0")),  # the house's
    Column("due_at", Instant),  # when the worker looks at it next; null when it need not
    Column("revision", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "rail", "source"),
    UniqueConstraint("book", "rail", "capture_source"),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("captured <= amount", name="captured_within_amount"),
    CheckConstraint("service_fee = 0 OR service_fee < amount", name="service_fee_leaves_something"),
    CheckConstraint("(state = 'final') = (captured > 0)", name="captured_when_final"),
    CheckConstraint(
        "state IN ('requested', 'submitted', 'unknown', 'requires_action', 'approved', 'processing', 'authorised',"
        " 'final', 'failed', 'cancelled')",
        name="state_known",
    ),
    Index("ix_fiat_top_ups_due", "book", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_fiat_top_ups_owner", "book", "owner", text("id DESC")),
)

payouts = Table(
    "fiat_payouts",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("rail", Text, nullable=False),
    Column("account", Text, nullable=False),  # ours that pays: a bank account's name, a provider's
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("fee", Amount, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("detail", Text),
    Column("recipient", LargeBinary, nullable=False),  # name and account number, sealed: `fiat.personal`
    Column("recipient_mark", Text, nullable=False),  # the account number's keyed hash
    Column("hold", Text, nullable=False),
    Column("batch", Text),
    Column("accepted_at", Instant),
    Column("source", Text),  # what a provider calls it
    Column("rail_fee", Amount, nullable=False, server_default=text("0")),  # the provider's, as booked
    Column("due_at", Instant),  # when the worker asks the provider of it next
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "batch"], ["fiat_payout_batches.book", "fiat_payout_batches.id"]),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint(
        "state IN ('requested', 'submitting', 'submitted', 'unknown', 'paid', 'returned', 'rejected', 'failed',"
        " 'cancelled')",
        name="state_known",
    ),
    CheckConstraint(
        "batch IS NOT NULL OR state IN ('requested', 'rejected', 'cancelled')", name="batch_before_submission"
    ),
    Index("ix_fiat_payouts_owner", "book", "owner", text("id DESC")),
    Index("ix_fiat_payouts_batch", "book", "batch"),
    Index("ix_fiat_payouts_due", "book", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_fiat_payouts_unknown", "book", "account", postgresql_where=text("state = 'unknown'")),
    Index(
        "ix_fiat_payouts_open",
        "book",
        "rail",
        "id",
        postgresql_where=text("state IN ('requested', 'submitting', 'submitted', 'unknown')"),
    ),
)

payout_batches = Table(
    "fiat_payout_batches",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("rail", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("payouts", Integer, nullable=False),
    Column("total", Amount, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("state IN ('prepared', 'submitted', 'unknown', 'rejected')", name="state_known"),
)

payout_memories = Table(
    "fiat_payout_memories",
    metadata,
    Column("book", Text, primary_key=True),
    Column("rail", Text, primary_key=True),
    Column("identity", Text, nullable=False),  # of a folder's memory; of a provider's payouts, of this database itself
    Column("through", Instant),  # batches from before need not be in the memory
    Column("since", Instant),  # since when this database is what it is; null: it always was
    Column("updated_at", Instant, nullable=False),
)

bank_messages = Table(
    "fiat_bank_messages",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),  # of the file's bytes: the same file is the same message
    Column("kind", Text, nullable=False),
    Column("bank_id", Text, nullable=False),
    Column("file", Text, nullable=False),
    Column("file_sha256", Digest, nullable=False),
    Column("told", Integer, nullable=False),
    Column("moved", Integer, nullable=False),
    Column("received_at", Instant, nullable=False),
)

virtual_ibans = Table(
    "fiat_virtual_ibans",
    metadata,
    Column("book", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("issued_at", Instant, nullable=False),
    UniqueConstraint("book", "account", "owner"),
)
