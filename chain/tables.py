"""The chain's tables, a contract for the layers above, which may read them and join on them but never write them.

Addresses and hashes are lower-case `0x` text. Amounts are in the chain's own units of the contract (its decimals), wei
for the native coin. A row of a block that left the chain stays, flagged `orphaned`; when the block comes back it is
live again and its `revision` has risen by one. At most one block per height is live.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
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
from db.types import Amount, Instant

networks = Table(
    "chain_networks",
    metadata,
    Column("network", Text, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("genesis_hash", Text, nullable=False),
    Column("height", BigInteger, nullable=False),  # the cursor: the highest block that was taken in; -1 before any
    Column("block_hash", Text),  # its hash; NULL before any
    Column("head_height", BigInteger, nullable=False),  # the highest that the node has told of
    Column("final_height", BigInteger, nullable=False),  # never falls; -1 before any block is final
    Column("roots_verified", Boolean, nullable=False),  # whether the last block's hash and roots were recomputed
    Column("halted", Text),  # why crediting and paying must stop until an operator looks; NULL: nothing is wrong
    Column("epoch", BigInteger, nullable=False),  # the fencing number of the follower that leads
    Column("leader", Text),
    Column("updated_at", Instant, nullable=False),
)

blocks = Table(
    "chain_blocks",
    metadata,
    Column("network", Text, ForeignKey("chain_networks.network"), primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("parent_hash", Text, nullable=False),
    Column("mined_at", Instant, nullable=False),  # the block's own timestamp
    Column("base_fee_per_gas", Amount, nullable=False),
    Column("verified", Boolean, nullable=False),  # hash and roots were recomputed
    Column("orphaned", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Index("uq_chain_blocks_live", "network", "number", unique=True, postgresql_where=text("NOT orphaned")),
)

observations = Table(
    "chain_observations",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),  # `log:n` within the receipt, or `value`
    Column("seq", BigInteger, Identity(always=True), nullable=False, unique=True),  # order of recording, with gaps
    Column("block_number", BigInteger, nullable=False),
    Column("contract", Text),  # the token, known or not; NULL: the native coin
    Column("sender", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("orphaned", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seen_at", Instant, nullable=False),
    ForeignKeyConstraint(["network", "block_hash"], ["chain_blocks.network", "chain_blocks.block_hash"]),
    CheckConstraint("amount > 0", name="amount_positive"),
    Index("ix_chain_observations_recipient", "network", "recipient", "block_number"),
    Index("ix_chain_observations_sender", "network", "sender", "block_number"),
    Index("ix_chain_observations_number", "network", "block_number"),
    Index("ix_chain_observations_tx_hash", "network", "tx_hash"),
)
"""Transfers in seen blocks to or from own addresses. What both pays and is paid by us stands once."""

outgoing = Table(
    "chain_outgoing",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("sender", Text, nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("recipient", Text),  # NULL: it made a contract
    Column("succeeded", Boolean, nullable=False),
    Column("gas_used", BigInteger, nullable=False),
    Column("effective_gas_price", Amount, nullable=False),
    Column("fee_wei", Amount, nullable=False),
    Column("orphaned", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seen_at", Instant, nullable=False),
    ForeignKeyConstraint(["network", "block_hash"], ["chain_blocks.network", "chain_blocks.block_hash"]),
    Index("ix_chain_outgoing_sender", "network", "sender", "nonce"),
    Index("ix_chain_outgoing_number", "network", "block_number"),
    Index("ix_chain_outgoing_tx_hash", "network", "tx_hash"),
)
"""Every transaction in a seen block that an own address sent, whoever made it."""

addresses = Table(
    "chain_addresses",
    metadata,
    Column("family", Text, primary_key=True),  # networks that share keys and addresses: `evm`
    Column("address", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("key_index", Integer, nullable=False),
    Column("book", Text),  # NULL for the house's own
    Column("owner", Text),
    Column("issued_at", Instant, nullable=False),
    Column("checked_at", Instant),  # when the signer's own derivation was found to be the same; NULL before
    UniqueConstraint("family", "role", "key_index"),
    CheckConstraint("role IN ('deposit', 'hot', 'gas')", name="role_known"),
    CheckConstraint("(role = 'deposit') = (owner IS NOT NULL)", name="deposits_have_owners"),
    CheckConstraint("(book IS NULL) = (owner IS NULL)", name="owner_in_book"),
    Index("ix_chain_addresses_owner", "book", "owner"),
    Index("ix_chain_addresses_unchecked", "family", "role", "key_index", postgresql_where=text("checked_at IS NULL")),
)
"""Own addresses: those issued to users for deposits, and the house's hot and gas addresses."""

