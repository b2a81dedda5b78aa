"""The developer's hands on a local chain's blocks: their time, snapshots of the chain, and another branch for its end.

Hardhat and anvil differ here, and only here is it known how. A revert and a reorganisation look alike to whoever
follows the chain: blocks that were there are gone. Times are Unix seconds, heights are block numbers.

Not in it: moving value and mining (`chain.local`), snapshots by name (`chain.local_snapshots`).

NoWayBack  (Rejected)  Hardhat has no snapshot to go back to; says what to do
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from base.entropy import Entropy, SystemEntropy
from base.errors import NotFound, Rejected
from chain import local
from chain.evm.blocks import encode_transaction
from chain.local import NodeKind

TIME_MAX = 253_402_300_799
"""The last second of the year 9999: later ones have no date in most programs, ours included."""

FURNISHED_HEIGHT = len(local.TOKENS) * (1 + len(local.OUTSIDERS_FUNDED))
"""Up to this block the tokens are made and first given out: no other branch begins below it."""

DEPTH_MAX = 1_000
"""Blocks that one reorganisation replaces at most; each is asked for and mined one by one."""


RACES_MAX = 5
"""Times that a chain which makes blocks by itself may get in between."""


class NoWayBack(Rejected):
    default_code = "no_way_back"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the chain. `node_id` is what the node calls it; using it uses it up, and all those taken later."""

    node_id: str
    height: int
    block_hash: str


@dataclass(frozen=True, slots=True)
class Reorganised:
    """What a reorganisation did. `ancestor` is the height that stayed; hashes are those of transactions."""

    ancestor: int
    height: int
    replaced: tuple[str, ...]
    """The hashes of the blocks that are gone, lowest first."""
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    mark: Snapshot | None
    """The snapshot that Hardhat went back to, taken anew; it used up those taken after it. None on anvil."""


