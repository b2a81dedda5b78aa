"""The ways in which a node's answer can be wrong: each turns an honest exchange into what goes over the wire.

A lie that alters nothing (no log to leave out, nothing to reorder) isn't told, and isn't counted.
"""

import asyncio
import contextlib
import copy
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_hash.auto import keccak

from chain.evm import blocks
from tests.faults.inventing import Invention

Json: TypeAlias = Any


class Kind(StrEnum):
    """What is wrong with an answer."""

    # on the wire
    DROP = "the connection is dropped"
    DELAY = "the answer is late"
    CUT_BODY = "the body ends early"
    BUSY = "429 with Retry-After"
    DOWN = "503"
    HTML = "a page for people"
    MALFORMED = "malformed JSON"
    # in a batch
    SHORT_LIST = "an answer is missing"
    REORDER = "answers in another order"
    ITEM_ERROR = "one of the answers is an error"
    DOUBLED_ID = "one id twice"
    MISSING_ID = "an answer without id"
    # in what is told
    NULLS = "null instead of results"
    CHAIN_ID = "another chain id"
    GENESIS = "another genesis block"
    REPEAT = "an old answer to the same method"
    OLD_HEAD = "as it was some blocks ago"
    FORK = "from another fork"
    OMIT_LOG = "a log left out"
    OMIT_LOG_WITH_ROOT = "a log left out, bloom and root rewritten"
    OMIT_RECEIPT = "a transaction and its receipt left out, roots rewritten"
    INVENT = "an invented chain from one height on, whose hashes all fit"
    # refusals
    NO_TRACES = "no debug_ methods, as most public nodes"
    LOGS_LIMIT = "eth_getLogs over too much"
    REPLACEMENT = "geth's rule for replacements: both fees by a tenth"


@dataclass(slots=True, kw_only=True)
class Lie:
    """One instruction: a kind, for requests that hold this method and this height (None: any), so many times."""

    kind: Kind
    method: str | None = None
    height: int | None = None
    times: int | None = 1
    """None: until it's taken back."""
    depth: int = 3
    """OLD_HEAD: by how many blocks it lags."""
    until: asyncio.Event | None = None
    """DELAY: what the answer waits for."""
    seconds: float = 0.2
    """DELAY: for how long at most."""
    retry_after_seconds: int = 7
    limit: int = 0
    """LOGS_LIMIT: the highest number of blocks (or with `by_results` of logs) that is served."""
    by_results: bool = False
    invention: Invention | None = None
    """INVENT: what it tells."""
    words: str = "query returned more than 10000 results"
    code: int = -32005

    def fits(self, exchange: "Exchange") -> bool:
        """Whether this request is one to lie at."""
        return self.times != 0 and any(
            (self.method is None or call["method"] == self.method)
            and (self.height is None or height_of(call, reply.get("result")) == self.height)
            for call, reply in zip(exchange.calls, exchange.replies, strict=True)
        )


@dataclass(slots=True)
class Exchange:
    """A request's calls and the true replies, in order."""

    calls: list[Json]
    replies: list[Json]
    batch: bool

    def body(self, replies: Json = None) -> bytes:
        told = self.replies if replies is None else replies
        return json.dumps(told if self.batch else told[0]).encode()


@dataclass(slots=True)
class Wire:
    """What goes over the wire. `body` None: nothing at all; `cut`: only its first half is sent."""

    body: bytes | None
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class Nodes(Protocol):
    """What a lie may look up: the true node, one on another fork, and what was answered before."""

    has_fork: bool
    earlier: dict[str, list[Json]]

    async def truth(self, method: str, *params: object) -> Json: ...
    async def other_fork(self, calls: list[Json]) -> list[Json]: ...


Telling: TypeAlias = Callable[[Exchange, Lie, Nodes], Awaitable[Wire | None]]


async def tell(exchange: Exchange, lie: Lie, nodes: Nodes) -> Wire | None:
    """What goes over the wire by this lie; None if it alters nothing here."""
    if lie.kind in _ON_THE_WIRE:
        return await _ON_THE_WIRE[lie.kind](exchange, lie)
    if lie.kind in _IN_A_BATCH:
        if not exchange.batch or len(exchange.replies) < 2:
            return None
        return Wire(exchange.body(_IN_A_BATCH[lie.kind](copy.deepcopy(exchange.replies))))
    replies = copy.deepcopy(exchange.replies)
    told = await _IN_WHAT_IS_TOLD[lie.kind](exchange.calls, replies, lie, nodes)
    return None if told == exchange.replies else Wire(exchange.body(told))


