"""What contracts moved of the native coin, read off a block's traces. Pure.

A trace is the node's word: no root of the block covers it. What is read here are claims, which `chain.coins` believes
as far as balances bear them out. The traces are those of geth's `callTracer`, which other clients imitate; the form of
`trace_block` isn't read, since it counts calls in another way, and a place must be the same whoever tells it.
"""

from collections.abc import Iterator

from chain.errors import NodeMisbehaved
from chain.evm.rpc import Json
from chain.observations import Observation

TRACER = {"tracer": "callTracer"}
"""The options of debug_traceBlockByHash and debug_traceTransaction."""

_MOVING = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})
"""Frames that move value. A DELEGATECALL repeats its caller's, a CALLCODE pays the caller itself."""


def moves(traces: Json) -> list[Observation]:
    """The inner transfers that a block's traces tell, in order: (transaction hash, trace) each, as `Node.trace` has it.

    A transfer's place is `trace:` and the way to its call, an index per level: `trace:0.2` is the third call of the
    first. The transaction's own value isn't among them, nor what was taken back: a frame with an error, or below one.
    Raises NodeMisbehaved.
    """
    try:
        return [found for tx_hash, root in traces for found in _moves_of(str(tx_hash).lower(), root)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as problem:
        raise NodeMisbehaved(f"a trace that can't be read: {type(problem).__name__}: {problem}") from problem


def _moves_of(tx_hash: str, root: Json) -> Iterator[Observation]:
    """Without recursion: calls go down a thousand levels."""
    waiting: list[tuple[tuple[int, ...], Json]] = [((), root)]
    while waiting:
        path, frame = waiting.pop()
        if frame.get("error"):
            continue
        if path and frame["type"] in _MOVING and (amount := int(frame.get("value") or "0x0", 16)):
            sender, recipient = _address(frame["from"]), _address(frame["to"])
            if sender != recipient:
                yield Observation(tx_hash, f"trace:{'.'.join(map(str, path))}", None, sender, recipient, amount)
        inner = list(enumerate(frame.get("calls") or ()))
        waiting += [((*path, index), call) for index, call in reversed(inner)]


def _address(told: Json) -> str:
    raw = bytes.fromhex(told.removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError(f"{told!r} is no address")
    return "0x" + raw.hex()