def head_time(url: str) -> int:
    """The head block's time, in Unix seconds; the next one's is later."""
    return int(local.rpc(url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def set_next_time(url: str, at: int) -> None:
    """Let the next block's time be `at`, in Unix seconds; later ones go on from there. Raises Rejected backwards."""
    now = head_time(url)
    if at <= now:
        raise Rejected(
            f"a chain's time only goes forward: the head block's is {now}, so {now + 1} is the earliest, not {at}",
            param="time",
            head_time=now,
            given=at,
        )
    if at > TIME_MAX:
        raise Rejected(f"{at} is after the year 9999; {TIME_MAX} is the last time there is", param="time", given=at)
    local.rpc(url, "evm_setNextBlockTimestamp", at)


def set_next_base_fee(url: str, wei: int) -> None:
    """Let the next block's base fee be `wei` per gas; from then on each block changes it as its gas says (EIP-1559)."""
    kind = local.kind_of(url)
    local.rpc(url, f"{kind.value}_setNextBlockBaseFeePerGas", hex(wei))


def take_snapshot(url: str) -> Snapshot:
    """Remember the whole chain as it is now."""
    node_id = str(local.rpc(url, "evm_snapshot"))
    head = local.rpc(url, "eth_getBlockByNumber", "latest", False)
    return Snapshot(node_id, int(head["number"], 16), str(head["hash"]))


def revert(url: str, snapshot: Snapshot) -> Snapshot:
    """Go back to `snapshot`, and take it anew, since going back used it up. Raises Rejected where the node has none.

    Whoever follows the chain sees a reorganisation down to its height, be that below what they called final.
    """
    if local.rpc(url, "evm_revert", snapshot.node_id) is not True:
        raise Rejected(
            f"the node has no snapshot {snapshot.node_id} any more: going back to an earlier one uses up later ones",
            param="snapshot",
        )
    return take_snapshot(url)


def reorganise(
    url: str, depth: int, *, keep: bool, marks: Sequence[Snapshot] = (), entropy: Entropy | None = None
) -> Reorganised:
    """Replace the last `depth` blocks by as many others.

    `keep`: their transactions are mined again in the same order; else the node forgets them, as nodes do with an empty
    competing branch. anvil can by itself; Hardhat needs one of `marks` (in the order they were taken) at the common
    ancestor. Raises Rejected (`depth` isn't positive, or deeper than may be), NoWayBack, LocalNodeRefused,
    LocalNodeDown.
    """
    head = local.height(url)
    ancestor = _ancestor(head, depth)
    kind = local.kind_of(url)
    found = (one for one in reversed(marks) if one.height == ancestor and _is_on_chain(url, one))
    mark = next(found, None) if kind is NodeKind.HARDHAT else None  # the latest: it uses up the fewest others
    if kind is NodeKind.HARDHAT and mark is None:
        known = ", ".join(str(head - one.height) for one in marks if one.height < head)
        depths = f"; the snapshots that there are allow a depth of {known}" if known else ""
        raise NoWayBack(
            f"Hardhat can only go back to a snapshot, and none was taken at height {ancestor}{depths}. Take one before"
            " what is to be replaced is mined (`onebook chain snapshot take NAME`), or use anvil"
            " (`onebook chain up --kind anvil`)",
            param="depth",
        )
    lost = [local.rpc(url, "eth_getBlockByNumber", hex(height), True) for height in range(ancestor + 1, head + 1)]
    again = (
        [[encode_transaction(one) for one in block["transactions"]] for block in lost] if keep else [[] for _ in lost]
    )
    if kind is NodeKind.ANVIL:
        placed = [("0x" + raw.hex(), offset) for offset, block in enumerate(again) for raw in block]
        local.rpc(url, "anvil_reorg", depth, placed)
    else:
        assert mark is not None
        mark = revert(url, mark)
        _mine_branch(url, again, entropy or SystemEntropy())
    hashes = [str(one["hash"]) for block in lost for one in block["transactions"]]
    kept = tuple(tx_hash for tx_hash in hashes if _is_mined(url, tx_hash))
    return Reorganised(
        ancestor=ancestor,
        height=local.height(url),
        replaced=tuple(str(block["hash"]) for block in lost),
        kept=kept,
        dropped=tuple(tx_hash for tx_hash in hashes if tx_hash not in kept),
        mark=mark,
    )


def reorganise_to(url: str, mark: Snapshot, *, keep: bool) -> Reorganised:
    """Replace all blocks above `mark`, also where blocks come by themselves. Raises as `reorganise` does."""
    for _ in range(RACES_MAX):
        try:
            return reorganise(url, local.height(url) - mark.height, keep=keep, marks=(mark,))
        except NoWayBack:  # a block came between the question and the answer
            continue
    raise NoWayBack(f"blocks come too fast to go back to height {mark.height}: try again", param="depth")


def raw_transaction(url: str, tx_hash: str) -> bytes:
    """The signed bytes of a transaction that the node knows, to hand in again. Raises NotFound."""
    found = local.rpc(url, "eth_getTransactionByHash", tx_hash)
    if found is None:
        raise NotFound(f"the node knows no transaction {tx_hash}", param="tx_hash")
    return encode_transaction(found)


def send_raw(url: str, raw: bytes) -> str:
    """Hand in signed bytes, mined or not: the transaction's hash. Raises LocalNodeRefused."""
    return str(local.rpc(url, "eth_sendRawTransaction", "0x" + raw.hex()))


def _ancestor(head: int, depth: int) -> int:
    if depth < 1:
        raise Rejected(f"a reorganisation replaces at least one block, not {depth}", param="depth", given=depth)
    deepest = min(DEPTH_MAX, head - FURNISHED_HEIGHT)
    if depth > deepest:
        why = "" if deepest == DEPTH_MAX else f": the tokens themselves are made in blocks 1 to {FURNISHED_HEIGHT}"
        raise Rejected(
            f"at height {head} at most {max(0, deepest)} blocks can be replaced, not {depth}{why}",
            param="depth",
            given=depth,
        )
    return head - depth


def _mine_branch(url: str, blocks: Sequence[Sequence[bytes]], entropy: Entropy) -> None:
    """Mine a block for each, with these transactions: by another miner, so that an empty one has another hash too."""
    at_once = bool(local.rpc(url, "hardhat_getAutomine"))
    if at_once:
        local.rpc(url, "evm_setAutomine", False)
    try:
        local.rpc(url, "hardhat_setCoinbase", "0x" + entropy.draw(20).hex())
        for block in blocks:
            for raw in block:
                send_raw(url, raw)
            local.mine(url)
    finally:
        if at_once:
            local.rpc(url, "evm_setAutomine", True)


def _is_on_chain(url: str, snapshot: Snapshot) -> bool:
    block: Any = local.rpc(url, "eth_getBlockByNumber", hex(snapshot.height), False)
    return block is not None and block["hash"] == snapshot.block_hash


def _is_mined(url: str, tx_hash: str) -> bool:
    return local.rpc(url, "eth_getTransactionReceipt", tx_hash) is not None