def height_of(call: Json, result: Json) -> int | None:
    """The height that a call is about, by its parameters or its true result."""
    if call["method"] == "eth_getBlockByNumber" and call["params"][0].startswith("0x"):
        return int(call["params"][0], 16)
    one = result[0] if isinstance(result, list) and result else result
    number = one.get("number") or one.get("blockNumber") if isinstance(one, dict) else None
    return int(number, 16) if number else None


async def _late(exchange: Exchange, lie: Lie) -> Wire:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for((lie.until or asyncio.Event()).wait(), lie.seconds)
    return Wire(exchange.body())


def _at_once(wire: Callable[[Exchange, Lie], Wire]) -> Callable[[Exchange, Lie], Awaitable[Wire]]:
    async def now(exchange: Exchange, lie: Lie) -> Wire:
        return wire(exchange, lie)

    return now


_PAGE = b"<html><body>Checking your browser</body></html>"
_ON_THE_WIRE: dict[Kind, Callable[[Exchange, Lie], Awaitable[Wire]]] = {
    Kind.DROP: _at_once(lambda exchange, lie: Wire(None)),
    Kind.DELAY: _late,
    Kind.CUT_BODY: _at_once(lambda exchange, lie: Wire(exchange.body(), cut=True)),
    Kind.BUSY: _at_once(
        lambda exchange, lie: Wire(b"slow down", "429 Too Many Requests", {"retry-after": str(lie.retry_after_seconds)})
    ),
    Kind.DOWN: _at_once(lambda exchange, lie: Wire(b"", "503 Service Unavailable")),
    Kind.HTML: _at_once(lambda exchange, lie: Wire(_PAGE, headers={"content-type": "text/html"})),
    Kind.MALFORMED: _at_once(lambda exchange, lie: Wire(exchange.body()[:-1] + b",")),
}


def _with_error(replies: list[Json]) -> list[Json]:
    replies[-1] = {**_without(replies[-1], "result"), "error": {"code": -32000, "message": "header not found"}}
    return replies


_IN_A_BATCH: dict[Kind, Callable[[list[Json]], list[Json]]] = {
    Kind.SHORT_LIST: lambda replies: replies[:-1],
    Kind.REORDER: lambda replies: replies[::-1],
    Kind.ITEM_ERROR: _with_error,
    Kind.DOUBLED_ID: lambda replies: [*replies[:-1], {**replies[-1], "id": replies[0]["id"]}],
    Kind.MISSING_ID: lambda replies: [*replies[:-1], _without(replies[-1], "id")],
}


