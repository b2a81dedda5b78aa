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
    Column("final_height", BigInteger, nullable=False),  # falls only when re-anchored; -1 before any block is final
    Column("roots_verified", Boolean, nullable=False),  # whether the last block's hash and roots were recomputed
    Column("halted", Text),  # why crediting and paying must stop until an operator looks; NULL: nothing is wrong
    Column("halted_at", Instant),
    Column("epoch", BigInteger, nullable=False),  # the fencing number of the follower that leads
    Column("leader", Text),
    Column("updated_at", Instant, nullable=False),
    Column("late", BigInteger, nullable=False, server_default="0"),  # observations recorded after their blocks
    CheckConstraint("(halted IS NULL) = (halted_at IS NULL)", name="halted_since"),
)

disagreements = Table(
    "chain_disagreements",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("network", Text, nullable=False),
    Column("height", BigInteger, nullable=False),  # the lowest at which they tell different blocks
    Column("told", JSONB, nullable=False),  # endpoint -> block hash
    Column("stops", Boolean, nullable=False),  # too few tell the same: the network is halted while it's open
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("ended_at", Instant),  # when they told the same again; NULL: open
    Index("uq_chain_disagreements_open", "network", unique=True, postgresql_where=text("ended_at IS NULL")),
)
"""Where a network's nodes told different blocks at one height; at most one is open per network."""

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
    Column("traced", Boolean),  # whether a node told its traces; NULL: none was asked
    Index("uq_chain_blocks_live", "network", "number", unique=True, postgresql_where=text("NOT orphaned")),
    Index("ix_chain_blocks_orphaned", "network", "number", postgresql_where=text("orphaned")),
)

observations = Table(
    "chain_observations",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),  # `log:n`, `value`, `trace:path`, `withdrawal:index`, `surplus:address`
    Column("seq", BigInteger, Identity(always=True), nullable=False, unique=True),  # order of recording, with gaps
    Column("block_number", BigInteger, nullable=False),
    Column("contract", Text),  # the token, known or not; NULL: the native coin
    Column("sender", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("orphaned", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("late", BigInteger),  # recorded after its block, as the so-manieth of the network; NULL: together with it
    Column("attached_to", Text),  # hash of the block of the recipient's surplus that counts this already
    ForeignKeyConstraint(["network", "block_hash"], ["chain_blocks.network", "chain_blocks.block_hash"]),
    CheckConstraint("amount > 0", name="amount_positive"),
    Index("uq_chain_observations_late", "network", "late", unique=True, postgresql_where=text("late IS NOT NULL")),
    Index("ix_chain_observations_recipient", "network", "recipient", "block_number"),
    Index("ix_chain_observations_sender", "network", "sender", "block_number"),
    Index("ix_chain_observations_number", "network", "block_number"),
    Index("ix_chain_observations_tx_hash", "network", "tx_hash"),
)
"""Transfers in seen blocks to or from own addresses. What both pays and is paid by us stands once.

A surplus is what an address holds beyond all that is recorded of it; traces told later of the same coins are attached
to it and count nothing by themselves as long as it's live (`chain.coin_store.counts`). A shortage (`shortage:address`)
is what it holds too little; traces told later of what left it don't count beside it (`chain.coin_store.leaves`).
"""

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
    Column("generation", SmallInteger, nullable=False),  # of the role's key: from 1, one more with each rotation
    Column("key_index", Integer, nullable=False),
    Column("book", Text),  # NULL for the house's own
    Column("owner", Text),
    Column("issued_at", Instant, nullable=False),
    Column("checked_at", Instant),  # when the signer's own derivation was found to be the same; NULL before
    UniqueConstraint("family", "role", "generation", "key_index"),
    CheckConstraint("role IN ('deposit', 'hot', 'gas')", name="role_known"),
    CheckConstraint("(role = 'deposit') = (owner IS NOT NULL)", name="deposits_have_owners"),
    CheckConstraint("(book IS NULL) = (owner IS NULL)", name="owner_in_book"),
    Index("ix_chain_addresses_owner", "book", "owner"),
    Index(
        "ix_chain_addresses_unchecked",
        "family",
        "role",
        "generation",
        "key_index",
        postgresql_where=text("checked_at IS NULL"),
    ),
)
"""Own addresses: those issued to users for deposits, and the house's hot and gas addresses."""

