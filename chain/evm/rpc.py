"""JSON-RPC to a node, raw: one request or a batch matched by id, bounded in time and size, errors typed once.

Nothing is ever sent twice from here, whatever happens; trying again is for the step that asked, which knows what a
second time would mean.
"""

import asyncio
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import httpx
import msgspec

from base import tracing
from base.tls import trusted_roots
from chain.errors import NodeBusy, NodeMisbehaved, NodeRefused, NodeUnavailable, from_node

Json: TypeAlias = Any
"""A decoded JSON value, before anything is believed about it."""

Call: TypeAlias = tuple[str, Sequence[object]]
"""A method and its parameters."""

ANSWER_SECONDS = 20.0
"""The longest that one request may take in all."""

ANSWER_BYTES_MAX = 128 << 20
"""The largest answer that is read: a batch of full blocks stays well below."""

BATCH_MAX = 100
"""Calls in one HTTP request; many nodes refuse more."""


if importlib.util.find_spec("sniffio") is None:
    # httpcore looks for it four times in each request, all through the import path: so it's told at once.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]


class Rpc(Protocol):
    """A way to ask one node."""

    async def call(self, method: str, *params: object) -> Json:
        """The result. Raises NodeRefused (typed), NodeUnavailable, NodeMisbehaved."""
        ...

    async def batch(self, calls: Sequence[Call]) -> list[Json | NodeRefused]:
        """The results in the order of `calls`; a single call's refusal stands in its place."""
        ...


class HttpRpc:
    """A node behind an HTTP address."""

    def __init__(self, url: str, *, seconds: float = ANSWER_SECONDS) -> None:
        self.url = url
        self._seconds = seconds
        self._ids = itertools.count(1)
        self._http = httpx.AsyncClient(timeout=seconds, trust_env=False, verify=trusted_roots())

    async def call(self, method: str, *params: object) -> Json:
        """The result. Raises NodeRefused (typed), NodeUnavailable, NodeMisbehaved."""
        request = self._request(method, params)
        with tracing.child(f"node {method}", tracing.Kind.CLIENT, {"rpc.system": "jsonrpc", "rpc.method": method}):
            reply = await self._post(request)
        if not isinstance(reply, dict) or reply.get("id") != request["id"]:
            raise NodeMisbehaved(f"{method}: the answer isn't to the question")
        result = _result(method, reply)
        if isinstance(result, NodeRefused):
            raise result
        return result

    async def batch(self, calls: Sequence[Call]) -> list[Json | NodeRefused]:
        """The results in the order of `calls`; a single call's refusal stands in its place."""
        results: list[Json | NodeRefused] = []
        for start in range(0, len(calls), BATCH_MAX):
            results += await self._one_batch(calls[start : start + BATCH_MAX])
        return results

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def _one_batch(self, calls: Sequence[Call]) -> list[Json | NodeRefused]:
        requests = [self._request(method, params) for method, params in calls]
        with _batch_span(calls):
            replies = await self._post(requests)
        if isinstance(replies, dict) and "error" in replies:  # the whole batch was refused
            refused = _result("batch", replies)
            raise refused if isinstance(refused, NodeRefused) else NodeMisbehaved("a batch answered by one result")
        if not isinstance(replies, list):
            raise NodeMisbehaved("the answer to a batch isn't a list")
        by_id = {reply.get("id"): reply for reply in replies if isinstance(reply, dict)}
        if len(replies) != len(requests) or by_id.keys() != {request["id"] for request in requests}:
            raise NodeMisbehaved("the answers to a batch aren't one for each question")
        return [_result(str(request["method"]), by_id[request["id"]]) for request in requests]

    def _request(self, method: str, params: Sequence[object]) -> dict[str, object]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    async def _post(self, question: object) -> Json:
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._http.stream("POST", self.url, json=question) as answer,
            ):
                body = await _read(answer)
        except (httpx.HTTPError, TimeoutError) as problem:
            reason = str(problem) or type(problem).__name__
            raise NodeUnavailable(f"the node at {self.url} doesn't answer: {reason}", url=self.url) from problem
        if answer.status_code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
            raise NodeBusy(
                f"the node at {self.url} answers HTTP {answer.status_code}",
                url=self.url,
                retry_after_seconds=_retry_after_seconds(answer.headers.get("retry-after")),
            )
        if answer.status_code != httpx.codes.OK and not body.lstrip().startswith((b"{", b"[")):
            raise NodeUnavailable(f"the node at {self.url} answers HTTP {answer.status_code}", url=self.url)
        try:
            return msgspec.json.decode(body)
        except ValueError as problem:
            raise NodeMisbehaved(f"the node at {self.url} answers something else than JSON") from problem
        except RecursionError as problem:  # a trace of calls a thousand levels deep
            raise NodeMisbehaved(f"the node at {self.url} answers JSON that is nested too deeply") from problem


def _batch_span(calls: Sequence[Call]) -> AbstractContextManager[tracing.Span]:
    if tracing.active is None:
        return tracing.SILENT
    methods = sorted({method for method, _ in calls})
    told: dict[str, tracing.Value] = {"rpc.system": "jsonrpc", "rpc.method": ",".join(methods)}
    name = methods[0] if len(methods) == 1 else "batch"
    return tracing.child(f"node {name}", tracing.Kind.CLIENT, told | {"onebook.calls": len(calls)})


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise NodeMisbehaved(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _retry_after_seconds(told: str | None) -> int | None:
    """Retry-After (RFC 9110, 10.2.3) as seconds; None for its other form, a date, which no node sends."""
    return int(told) if told is not None and told.isascii() and told.isdigit() and len(told) <= 9 else None


def _result(method: str, reply: dict[str, Json]) -> Json | NodeRefused:
    if (error := reply.get("error")) is not None:
        if not isinstance(error, dict):
            raise NodeMisbehaved(f"{method}: an error that isn't one")
        code = error.get("code")
        return from_node(method, code if isinstance(code, int) else None, str(error.get("message")))
    if "result" not in reply:
        raise NodeMisbehaved(f"{method}: neither result nor error")
    return reply["result"]
