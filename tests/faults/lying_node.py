"""A node that lies: a proxy in front of a real one that tells the truth until it's told not to.

async with lying_node(chain.url, fork=other.url) as liar:
    liar.lie(Kind.OMIT_LOG, height=7)                   # once
    liar.lie(Kind.OLD_HEAD, depth=5, times=None)        # until liar.be_honest()
    liar.lie_at_random(seed, among=[...], one_in=3)     # prints the seed; the same requests get the same lies again
    assert liar.told[Kind.OMIT_LOG] == 1
"""

import asyncio
import contextlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import httpx

from base.tls import trusted_roots
from tests.faults.lies import Exchange, Json, Kind, Lie, StrictReplacement, Wire, error, tell

EARLIER_KEPT = 8
"""Old answers that are remembered of each method."""


Passing: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]


class LyingNode:
    """Serves on a free loopback port. `told` counts the lies that altered an answer, `asked` the calls by method."""

    def __init__(self, upstream: str, fork: str | None, passing: Passing) -> None:
        self.url = ""
        self._passing = passing
        self.told: Counter[Kind] = Counter()
        self.asked: Counter[str] = Counter()
        self.requests = 0
        self.has_fork = fork is not None
        self.earlier: dict[str, list[Json]] = defaultdict(list)
        self._upstream, self._other = upstream, fork
        self._lies: list[Lie] = []
        self._random: tuple[int, tuple[Kind, ...], int] | None = None
        self._strict = StrictReplacement()
        self._http = httpx.AsyncClient(trust_env=False, timeout=30, verify=trusted_roots())
        self._serving: set[asyncio.Task[None]] = set()

    def lie(self, kind: Kind, **how: Any) -> Lie:
        """Lie like this from now on, as often as it says; earlier instructions come first."""
        self._lies.append(Lie(kind=kind, **how))
        return self._lies[-1]

    def lie_at_random(self, seed: int, *, among: Collection[Kind], one_in: int) -> None:
        """Lie at one request in so many, by the kinds that were told least, until told to be honest."""
        print(f"the liar's seed: {seed}")
        self._random = (seed, tuple(sorted(among)), one_in)

    def take_back(self, lie: Lie) -> None:
        """Forget this instruction."""
        if lie in self._lies:
            self._lies.remove(lie)

    def is_about_to(self, kind: Kind) -> bool:
        """Whether an instruction of this kind waits for its occasion."""
        return any(lie.kind is kind and lie.times != 0 for lie in self._lies)

    def fork_at(self, url: str | None) -> None:
        """From now on the node on another branch is this one, or none."""
        self.has_fork, self._other = url is not None, url

    def be_honest(self) -> None:
        """Forget every instruction."""
        self._lies.clear()
        self._random = None

    async def truth(self, method: str, *params: object) -> Json:
        """What the real node answers."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return (await self._heard(call))["result"]

    async def other_fork(self, calls: list[Json]) -> list[Json]:
        """What the node on the other fork answers."""
        assert self._other is not None
        replies = (await self._http.post(self._other, json=calls)).json()
        by_id = {reply["id"]: reply for reply in replies}
        return [by_id[call["id"]] for call in calls]

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._http.aclose()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request of a connection, and close it. While the real node is away, close it without a word."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(lambda _: writer.close())
        # Also cancelled it ends as usual: the stream's own callback would complain of anything else.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, httpx.HTTPError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            wire = await self._answer(json.loads(await reader.readexactly(int(lengths[0]))))
            if wire.body is not None:
                extra = "".join(f"{name}: {value}\r\n" for name, value in wire.headers.items())
                length = f"content-length: {len(wire.body)}\r\nconnection: close\r\n"
                sent = wire.body[: len(wire.body) // 2] if wire.cut else wire.body
                writer.write(f"HTTP/1.1 {wire.status}\r\n{extra}{length}\r\n".encode() + sent)
                await writer.drain()

    async def _answer(self, question: Json) -> Wire:
        calls = question if isinstance(question, list) else [question]
        self.requests += 1
        self.asked.update(call["method"] for call in calls)
        chosen = random.Random(f"{self._random[0]}:{self.requests}") if self._random else random.Random(0)
        if self._refuses_replacement(calls):
            refusal = error(-32000, "replacement transaction underpriced")
            return Wire(json.dumps({"jsonrpc": "2.0", "id": calls[0]["id"], "error": refusal}).encode())
        replies = await self._heard(calls)
        by_id = {reply["id"]: reply for reply in replies}
        exchange = Exchange(calls, [by_id[call["id"]] for call in calls], isinstance(question, list))
        wire = await self._lied(exchange, chosen)
        for call, reply in zip(calls, exchange.replies, strict=True):
            self.earlier[call["method"]] = [*self.earlier[call["method"]], reply.get("result")][-EARLIER_KEPT:]
        return wire or Wire(exchange.body())

    async def _heard(self, question: Json) -> Json:
        """What the real node answers, once questions may pass."""
        async with self._passing():
            if self._http.is_closed:
                raise ConnectionError("it is closing")
            return (await self._http.post(self._upstream, json=question)).json()

    async def _lied(self, exchange: Exchange, chosen: random.Random) -> Wire | None:
        for lie in [lie for lie in self._lies if lie.kind is not Kind.REPLACEMENT]:
            # Asked only now: while the one before was tried, another request may have got the last of it.
            if lie.fits(exchange) and (wire := await self._told(exchange, lie)) is not None:
                return wire
        if self._random is None or chosen.randrange(self._random[2]):
            return None
        for kind in sorted(self._random[1], key=lambda kind: (self.told[kind], chosen.random())):
            if (wire := await self._told(exchange, Lie(kind=kind, retry_after_seconds=1))) is not None:
                return wire
        return None

    async def _told(self, exchange: Exchange, lie: Lie) -> Wire | None:
        """Counted at once, since telling may take its time; taken back where it alters nothing."""
        before = lie.times
        lie.times = None if before is None else before - 1
        self.told[lie.kind] += 1
        if (wire := await tell(exchange, lie, self)) is None:
            self.told[lie.kind] -= 1
            lie.times = before
        return wire

    def _refuses_replacement(self, calls: list[Json]) -> bool:
        """Judged before the real node sees it."""
        strict = any(lie.kind is Kind.REPLACEMENT and lie.times != 0 for lie in self._lies)
        if (
            not strict
            or calls[0]["method"] != "eth_sendRawTransaction"
            or not self._strict.refuses(calls[0]["params"][0])
        ):
            return False
        self.told[Kind.REPLACEMENT] += 1
        return True


@asynccontextmanager
async def lying_node(
    upstream: str, *, fork: str | None = None, passing: Passing = contextlib.nullcontext
) -> AsyncIterator[LyingNode]:
    """A liar in front of the node at `upstream`; `fork` is the address of one on another branch.

    Each question goes on inside of `passing()`, which may keep it waiting.
    """
    liar = LyingNode(upstream, fork, passing)
    server = await asyncio.start_server(liar.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    liar.url = f"http://{host}:{port}"
    try:
        yield liar
    finally:
        server.close()
        await liar.close()