address_counters = Table(
    "chain_address_counters",
    metadata,
    Column("family", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("generation", SmallInteger, primary_key=True),
    Column("next_index", BigInteger, nullable=False),  # never falls; everything below it was drawn
    Column("reserved_until", BigInteger),  # the signer's journal gave those below it to us; NULL: it was never asked
    Column("incarnation", Text),  # of the database in which they are ours (`chain.incarnation`); in another, none is
)
"""From which indexes are drawn, each once; where the signer reserves them, only below `reserved_until`.

The highest generation is the one in force: addresses are issued from it alone, and it never falls.
"""

address_pool = Table(
    "chain_address_pool",
    metadata,
    Column("family", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("generation", SmallInteger, primary_key=True),
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
    Column("generation", SmallInteger, nullable=False),
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
        "generation",
        "key_index",
        unique=True,
        postgresql_where=text("cleared_at IS NULL"),
    ),
)
"""Where our addresses or keys aren't the signer's. While one is open, no address of its family is issued."""

tokens = Table(
    "chain_tokens",
    metadata,
    Column("network", Text, primary_key=True),
    Column("contract", Text, primary_key=True),
    Column("accepted", JSONB, nullable=False),  # a `chain.tokens.TokenState`
    Column("accepted_height", BigInteger, nullable=False),
    Column("accepted_hash", Text, nullable=False),
    Column("accepted_at", Instant, nullable=False),
    Column("accepted_by", Text),  # NULL: it was first seen so, and fitted the configuration
    Column("events_through", BigInteger, nullable=False),  # no `Upgraded` up to here that wasn't told or accepted
)
"""What was accepted of each token. One without a row, or with an open finding, is neither credited nor paid."""

token_findings = Table(
    "chain_token_findings",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("network", Text, nullable=False),
    Column("contract", Text, nullable=False),
    Column("found", JSONB, nullable=False),  # a `chain.tokens.TokenState`, as last seen
    Column("problems", JSONB, nullable=False),  # sentences
    Column("upgraded_height", BigInteger),  # a final block in which it told of an upgrade
    Column("block_number", BigInteger, nullable=False),  # in which it was first seen
    Column("block_hash", Text, nullable=False),
    Column("last_height", BigInteger, nullable=False),  # in which it was last seen so
    Column("last_hash", Text, nullable=False),
    Column("first_seen_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("closed_at", Instant),  # NULL: open
    Column("closed_by", Text),  # who accepted it; NULL with `closed_at`: its block left the chain
    Column("reason", Text),
    CheckConstraint("closed_by IS NULL OR closed_at IS NOT NULL", name="closed_by_somebody"),
    Index(
        "uq_chain_token_findings_open",
        "network",
        "contract",
        unique=True,
        postgresql_where=text("closed_at IS NULL"),
    ),
)
"""Where a token isn't what was accepted, or never was what is configured."""

arrivals = Table(
    "chain_arrivals",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("amount", Amount),  # of what the event told, at most that; NULL: no node can tell the balances any more
    Column("balance_before", Amount),  # of the address at the parent, and at the block
    Column("balance_after", Amount),
    Column("measured_at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["network", "block_hash", "tx_hash", "place"],
        [
            "chain_observations.network",
            "chain_observations.block_hash",
            "chain_observations.tx_hash",
            "chain_observations.place",
        ],
        name="fk_chain_arrivals_observation",
    ),
    CheckConstraint("(balance_before IS NULL) = (amount IS NULL)", name="measured_whole"),
    CheckConstraint("(balance_after IS NULL) = (amount IS NULL)", name="measured_wholly"),
)
"""What really arrived of each token transfer to an own address, by balances at its block."""

coin_balances = Table(
    "chain_coin_balances",
    metadata,
    Column("network", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),  # a final block; what came up to it is accounted for
    Column("block_hash", Text, nullable=False),
    Column("balance", Amount, nullable=False),
)
"""What each own address held of the native coin when it was last looked at."""

surpluses = Table(
    "chain_surpluses",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),  # the block looked at before; it came after that one. -1: nobody knows
    Column("balance", Amount, nullable=False),
    Column("found_at", Instant, nullable=False),
    ForeignKeyConstraint(["network", "block_hash"], ["chain_blocks.network", "chain_blocks.block_hash"]),
    Index("ix_chain_surpluses_address", "network", "address", "block_number"),
)
"""Where each observation at a place `surplus:address` or `shortage:address` comes from. One per address and block."""

screenings = Table(
    "chain_screenings",
    metadata,
    Column("network", Text, primary_key=True),
    Column("block_hash", Text, primary_key=True),
    Column("tx_hash", Text, primary_key=True),
    Column("place", Text, primary_key=True),
    Column("objection", Text),  # why its sender's money must not reach a user by itself; NULL: nothing is known
    Column("asked_in", Text, nullable=False),  # the block at which it was asked
    Column("screened_at", Instant, nullable=False),
    ForeignKeyConstraint(
        ["network", "block_hash", "tx_hash", "place"],
        [
            "chain_observations.network",
            "chain_observations.block_hash",
            "chain_observations.tx_hash",
            "chain_observations.place",
        ],
        name="fk_chain_screenings_observation",
    ),
)
"""What screening told of the senders of transfers to deposit addresses; each is asked about once."""

sender_states = Table(
    "chain_sender_states",
    metadata,
    Column("network", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("block_number", BigInteger, nullable=False),  # a final block
    Column("block_hash", Text, nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("code_hash", Text),  # NULL: it has none, as an own address should
)
"""What own addresses' code and nonce were when they were last looked at."""

sender_findings = Table(
    "chain_sender_findings",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("network", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("what", Text, nullable=False),  # which of its kind: what was found once isn't found again
    Column("tx_hash", Text),  # NULL: no transaction tells of it
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("found_at", Instant, nullable=False),
    Column("closed_at", Instant),  # NULL: open, and the address is halted
    Column("closed_by", Text),  # who accepted it; NULL with `closed_at`: it turned out to be a transaction of ours
    Column("reason", Text),
    UniqueConstraint("network", "address", "kind", "what"),
    CheckConstraint("kind IN ('transaction', 'outflow', 'code', 'nonce', 'balance')", name="kind_known"),
    CheckConstraint("closed_by IS NULL OR closed_at IS NOT NULL", name="closed_by_somebody"),
    CheckConstraint("(closed_by IS NULL) = (reason IS NULL)", name="closed_for_a_reason"),
    Index("ix_chain_sender_findings_open", "network", "address", postgresql_where=text("closed_at IS NULL")),
)
"""What own addresses did, or became, without us. While one is open, nothing is reserved or signed for its address."""

restores = Table(
    "chain_restores",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("incarnation", Text, nullable=False),  # of the database that knows all that was signed (`chain.incarnation`)
    Column("sequence", BigInteger),  # through this row of the signer's journal a recovery has dealt with everything
    Column("head", LargeBinary),  # that row's hash
    Column("missing", Text),  # what the journal was found to have and this database hasn't; NULL: nothing
    Column("missing_since", Instant),
    Column("updated_at", Instant, nullable=False),
    CheckConstraint("only_row", name="only_row"),
    CheckConstraint("(sequence IS NULL) = (head IS NULL)", name="head_of_sequence"),
    CheckConstraint("(missing IS NULL) = (missing_since IS NULL)", name="missing_since"),
)
"""One row, once keys are in use: whether this database has forgotten payments, having been put back from a backup."""

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
    Column("sender_generation", SmallInteger, nullable=False),
    Column("sender_index", Integer, nullable=False),
    Column("sender", Text, nullable=False),
    Column("nonce", BigInteger),  # NULL once it was refused or given back: the nonce went to the next one
    Column("contract", Text),  # NULL: the native coin
    Column("recipient", Text, nullable=False),
    Column("recipient_role", Text),  # where the signer derives the recipient itself
    Column("recipient_generation", SmallInteger),
    Column("recipient_index", Integer),
    Column("amount", Amount, nullable=False),
    Column("gas_limit", BigInteger, nullable=False),
    Column("fee_wei_max", Amount, nullable=False),
    Column("order", JSONB),  # what it does where that isn't a plain transfer: `chain.orders`
    Column("claims", JSONB),  # whose payment it is, for the signer's journal
    Column("refusal", Text),  # the signer's or the node's words, where they ended it or stall it
    Column("refusal_code", Text),  # the signer's, where it ended it
    Column("cancelling", Text),  # why a person wants its nonce used up without a payment; NULL: nobody does
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
    CheckConstraint(
        "kind IN ('withdrawal', 'sweep', 'gas_topup', 'refill', 'batch', 'allowance', 'deployment', 'anchor',"
        " 'cancel')",
        name="kind_known",
    ),
    CheckConstraint(
        "state IN ('reserved', 'signed', 'broadcast', 'mined', 'final', 'reverted', 'cancelled', 'refused',"
        " 'given_back', 'needs_review')",
        name="state_known",
    ),
    CheckConstraint("(nonce IS NULL) = (state IN ('refused', 'given_back'))", name="nonce_until_refused"),
    Index("uq_chain_transactions_nonce", "network", "sender", "nonce", unique=True),
    Index(
        "uq_chain_transactions_subject",
        "book",
        "subject",
        unique=True,
        postgresql_where=text("state NOT IN ('refused', 'given_back')"),
    ),
    Index("ix_chain_transactions_past", "book", "subject", "created_at"),
    Index(
        "ix_chain_transactions_open",
        "network",
        "sender",
        "nonce",
        postgresql_where=text("state IN ('reserved', 'signed', 'broadcast', 'mined')"),
    ),
    Index("ix_chain_transactions_review", "book", "id", postgresql_where=text("state = 'needs_review'")),
    Index(
        "ix_chain_transactions_for_the_house",
        "book",
        "id",
        postgresql_where=text("kind IN ('allowance', 'deployment', 'anchor')"),
    ),
    Index(
        "ix_chain_transactions_anchored",
        "book",
        text("(\"order\" ->> 'root')"),
        postgresql_where=text("kind = 'anchor'"),
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

authorisations = Table(
    "chain_authorisations",
    metadata,
    Column("book", Text, primary_key=True),
    Column("subject", Text, primary_key=True),  # what its nonce is made of, and the signer's journal knows it by
    Column("network", Text, ForeignKey("chain_networks.network"), nullable=False),
    Column("contract", Text, nullable=False),
    Column("domain_name", Text, nullable=False),  # the token's, for EIP-712
    Column("domain_version", Text, nullable=False),
    Column("owner_generation", SmallInteger, nullable=False),  # of the deposit key that signs
    Column("owner_index", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("recipient_role", Text, nullable=False),
    Column("recipient_generation", SmallInteger, nullable=False),
    Column("recipient_index", Integer, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("amount", Amount, nullable=False),
    Column("nonce", Text, nullable=False),  # 32 bytes in hex
    Column("valid_before", BigInteger, nullable=False),  # Unix seconds
    Column("signature", LargeBinary),  # 65 bytes; NULL: the signer hasn't answered yet, or wouldn't
    Column("signer_sequence", BigInteger),  # the signer's journal after its answer, be it a no
    Column("signer_head", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Column("signed_at", Instant),
    UniqueConstraint("network", "contract", "owner", "nonce"),
    Index("ix_chain_authorisations_signer_sequence", "signer_sequence"),
)

controls = Table(
    "chain_controls",
    metadata,
    Column("book", Text, primary_key=True),
    Column("subject", Text, primary_key=True),  # the signer's journal knows it by
    Column("network", Text, ForeignKey("chain_networks.network"), nullable=False),
    Column("role", Text, nullable=False),
    Column("generation", SmallInteger, nullable=False),
    Column("key_index", Integer, nullable=False),
    Column("address", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),  # 32 bytes: what is signed beside the epoch's number
    Column("signature", LargeBinary),  # 65 bytes; NULL: the signer hasn't answered yet, or wouldn't
    Column("refusal", Text),  # why it wouldn't; it isn't asked again then
    Column("signer_sequence", BigInteger),  # the signer's journal after its answer, be it a no
    Column("signer_head", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Column("signed_at", Instant),
    CheckConstraint("signature IS NULL OR refusal IS NULL", name="one_answer"),
    Index("ix_chain_controls_epoch", "book", "epoch"),
    Index("ix_chain_controls_signer_sequence", "signer_sequence"),
)
"""What deposit keys authorised (EIP-3009): committed before the signer is asked and never changed afterwards."""
