"""What can go wrong with chains, and how a node's own words become these, once.

BrokenInvariant
└── AddressesAltered       our keys or addresses aren't the signer's: somebody changed them; issuing has stopped
ConfigError
├── InvalidScreeningList   the file of listed addresses is missing or can't be read; names file, line and reason
├── SilentOracle           no contract that answers `isSanctioned` at the configured address
├── WrongChain             a node serves another chain than the one configured or followed before
└── ChainReset             what this database followed isn't on the chain any more: a local chain that was reset
Rejected
├── InvalidAddress         no address of this family, or a mistyped one
├── NotOnNetwork           no such network, or the asset isn't there
├── NotAWholeUnit          an amount finer than the chain's own unit
├── PaymentRefused         the recipient's contract, or the token, refuses this very payment
└── SignerRefused          the signer's policy or journal says no; it is journalled, so the nonce is free again
Unavailable
├── NeedsRecovery          this database was put back from a backup: it may not know what was paid since
├── SignerConflict         the signer's journal knows otherwise than this database: a person must look; nothing is freed
├── NotYetFollowed         nothing is known of this network yet
├── AddressesDisagree      an address isn't the one that the signer (or this process) derives: none is issued
├── KeyNotRecorded         no public key of that generation is recorded for this process, so it derives nothing from it
├── NoAddressReady         none is derived ahead, and this process may not or can't derive one itself
├── NoKeyAtIndex           BIP-32 has no key there (one index in 2**127); the next one has
├── LeadershipLost         another follower took over; nothing was written
├── ScreeningUnavailable   nobody can tell now whether an address is listed: what depends on it waits
├── PriceFeedBroken        a price feed contract gives no answer that can be read
├── SignerUnavailable      no answer from the signer, or one that isn't an answer to what was asked
├── NodeUnavailable        no answer in time, no connection, not JSON, too large
│   └── NodeBusy           it asks to be left alone for a while (HTTP 429 or 503); carries `retry_after_seconds`
├── NodeMisbehaved         answers that contradict themselves: hash or roots don't match, parts of two blocks
│   └── EncodingUnknown    a block with fields or types that this version can't encode, so nothing can be recomputed
└── NodeRefused            a JSON-RPC error; carries `node_code` and the node's words
    ├── MethodUnsupported  the node has no such method
    ├── AlreadyKnown       it has this very transaction: success for that hash
    ├── NonceTooLow        the nonce is used up on chain
    ├── NonceTooHigh       an earlier nonce is missing
    ├── ReplacementUnderpriced
    ├── InsufficientFunds  the sender can't pay value and gas
    ├── FeeTooLow          below the base fee or the node's own floor
    ├── GasLimitRefused    too little gas for the transaction itself, or more than a block or transaction may have
    ├── Reverted           the contract said no in a call or an estimate
    ├── PoolFull           the node's queue is full
    ├── RateLimited        too many questions, told in JSON instead of by HTTP 429
    └── LogsLimited        eth_getLogs over too many blocks or with too many results: ask for less at once
"""

import re
from typing import ClassVar

from base.errors import BrokenInvariant, ConfigError, Rejected, Unavailable


class NeedsRecovery(Unavailable):
    default_code = "needs_recovery"


class AddressesAltered(BrokenInvariant):
    default_code = "addresses_altered"


class InvalidScreeningList(ConfigError):
    default_code = "invalid_screening_list"


class SilentOracle(ConfigError):
    default_code = "silent_oracle"


class WrongChain(ConfigError):
    default_code = "wrong_chain"


class ChainReset(ConfigError):
    default_code = "chain_reset"


class InvalidAddress(Rejected):
    default_code = "invalid_address"


class NotOnNetwork(Rejected):
    default_code = "not_on_network"


class NotAWholeUnit(Rejected):
    default_code = "not_a_whole_unit"


class PaymentRefused(Rejected):
    default_code = "payment_refused"