async def _nulls(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    return [
        {**reply, "result": None} if lie.method in (None, call["method"]) else reply
        for call, reply in zip(calls, replies, strict=True)
    ]


async def _chain_id(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    return [
        {**reply, "result": "0x1"} if call["method"] == "eth_chainId" else reply
        for call, reply in zip(calls, replies, strict=True)
    ]


async def _genesis(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    for call, reply in zip(calls, replies, strict=True):
        if call["method"] == "eth_getBlockByNumber" and call["params"][0] == "0x0":
            reply["result"]["hash"] = "0x" + "ab" * 32
    return replies


async def _repeat(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    for call, reply in zip(calls, replies, strict=True):
        others = [old for old in nodes.earlier.get(call["method"], ()) if old != reply.get("result")]
        if others:
            reply["result"] = others[-1]
    return replies


async def _old_head(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    head = max(0, int(await nodes.truth("eth_blockNumber"), 16) - lie.depth)
    for call, reply in zip(calls, replies, strict=True):
        method, params = call["method"], call["params"]
        if method == "eth_getBlockByNumber" and params[0] == "latest":
            reply["result"] = await nodes.truth(method, hex(head), *params[1:])
        elif method == "eth_getLogs":
            reply["result"] = [log for log in reply["result"] if int(log["blockNumber"], 16) <= head]
        elif (height := height_of(call, reply.get("result"))) is not None and height > head:
            reply["result"] = None
    return replies


async def _fork(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    return await nodes.other_fork(calls) if nodes.has_fork else replies


async def _omit_log(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    for call, reply in zip(calls, replies, strict=True):
        if call["method"] == "eth_getLogs":
            reply["result"] = reply["result"][:-1]
        elif call["method"] == "eth_getBlockReceipts":
            _without_last_log(reply["result"] or [])
        elif call["method"] == "eth_getTransactionReceipt":
            _without_last_log([reply["result"]] if reply["result"] else [])
    return replies


async def _omit_log_with_root(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    block, receipts = _whole(calls, replies)
    if block and _without_last_log(receipts):
        block["receiptsRoot"] = blocks.receipts_root(receipts)
        block["logsBloom"] = _joined(receipt["logsBloom"] for receipt in receipts)
    return replies


async def _omit_receipt(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    block, receipts = _whole(calls, replies)
    if block and receipts:
        receipts.pop()
        block["transactions"].pop()
        block["receiptsRoot"] = blocks.receipts_root(receipts)
        block["transactionsRoot"] = blocks.transactions_root(block)
        block["logsBloom"] = _joined(receipt["logsBloom"] for receipt in receipts)
    return replies


async def _no_traces(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    for position, call in enumerate(calls):
        if call["method"].startswith("debug_"):
            words = f"the method {call['method']} does not exist/is not available"
            replies[position] = {"jsonrpc": "2.0", "id": call["id"], "error": error(-32601, words)}
    return replies


async def _invent(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    assert lie.invention is not None
    for call, reply in zip(calls, replies, strict=True):
        reply["result"] = await lie.invention.answer(call["method"], call["params"], reply.get("result"), nodes)
    return replies


async def _logs_limit(calls: list[Json], replies: list[Json], lie: Lie, nodes: Nodes) -> list[Json]:
    for position, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        if call["method"] == "eth_getLogs":
            where, found = call["params"][0], reply["result"]
            span = int(where["toBlock"], 16) - int(where["fromBlock"], 16) + 1 if "fromBlock" in where else 1
            if (len(found) if lie.by_results else span) > lie.limit:
                replies[position] = {"jsonrpc": "2.0", "id": call["id"], "error": error(lie.code, lie.words)}
    return replies


_IN_WHAT_IS_TOLD: dict[Kind, Callable[[list[Json], list[Json], Lie, Nodes], Awaitable[list[Json]]]] = {
    Kind.NULLS: _nulls,
    Kind.CHAIN_ID: _chain_id,
    Kind.GENESIS: _genesis,
    Kind.REPEAT: _repeat,
    Kind.OLD_HEAD: _old_head,
    Kind.FORK: _fork,
    Kind.OMIT_LOG: _omit_log,
    Kind.OMIT_LOG_WITH_ROOT: _omit_log_with_root,
    Kind.OMIT_RECEIPT: _omit_receipt,
    Kind.NO_TRACES: _no_traces,
    Kind.INVENT: _invent,
    Kind.LOGS_LIMIT: _logs_limit,
}


def error(code: int, words: str) -> Json:
    """A JSON-RPC error object."""
    return {"code": code, "message": words}


class StrictReplacement:
    """geth's rule (core/txpool, PriceBump 10): a second transaction at a nonce must offer a tenth more of both fees.

    The same bytes again are no second transaction.
    """

    def __init__(self) -> None:
        self._offered: dict[tuple[str, int], tuple[int, int]] = {}
        self._taken: set[str] = set()

    def refuses(self, raw: str) -> bool:
        """Whether geth would refuse these bytes (an EIP-1559 transaction); if not they are remembered."""
        if raw in self._taken:
            return False
        signed = bytes.fromhex(raw[2:])
        nonce, tip, most = (int.from_bytes(part, "big") for part in rlp.decode(signed[1:])[1:4])
        place = (Account.recover_transaction(signed), nonce)
        known = self._offered.get(place)
        if known is not None and any(
            new * 100 < old * 110 or new <= old for new, old in zip((tip, most), known, strict=True)
        ):
            return True
        self._offered[place] = (tip, most)
        self._taken.add(raw)
        return False


def _whole(calls: list[Json], replies: list[Json]) -> tuple[Json, list[Json]]:
    """The whole block and its receipts, where one request asks for both; else nothing."""
    by_method = {call["method"]: reply.get("result") for call, reply in zip(calls, replies, strict=True)}
    return by_method.get("eth_getBlockByHash"), by_method.get("eth_getBlockReceipts") or []


def _without_last_log(receipts: list[Json]) -> bool:
    """Take the last log out, the receipt's bloom as it would be; whether there was one."""
    for receipt in reversed(receipts):
        if receipt["logs"]:
            receipt["logs"].pop()
            receipt["logsBloom"] = _bloom(receipt["logs"])
            return True
    return False


def _bloom(logs: list[Json]) -> str:
    """The bloom filter of these logs (Yellow Paper, 4.3.1)."""
    bits = 0
    for log in logs:
        for entry in (log["address"], *log["topics"]):
            digest = keccak(bytes.fromhex(entry[2:]))
            for at in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return f"0x{bits:0512x}"


def _joined(blooms: Any) -> str:
    bits = 0
    for bloom in blooms:
        bits |= int(bloom, 16)
    return f"0x{bits:0512x}"


def _without(reply: Json, name: str) -> Json:
    return {key: value for key, value in reply.items() if key != name}
