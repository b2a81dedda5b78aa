"""Treasury's rows: what came in to the house, adjustments, reconciliations, approvals, sweeps, refills, epochs."""

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
    Column("source", Text, nullable=False, server_default="suspense"),  # of the house, against which it's booked
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

outflows = Table(
    "treasury_outflows",
    metadata,
    Column("book", Text, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("address", Text, nullable=False),  # the own address that it left
    Column("version", Integer, primary_key=True),  # each revival of the same transfer in another block is a new one
    Column("id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("recipient", Text),  # NULL: gas
    Column("role", Text, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("booked_at", Instant, nullable=False),
    Column("accounted_by", Text),  # the adjustment or withdrawal that says what it was
    UniqueConstraint("book", "id"),
    CheckConstraint("state IN ('booked', 'reversed')", name="state_known"),
    CheckConstraint("role IN ('deposit', 'hot', 'gas')", name="role_known"),
    Index(
        "uq_treasury_outflows_live",
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

break_sightings = Table(
    "treasury_break_sightings",
    metadata,
    Column("book", Text, primary_key=True),
    Column("break_id", Text, primary_key=True),
    Column("run", Text, primary_key=True),
    Column("seen_at", Instant, nullable=False),
    Column("expected", Balance, nullable=False),
    Column("found", Balance, nullable=False),
    ForeignKeyConstraint(["book", "break_id"], ["treasury_breaks.book", "treasury_breaks.id"]),
)
"""What a break was like when it was seen first, and whenever it had changed; append-only."""

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
    Column("changed", Boolean, nullable=False, server_default=text("true")),  # of others only some are kept
    Column("explained", Integer, nullable=False, server_default=text("0")),  # of the breaks, by two people
    Index("ix_treasury_reconciliations_quiet", "book", "finished_at", postgresql_where=text("NOT changed")),
)

book_checks = Table(
    "treasury_book_checks",
    metadata,
    Column("book", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),  # through which lines are in the sums and digests
    Column("server", Integer, nullable=False),  # PostgreSQL's major version, by which digests were made
    Column("rewritten", BigInteger, nullable=False),  # lines updated or deleted, as PostgreSQL counted them
    Column("next_bucket", BigInteger, nullable=False),  # whose turn it is to be looked at
    Column("checked_at", Instant, nullable=False),
)
"""How far each book, by its number, was checked."""

book_counters = Table(
    "treasury_book_counters",
    metadata,
    Column("book", Integer, primary_key=True),
    Column("account", Integer, primary_key=True),
    Column("debits_posted", Balance, nullable=False),
    Column("credits_posted", Balance, nullable=False),
    Column("debits_pending", Balance, nullable=False),
    Column("credits_pending", Balance, nullable=False),
)
"""What each account's lines come to, carried on from check to check. A memory to compare with, nobody's balance."""

book_digests = Table(
    "treasury_book_digests",
    metadata,
    Column("book", Integer, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("bucket", BigInteger, primary_key=True),
    Column("rows", BigInteger, nullable=False),  # of lines; not counted of accounts
    Column("digest", BigInteger, nullable=False),
    Column("found_rows", BigInteger),  # as it was when it was found altered; NULL: it's what it was
    Column("found_digest", BigInteger),
    Column("altered", JSONB),  # the rows that were named then
    CheckConstraint("part IN ('accounts', 'lines')", name="part_known"),
    CheckConstraint(
        "(found_rows IS NULL) = (found_digest IS NULL) AND (found_rows IS NULL) = (altered IS NULL)", name="found_whole"
    ),
)
"""Digests of what accounts' lines come to, and of stretches of lines."""

samples = Table(
    "treasury_samples",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("mined_at", Instant, nullable=False),
    Column("taken_at", Instant, nullable=False),
    Column("judged_at", Instant),  # when its block was final; NULL before
    Column("held", JSONB, nullable=False),  # by custody account, in smallest units
    Column("deviating", JSONB, nullable=False),  # addresses that held something else than was seen of them
    Index("ix_treasury_samples_number", "network", "block_number"),
)
"""What nodes said that own addresses hold at a block, asked while they still knew."""

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
    Column("evidence", JSONB, nullable=False, server_default="[]"),  # ids
    Column("seen_in", Text, nullable=False, server_default=""),  # the block or statement it was first seen in
    Column("state", Text, nullable=False, server_default="open"),
    Column("owner", Text),  # the key of the treasurer who looks after it
    Column("causes", JSONB, nullable=False, server_default="[]"),
    Column("explained_at", Instant),  # when an entry was posted for it, or it was accepted
    Column("accepted_until", Instant),
    Column("revision", Integer, nullable=False, server_default=text("0")),  # lines of its history
    CheckConstraint(
        "state IN ('open', 'proposed', 'awaiting_cycle', 'accepted', 'resolved')",
        name="state_known",
    ),
    CheckConstraint("(state = 'resolved') = (resolved_at IS NOT NULL)", name="resolved_when"),
    CheckConstraint("(state IN ('awaiting_cycle', 'accepted')) = (explained_at IS NOT NULL)", name="explained_when"),
    CheckConstraint("(state = 'accepted') = (accepted_until IS NOT NULL)", name="accepted_until"),
    Index("ix_treasury_breaks_standing", "book", "id", postgresql_where=text("resolved_at IS NULL")),
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

break_resolutions = Table(
    "treasury_break_resolutions",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("break_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("expected", Balance, nullable=False),  # the break's when it was proposed
    Column("found", Balance, nullable=False),
    Column("against", Text),  # the purpose of the house on the entry's other side
    Column("amount", Amount),
    Column("until", Instant),  # an acceptance's end
    Column("reason", Text, nullable=False),
    Column("proposed_by", Text, nullable=False),
    Column("proposed_at", Instant, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", Instant),
    Column("entry", Text),  # the command that posted it
    ForeignKeyConstraint(["book", "break_id"], ["treasury_breaks.book", "treasury_breaks.id"]),
    CheckConstraint("kind IN ('entry', 'acceptance')", name="kind_known"),
    CheckConstraint("state IN ('proposed', 'confirmed', 'withdrawn', 'overtaken')", name="state_known"),
    CheckConstraint(
        "num_nonnulls(against, amount) = CASE kind WHEN 'entry' THEN 2 ELSE 0 END"
        " AND (until IS NOT NULL) = (kind = 'acceptance')",
        name="of_its_kind",
    ),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint(
        "(state = 'proposed') = (decided_at IS NULL) AND (decided_by IS NOT NULL) = (state IN"
        " ('confirmed', 'withdrawn'))",
        name="decided_when",
    ),
    CheckConstraint("state <> 'confirmed' OR decided_by <> proposed_by", name="confirmed_by_another"),
    CheckConstraint("(entry IS NOT NULL) = (kind = 'entry' AND state = 'confirmed')", name="posted_by_its_entry"),
    Index(
        "uq_treasury_break_resolutions_open",
        "book",
        "break_id",
        unique=True,
        postgresql_where=text("state = 'proposed'"),
    ),
    Index("ix_treasury_break_resolutions_break", "book", "break_id", "id"),
)
"""How breaks are to be resolved; at most one proposal waits per break."""

break_history = Table(
    "treasury_break_history",
    metadata,
    Column("book", Text, primary_key=True),
    Column("break_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),  # the break's revision that it made
    Column("at", Instant, nullable=False),
    Column("by", Text),  # NULL: a cycle, or the clock
    Column("kind", Text, nullable=False),
    Column("words", Text, nullable=False),
    ForeignKeyConstraint(["book", "break_id"], ["treasury_breaks.book", "treasury_breaks.id"]),
)
"""Append-only: what happened to each break."""

approvals = Table(
    "treasury_approvals",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("request", Text, nullable=False),  # whose repeat it would be, and of which content
    Column("content", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),  # an end by `not_after` isn't written: the clock tells it
    Column("subject", Text, nullable=False),
    Column("terms", JSONB, nullable=False),  # the intent's, as custody.intent_json writes them
    Column("statement", LargeBinary, nullable=False),  # the very bytes that are signed
    Column("maker", Text, nullable=False),
    Column("made_by_scheme", Text),  # NULL: a user's withdrawal, whose maker is a claim
    Column("made_by_payload", LargeBinary),
    Column("not_after", Instant, nullable=False),
    Column("fee_wei_max", Amount, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("policy_fingerprint", LargeBinary, nullable=False),
    Column("needed", SmallInteger, nullable=False),  # approvals, by the policy when it was asked
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("closed_at", Instant),  # when it was used or withdrawn
    UniqueConstraint("book", "request"),
    CheckConstraint("state IN ('open', 'approved', 'consumed', 'withdrawn')", name="state_known"),
    CheckConstraint("(closed_at IS NOT NULL) = (state IN ('consumed', 'withdrawn'))", name="closed_when"),
    CheckConstraint("(made_by_scheme IS NULL) = (made_by_payload IS NULL)", name="made_by_whole"),
    Index("ix_treasury_approvals_subject", "book", "subject"),
    Index("ix_treasury_approvals_open", "book", "id", postgresql_where=text("state = 'open'")),
)

approval_signatures = Table(
    "treasury_approval_signatures",
    metadata,
    Column("book", Text, primary_key=True),
    Column("approval", Text, primary_key=True),
    Column("approver", Text, primary_key=True),
    Column("scheme", Text, nullable=False),  # how `payload` proves it: `ed25519` today
    Column("payload", LargeBinary, nullable=False),
    Column("received_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "approval"], ["treasury_approvals.book", "treasury_approvals.id"]),
)

sweeps = Table(
    "treasury_sweeps",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("contract", Text),  # NULL: the native coin
    Column("address", Text, nullable=False),
    Column("generation", SmallInteger, nullable=False),  # of the deposit key
    Column("key_index", Integer, nullable=False),
    Column("chain_amount", Amount),  # of what was begun last; NULL before
    Column("amount", Amount),
    Column("number", Integer, nullable=False),  # of beginnings: each is another subject to the signer
    Column("tries", Integer, nullable=False),  # refusals in a row
    Column("next_try_at", Instant),  # NULL: not by itself
    Column("waiting_for", Text),
    Column("reason", Text),
    Column("gas_limit", BigInteger),
    Column("fee_wei_max", Amount),
    Column("valid_before", BigInteger),  # Unix seconds, of the latest authorisation
    Column("tx_hash", Text),  # that moved it, whoever sent it
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("place", Text),
    Column("asked_by", Text),  # the treasurer; NULL: the rule
    Column("request", Text),  # whose repeat it would be, and of which content
    Column("content", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("book", "request"),
    CheckConstraint(
        "state IN ('planned', 'authorising', 'topping_up', 'reserved', 'signed', 'broadcast', 'mined', 'final',"
        " 'unsweepable', 'needs_review', 'dropped')",
        name="state_known",
    ),
    CheckConstraint("method IN ('transfer', 'authorisation')", name="method_known"),
    CheckConstraint("state <> 'final' OR place IS NOT NULL", name="final_with_evidence"),
    Index(
        "uq_treasury_sweeps_open",
        "book",
        "network",
        "address",
        unique=True,
        postgresql_where=text("state NOT IN ('final', 'unsweepable', 'dropped')"),
    ),
    Index(
        "ix_treasury_sweeps_unfinished",
        "book",
        "network",
        "address",
        postgresql_where=text("state NOT IN ('final', 'dropped')"),
    ),
    Index("ix_treasury_sweeps_tx_hash", "network", "tx_hash"),
)
"""Sweeps; of those that are open at most one per address."""

moves = Table(
    "treasury_moves",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),  # the own transaction's subject
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("sweep", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("address", Text, nullable=False),  # the deposit address that it's about
    Column("chain_amount", Amount, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("kind IN ('sweep', 'relay', 'top_up')", name="kind_known"),
    CheckConstraint("state IN ('under_way', 'booked', 'refused', 'needs_review', 'dropped')", name="state_known"),
    Index(
        "uq_treasury_moves_top_up",
        "book",
        "network",
        "address",
        unique=True,
        postgresql_where=text("kind = 'top_up' AND state = 'under_way'"),
    ),
    Index(
        "ix_treasury_moves_unfinished",
        "book",
        "id",
        postgresql_where=text("state IN ('under_way', 'needs_review')"),
    ),
)
"""Own transactions of sweeps, each until it's booked; one open top-up per address."""

refills = Table(
    "treasury_refills",
    metadata,
    Column("book", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("reason", Text, nullable=False),
    Column("inflow", Text),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("state IN ('open', 'arrived', 'closed', 'lapsed')", name="state_known"),
    Index(
        "uq_treasury_refills_open",
        "book",
        "network",
        "asset",
        unique=True,
        postgresql_where=text("state IN ('open', 'arrived')"),
    ),
)
"""Requests to bring more to the hot address; at most one per network and asset at a time."""

solvency_epochs = Table(
    "treasury_solvency_epochs",
    metadata,
    Column("book", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("digest", Text, nullable=False),  # 64 hex digits: what the book's command states and addresses sign
    Column("command", Text, nullable=False),  # of the book, which states the digest
    Column("statement", Text, nullable=False),  # the very text that the digest is over
    Column("asked_by", Text),  # the treasurer; NULL: a command or the schedule
    Column("made_at", Instant, nullable=False),
    Column("controls_at", Instant),  # when every address that is to sign had been asked; NULL before
    Column("seal", Text),  # how a seal covers the book's command, as JSON; NULL before it's sealed
    CheckConstraint("number > 0", name="number_positive"),
    Index(
        "ix_treasury_solvency_epochs_unfinished",
        "book",
        "number",
        postgresql_where=text("controls_at IS NULL OR seal IS NULL"),
    ),
)
"""Epochs of what is owed and held: a row rides with the book's command that states its hash."""

handed_controls = Table(
    "treasury_handed_controls",
    metadata,
    Column("book", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # `key`: by the address's own; `contract`: the contract there took it
    Column("signature", LargeBinary, nullable=False),
    Column("block_number", BigInteger),  # the final block at which a contract was asked
    Column("block_hash", Text),
    Column("handed_at", Instant, nullable=False),
    ForeignKeyConstraint(["book", "number"], ["treasury_solvency_epochs.book", "treasury_solvency_epochs.number"]),
    CheckConstraint("kind IN ('key', 'contract')", name="kind_known"),
    CheckConstraint(
        "(kind = 'contract') = (block_number IS NOT NULL) AND (kind = 'contract') = (block_hash IS NOT NULL)",
        name="contracts_at_a_block",
    ),
)
"""Proofs of control that were made elsewhere and handed in: of cold addresses, whose keys no process here has."""