class SignerRefused(Rejected):
    """`message` and `code` are the signer's words; `journal` is where its journal stands after the refusal."""

    default_code = "signer_refused"

    def __init__(self, message: str, *, code: str | None = None, journal: tuple[int, bytes] | None = None) -> None:
        super().__init__(message, code=code)
        self.journal = journal


class SignerConflict(Unavailable):
    default_code = "signer_conflict"


class NotYetFollowed(Unavailable):
    default_code = "not_yet_followed"


class AddressesDisagree(Unavailable):
    default_code = "addresses_disagree"


class KeyNotRecorded(Unavailable):
    default_code = "key_not_recorded"


class NoAddressReady(Unavailable):
    default_code = "no_address_ready"


class NoKeyAtIndex(Unavailable):
    default_code = "no_key_at_index"


class LeadershipLost(Unavailable):
    default_code = "leadership_lost"


class PriceFeedBroken(Unavailable):
    default_code = "price_feed_broken"


class ScreeningUnavailable(Unavailable):
    default_code = "screening_unavailable"


class SignerUnavailable(Unavailable):
    default_code = "signer_unavailable"


class NodeUnavailable(Unavailable):
    default_code = "node_unavailable"


class NodeBusy(NodeUnavailable):
    """`retry_after_seconds` is how long it asks to be left alone; None if it doesn't say."""

    def __init__(self, message: str, *, url: str, retry_after_seconds: int | None) -> None:
        super().__init__(message, url=url)
        self.retry_after_seconds = retry_after_seconds


class NodeMisbehaved(Unavailable):
    default_code = "node_misbehaved"


class EncodingUnknown(NodeMisbehaved):
    default_code = "encoding_unknown"


class NodeRefused(Unavailable):
    default_code = "node_refused"
    final: ClassVar[bool] = False
    """Whether sending the same bytes again can't help as long as the chain stays as it is."""


class MethodUnsupported(NodeRefused):
    default_code = "method_unsupported"


class AlreadyKnown(NodeRefused):
    default_code = "already_known"


class NonceTooLow(NodeRefused):
    default_code = "nonce_too_low"
    final = True


class NonceTooHigh(NodeRefused):
    default_code = "nonce_too_high"


class ReplacementUnderpriced(NodeRefused):
    default_code = "replacement_underpriced"
    final = True


class InsufficientFunds(NodeRefused):
    default_code = "insufficient_funds_on_chain"


class FeeTooLow(NodeRefused):
    default_code = "fee_too_low"


class GasLimitRefused(NodeRefused):
    default_code = "gas_limit_refused"
    final = True


class Reverted(NodeRefused):
    default_code = "reverted"


class PoolFull(NodeRefused):
    default_code = "pool_full"


class RateLimited(NodeRefused):
    default_code = "rate_limited_by_node"


class LogsLimited(NodeRefused):
    default_code = "logs_limited"


_METHOD_NOT_FOUND = -32601
"""JSON-RPC 2.0's own code; everything else about node errors is free text."""

NODE_MESSAGES: tuple[tuple[str, type[NodeRefused]], ...] = (
    # first match wins; geth's words first in each row, then Hardhat's, anvil's, Nethermind's, Besu's where they differ
    (r"already known|known transaction|already imported|alreadyknown", AlreadyKnown),
    (r"replacement (transaction|tx) underpriced|replacement ?not ?allowed", ReplacementUnderpriced),
    (r"nonce too low|nonce is too low|oldnonce", NonceTooLow),
    (r"nonce too high|nonce gap|nonce too far in the future", NonceTooHigh),
    (r"insufficient funds|doesn't have enough funds|insufficientfunds|upfront cost exceeds", InsufficientFunds),
    (r"less than block base fee|is too low for the next block|underpriced|feetoolow|fee too low", FeeTooLow),
    (r"intrinsic gas|requires at least \d+ gas|exceeds (the )?(block|transaction) gas (limit|cap)", GasLimitRefused),
    (r"exceeds block gas limit|gas limit too high|exceeds transaction gas cap", GasLimitRefused),
    (r"execution reverted|reverted with|transaction reverted|vm exception", Reverted),
    (r"out of ?gas|invalid ?(fe)?opcode|invalid ?jump|stack ?(under|over)flow|evm error", Reverted),
    (r"txpool is full|pool (is )?full", PoolFull),
    # Alchemy; QuickNode; Infura; Ankr
    (r"compute units per second|request limit reached|request rate limited|too many requests", RateLimited),
    (r"rate limit", RateLimited),
    (r"method .*(not supported|not found|does not exist)|method not found|unknown method", MethodUnsupported),
)
"""Words of node errors, lower-cased, to what they mean."""