address_counters = Table(
    "chain_address_counters",
    metadata,
    Column("family", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("next_index", BigInteger, nullable=False),  # never falls; everything below it was drawn
    Column("reserved_until", BigInteger),  # the signer's journal gave those below it to us; NULL: it was never asked
)
"""From which indexes are drawn, each once; where the signer reserves them, only below `reserved_until`."""

address_pool = Table(
    "chain_address_pool",
    metadata,
    Column("family", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("key_index", Integer, primary_key=True),
    Column("address", Text, nullable=False),
    Column("derived_at", Instant, nullable=False),
    Column("checked_at", Instant),
    UniqueConstraint("family", "address"),
)
"""Addresses derived ahead of need. Nobody was told them, so they aren't watched; issuing moves a row out of here."""

address_findings = Table(
    "chain_address_findings",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("family", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("key_index", Integer, nullable=False),  # -1: the role's extended public key itself
    Column("derived", Text),  # by the signer: an address, or a fingerprint; NULL: it refuses to
    Column("found", Text, nullable=False),  # here
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("cleared_at", Instant),  # when they were the same again, or the row was gone; NULL: open
    Index(
        "uq_chain_address_findings_open",
        "family",
        "role",
        "key_index",
        unique=True,
        postgresql_where=text("cleared_at IS NULL"),
    ),
)
"""Where our addresses or keys aren't the signer's. While one is open, no address of its family is issued."""

nonces = Table(
    "chain_nonces",
    metadata,
    Column("network", Text, ForeignKey("chain_networks.network"), primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("next_nonce", BigInteger, nullable=False),
)
"""The next nonce to reserve per sender; its row is the lock under which nonces are given and taken back."""

transactions = Table(
    "chain_transactions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("network", Text, ForeignKey("chain_networks.network"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("book", Text, nullable=False),
    Column("subject", Text, nullable=False),  # what it carries out: `wdr_...`, `swp_...`
    Column("state", Text, nullable=False),
    Column("waiting_for", Text),  # what a stalled one lacks; NULL: nothing
    Column("sender_role", Text, nullable=False),
    Column("sender_index", Integer, nullable=False),
    Column("sender", Text, nullable=False),
    Column("nonce", BigInteger),  # NULL once the signer refused: the nonce went to the next one
    Column("contract", Text),  # NULL: the native coin
    Column("recipient", Text, nullable=False),
    Column("recipient_role", Text),  # where the signer derives the recipient itself
    Column("recipient_index", Integer),
    Column("amount", Amount, nullable=False),
    Column("gas_limit", BigInteger, nullable=False),
    Column("fee_wei_max", Amount, nullable=False),
    Column("claims", JSONB),  # whose payment it is, for the signer's journal
    Column("refusal", Text),  # the signer's or the node's words, where they ended it or stall it
    Column("mined_attempt", SmallInteger),
    Column("tx_hash", Text),  # of the mined attempt; NULL again when a reorg takes it back
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("succeeded", Boolean),
    Column("gas_used", BigInteger),
    Column("effective_gas_price", Amount),
    Column("fee_wei", Amount),  # exactly gas_used x effective_gas_price: what the sender paid
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("kind IN ('withdrawal', 'sweep', 'gas_topup', 'cancel')", name="kind_known"),
    CheckConstraint(
        "state IN ('reserved', 'signed', 'broadcast', 'mined', 'final', 'reverted', 'cancelled', 'refused',"
        " 'needs_review')",
        name="state_known",
    ),
    CheckConstraint("(nonce IS NULL) = (state = 'refused')", name="nonce_until_refused"),
    Index("uq_chain_transactions_nonce", "network", "sender", "nonce", unique=True),
    Index(
        "uq_chain_transactions_subject",
        "book",
        "subject",
        unique=True,
        postgresql_where=text("state <> 'refused'"),
    ),
    Index(
        "ix_chain_transactions_open",
        "network",
        "sender",
        "nonce",
        postgresql_where=text("state IN ('reserved', 'signed', 'broadcast', 'mined')"),
    ),
)
"""Own transactions, one per subject and per (network, sender, nonce)."""

attempts = Table(
    "chain_attempts",
    metadata,
    Column("transaction_id", Text, ForeignKey("chain_transactions.id"), primary_key=True),
    Column("attempt", SmallInteger, primary_key=True),  # from 1; later ones replace earlier ones or cancel them
    Column("network", Text, nullable=False),
    Column("kind", Text, nullable=False),  # `pay` or `cancel`
    Column("nonce", BigInteger, nullable=False),
    Column("gas_limit", BigInteger, nullable=False),
    Column("max_fee_per_gas", Amount, nullable=False),
    Column("max_priority_fee_per_gas", Amount, nullable=False),
    Column("tx_hash", Text),
    Column("raw", LargeBinary),  # the signed bytes; what is sent, as often as it takes
    Column("signer_sequence", BigInteger),  # the signer's journal after its answer, be it a no
    Column("signer_head", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Column("signed_at", Instant),
    Column("sent_at", Instant),  # the first and the last time
    Column("last_sent_at", Instant),
    UniqueConstraint("network", "tx_hash"),
    Index("ix_chain_attempts_signer_sequence", "signer_sequence"),
    CheckConstraint("kind IN ('pay', 'cancel')", name="kind_known"),
    CheckConstraint("(raw IS NULL) = (tx_hash IS NULL)", name="bytes_with_hash"),
)
"""Each thing the signer was asked to sign: committed before it is asked and never changed afterwards."""