LOG_LIMITS: tuple[tuple[str, str], ...] = (
    # too many blocks
    (r"block range is too (wide|large)|block range too (wide|large)", "Ankr; Moonbeam (Frontier); OP Mainnet; Base"),
    (r"exceeds? max(imum)? block range", "reth, rpc-eth-types: QueryExceedsMaxBlocks; PublicNode, code -32701"),
    (r"block range greater than \d+ max", "go-ethereum forks: X Layer, Mantle, Swell"),
    (r"requested range exceeds maximum rpc range limit", "Besu, RpcErrorType.EXCEEDS_RPC_MAX_BLOCK_RANGE, -32005"),
    (r"query block range exceeds server limit", "Erigon --rpc.blockrange.limit, erigontech/erigon#19721"),
    (r"range \d+ exceeds limit of \d+", "Infura, code -32602, INFURA/infura#237"),
    (r"range \d+ is bigger than range limit", "Tenderly, bobanetwork/boba_legacy#827"),
    (r"limited to a [\d,.]+ range|limited to (\d+ - )?[\d,.]+ blocks?", "QuickNode, code -32614; BlockPI; 1RPC"),
    (r"up to a [\dk,.]+ block range", "Alchemy, code -32600 or -32602; Aurora"),
    (r"max range: \d+", "Cloudflare"),
    (r"maximum allowed number of requested blocks", "thirdweb"),
    (r"ranges over \d+ blocks are not supported", "dRPC, code 35"),
    (r"block range limit exceeded", "Chainstack"),
    (r"limit the query to at most [\d,.]+ blocks", "Coinbase"),
    (r"requested too many blocks", "Avalanche"),
    (r"exceeds the range allowed for your plan", "Blast"),
    (r"block range is (bigger|larger) than max ?block ?range", "Scroll, scroll-tech/go-ethereum#529; Morph"),
    # too many results
    (r"query returned more than \d+ results", "Infura, code -32005, its eth_getLogs reference; Polygon zkEVM"),
    (r"log response size exceeded", "Alchemy, its eth_getLogs reference"),
    (r"query exceeds max results", "reth, rpc-eth-types: QueryExceedsMaxResults; Ankr; LlamaRPC"),
    (r"query returns too many logs", "Erigon --rpc.logs.maxresults, erigontech/erigon#19721"),
    (r"logs matched by query exceeds limit", "Arbitrum (Nitro)"),
    (r"response size should not (be )?greater than|backend response too large", "1RPC; OP Mainnet"),
)
"""Words with which an eth_getLogs over too much is refused, lower-cased, and whose they are. No standard names them;
collected from the sources named here and from ponder-sh/ponder, packages/utils/src/getLogsRetryHelper.ts."""


def from_node(method: str, node_code: int | None, words: str) -> NodeRefused:
    """The error that a node's JSON-RPC error object means; plain NodeRefused when its words are new to us."""
    lowered = words.lower()
    kind = next((kind for pattern, kind in NODE_MESSAGES if re.search(pattern, lowered)), NodeRefused)
    if method == "eth_getLogs" and any(re.search(pattern, lowered) for pattern, _ in LOG_LIMITS):
        kind = LogsLimited
    if node_code == _METHOD_NOT_FOUND:
        kind = MethodUnsupported
    return kind(f"{method}: {words[:500]}", method=method, node_code=node_code)
