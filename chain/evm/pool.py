"""The endpoints of one network as one node: whoever is well is asked, a second one when the first is slow.

An endpoint that fails rests, longer each time; one that asks to be left alone is. What was asked is asked elsewhere at
once, but for transactions: these go to every endpoint that doesn't rest, to each once. No answer is used of an endpoint
that wasn't just checked to serve the right chain. Trying again after all have failed is for the step that asked.
"""

import asyncio
import random
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from base.errors import Unavailable
from chain.errors import NodeBusy, NodeMisbehaved, NodeRefused, NodeUnavailable, RateLimited, WrongChain
from chain.evm.blocks import Block
from chain.evm.contract_signatures import is_signed
from chain.evm.node import Node
from chain.evm.rpc import Call, Json
from chain.evm.token_reader import TokenReader
from chain.foreign import AccountState
from chain.networks import Network
from chain.observations import BlockRef, Disagreement
from chain.sending import Handed, Taking, answer_of
from chain.tokens import TokenState

REST_SECONDS = 0.25
"""How long an endpoint rests after its first failure; twice as long after each further one in a row."""

REST_SECONDS_MAX = 30.0
"""The longest rest of our own making."""

RETRY_AFTER_SECONDS_MAX = 600.0
"""The longest rest that an endpoint gets by asking for it."""

HEDGE_SECONDS_FIRST = 1.0
"""When a second endpoint is asked, as long as nothing is known of the first one's latency."""

HEDGE_SECONDS_MIN = 0.1
HEDGE_SECONDS_MAX = 5.0
HEDGE_TIMES_MEDIAN = 4
"""A second endpoint is asked after so many medians of the first one's latest latencies, within those bounds."""

LATENCIES_KEPT = 32
"""Latest latencies that are remembered of an endpoint, for each kind of question."""

OVERTAKEN_MAX = 2
"""So many times in a row overtaken by a second endpoint, and it's asked only when others have been."""

CHECK_SECONDS = 30.0
"""How long an endpoint's check holds where nobody asks for another: services that only read prices never do."""

WITNESSES = 2
"""So many endpoints must tell the same hash of a block, where there are so many."""

Answer = TypeVar("Answer")


_UNANSWERED = (NodeRefused, RateLimited)
"""Refusals that say nothing about the question: another endpoint may answer. Unknown words are most often trouble."""


class _Lacks(NodeUnavailable):
    """This endpoint hasn't got it; no failure of its own."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """One node and how it has been. Times are of the pool's monotonic clock; `head` is the height it told last.

    `name`: its number among the network's, and its host: an address's path and user may be secrets.
    """

    node: Node
    name: str
    head: int = -1
    failures: int = 0
    rests_until_seconds: float = 0.0
    overtaken: int = 0
    checked_round: int = -1
    checked_at_seconds: float = 0.0
    latencies_seconds: dict[str, deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=LATENCIES_KEPT))
    )

    def hedge_seconds(self, what: str) -> float:
        """How long its answer to this kind of question is waited for before another endpoint is asked too."""
        known = self.latencies_seconds[what]
        if not known:
            return HEDGE_SECONDS_FIRST
        return min(HEDGE_SECONDS_MAX, max(HEDGE_SECONDS_MIN, HEDGE_TIMES_MEDIAN * statistics.median(known)))


class Pool(Node):
    """Answers as a node of `network`. Methods raise as a node's do, when no endpoint has an answer.

    `now_seconds` and `chance` are the clock and the jitter; a rest is `rest_seconds` at first.
    """

    def __init__(
        self,
        network: Network,
        nodes: Sequence[Node],
        *,
        now_seconds: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        super().__init__(network, _Pooled(self))
        self.tokens = _WitnessedTokens(self)
        self.endpoints = tuple(Endpoint(node, _name(number, network)) for number, node in enumerate(nodes))
        self.disagreement: Disagreement | None = None
        """Where endpoints told different blocks when they were last compared."""
        self.compared = False
        """Whether they were, since this pool was made; a single one agrees with itself."""
        self._now_seconds = now_seconds
        self._chance = chance or random.Random()  # noqa: S311 - spreading load, not secrets
        self._rest_seconds = rest_seconds
        self._round = 0
        self._genesis_hash: str | None = None
        self._told_by: dict[BlockRef, Endpoint] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Each endpoint's node, for who wants to hear them one by one."""
        return tuple(endpoint.node for endpoint in self.endpoints)

    async def check(self, genesis_hash: str | None) -> str:
        """The genesis hash, as `Node.check`; from now on every endpoint is checked again before it's believed."""
        self._round += 1
        self._genesis_hash = genesis_hash
        found = await self.ask("check", lambda node: node.check(genesis_hash))
        self._genesis_hash = found
        return found

    async def head(self) -> BlockRef:
        """The newest block that two endpoints have reached; the only one's where just one answers."""
        told = await self._ask_each("head", lambda node: node.head(), self._awake())
        for endpoint, ref in told.items():
            endpoint.head = ref.number
        return sorted(told.values(), key=lambda ref: ref.number)[-WITNESSES:][0]

    async def finalized(self) -> BlockRef | None:
        """The newest block that two endpoints call final (the only one's, with one configured)."""
        told = await self._ask_each("finalized", lambda node: node.finalized(), self._awake())
        known = sorted((ref for ref in told.values() if ref is not None), key=lambda ref: ref.number)
        needed = min(WITNESSES, len(self.endpoints))
        return known[-needed] if len(known) >= needed else None

    async def refs(self, heights: Iterable[int]) -> dict[int, BlockRef | None]:
        """The blocks at these heights; None where the endpoint that answers has none."""
        asked = list(heights)

        async def refs_of(node: Node) -> tuple[Node, dict[int, BlockRef | None]]:
            return node, await node.refs(asked)

        teller, found = await self.ask("refs", refs_of, height=max(asked, default=0))
        endpoint = next(one for one in self.endpoints if one.node is teller)
        self._told_by = {ref: endpoint for ref in found.values() if ref is not None}
        return found

    async def blocks(self, refs: Sequence[BlockRef]) -> list[Block]:
        """The whole blocks, checked, of the first endpoint that has the first one: as many as it has."""

        if not refs:
            return []

        async def whole(node: Node) -> list[Block]:
            found = await node.blocks(refs)
            if not found:
                raise _Lacks(f"no block {refs[0].block_hash} there")
            return found

        try:
            return await self.ask("blocks", whole, height=max(ref.number for ref in refs))
        except _Lacks:
            return []

    async def trace(self, block_hash: str) -> list[tuple[str, Json]] | None:
        """The block's traces, of the first endpoint that can trace it; None if none of those that answer can."""

        async def traced(node: Node) -> list[tuple[str, Json]]:
            if (found := await node.trace(block_hash)) is None:
                raise _Lacks("it can't be traced there")
            return found

        try:
            return await self.ask("trace", traced)
        except _Lacks:
            return None

    async def balances(self, owners: Sequence[tuple[str | None, str]], *, block: str) -> list[int]:
        """As `Node.balances`, of two endpoints that tell the same, where there are so many.

        Raises NodeUnavailable when no two do.
        """
        if len(self.endpoints) < WITNESSES:
            return await self.ask("balances", lambda node: node.balances(owners, block=block))
        told = await self._ask_each("balances", lambda node: node.balances(owners, block=block), self._awake())
        if len(told) < WITNESSES:
            raise NodeUnavailable(f"network {self.network.name}: no second endpoint can be asked now")
        found, times = Counter(tuple(answer) for answer in told.values()).most_common(1)[0]
        if times < WITNESSES:
            raise NodeUnavailable(f"network {self.network.name}: nodes tell different balances at block {block}")
        return list(found)

    async def coins_witnessed(self, asked: Sequence[tuple[str, str]]) -> list[int | None]:
        """As `coins`, but of two endpoints that tell the same, where there are so many; None: no two do."""
        if len(self.endpoints) < WITNESSES:
            return await self.coins(asked)
        answers = (await self._ask_each("coins", lambda node: node.coins(asked), self._awake())).values()
        told = [Counter(one for one in ones if one is not None) for ones in zip(*answers, strict=True)]
        most = [next(iter(counts.most_common(1)), (None, 0)) for counts in told]
        return [one if times >= WITNESSES else None for one, times in most]

    async def accounts_witnessed(self, asked: Sequence[tuple[str, str]]) -> list[AccountState | None]:
        """As `accounts`, but of two endpoints that tell the same, where there are so many; None: no two do."""
        if not asked:
            return []
        if len(self.endpoints) < WITNESSES:
            return await self.accounts(asked)
        answers = (await self._ask_each("accounts", lambda node: node.accounts(asked), self._awake())).values()
        told = [Counter(one for one in ones if one is not None) for ones in zip(*answers, strict=True)]
        most = [next(iter(counts.most_common(1)), (None, 0)) for counts in told]
        return [one if times >= WITNESSES else None for one, times in most]

    async def signature_witnessed(self, contract: str, digest: bytes, signature: bytes, *, block: str) -> bool | None:
        """As `is_signed`, but of two endpoints that say the same, where there are so many; None: no two do."""
        told = await self._ask_each(
            "signature",
            lambda node: is_signed(node.rpc, contract, digest, signature, block_hash=block),
            self._awake(),
        )
        answers = Counter(answer for answer in told.values() if answer is not None)
        found, times = next(iter(answers.most_common(1)), (None, 0))
        return found if times >= min(WITNESSES, len(self.endpoints)) else None

    async def token_states(self, contracts: Sequence[str], *, block: str) -> dict[str, TokenState]:
        """Each contract at a block, as two endpoints tell it, where there are so many.

        Raises NodeUnavailable or NodeMisbehaved when no two tell the same.
        """
        told = await self._ask_each("tokens", lambda node: node.tokens.states(contracts, block=block), self._awake())
        found: dict[str, TokenState] = {}
        for contract in contracts:
            state, times = Counter(answer[contract] for answer in told.values()).most_common(1)[0]
            if times < min(WITNESSES, len(self.endpoints)):
                raise NodeUnavailable(f"network {self.network.name}: no two nodes tell the same of token {contract}")
            found[contract] = state
        return found

    async def token_balances(self, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
        """As `TokenReader.balances`, of two endpoints that tell the same, or of the only one that still knows.

        Raises NodeUnavailable or NodeMisbehaved when they tell different ones.
        """
        told = await self._ask_each("balances", lambda node: node.tokens.balances(asked), self._awake())
        if len(told) < min(WITNESSES, len(self.endpoints)):
            raise NodeUnavailable(f"network {self.network.name}: no second endpoint can be asked now")
        found: list[int | None] = []
        for one, answers in zip(asked, zip(*told.values(), strict=True), strict=True):
            known = Counter(answer for answer in answers if answer is not None)
            if len(known) > 1 and known.most_common(1)[0][1] < WITNESSES:
                raise NodeUnavailable(f"network {self.network.name}: nodes tell different balances of {one[1]}")
            found.append(known.most_common(1)[0][0] if known else None)
        return found

    async def hand_in(self, raw: bytes, *, unless: str | None = None) -> list[Handed]:
        """Hand in a signed transaction at every endpoint that doesn't rest, at each once, and tell what each did.

        Once one has answered, the others are waited for no longer than is usual for them; who is still silent then
        may have it or not, and rests. Raises NodeUnavailable when all rest: then nobody was asked.
        """
        awake = self._awake()
        running = {asyncio.create_task(self._handed(one, raw, unless)): one for one in awake}
        patience_seconds = max(HEDGE_SECONDS_FIRST, *(one.hedge_seconds("send") for one in awake))
        handed: list[Handed] = []
        try:
            while running:
                enough_seconds = patience_seconds if handed else None
                done, _ = await asyncio.wait(running, timeout=enough_seconds, return_when=asyncio.FIRST_COMPLETED)
                handed += [task.result() for task in done if running.pop(task)]
                if not done:
                    break
        finally:
            await _cancelled(running)
        late = NodeUnavailable("it took too long beside the others")
        for endpoint in running.values():
            self._failed(endpoint, late)
        return handed + [answer_of(endpoint.name, late) for endpoint in running.values()]

    async def _handed(self, endpoint: Endpoint, raw: bytes, unless: str | None) -> Handed:
        try:
            return await self._answer(endpoint, "send", lambda node: node._hand_in(raw, unless, endpoint.name))
        except (NodeUnavailable, NodeMisbehaved, NodeRefused, WrongChain) as problem:
            return answer_of(endpoint.name, problem)

    async def send(self, raw: bytes) -> None:
        """As `Node.send`, at every endpoint that doesn't rest: raises only when none took it."""
        handed = await self.hand_in(raw)
        if not any(one.taking in (Taking.TAKEN, Taking.KNOWN) for one in handed):
            raise next(one.problem for one in handed if one.problem is not None)

    async def once(self, what: str, question: Callable[[Node], Awaitable[Answer]]) -> Answer:
        """One endpoint's answer, whatever it is: for what may not be asked a second time."""
        return await self._answer(self._order(None)[0], what, question)

    async def witnessed(self, refs: Sequence[BlockRef]) -> list[BlockRef]:
        """As many of `refs`, from the first on, as two endpoints tell, more than tell another; all, with only one.

        Raises NodeUnavailable or NodeMisbehaved when no second endpoint answers.
        """
        if len(self.endpoints) < WITNESSES or not refs:
            self.compared |= bool(refs)
            return list(refs)
        tellers = {self._told_by.get(ref) for ref in refs}
        teller = tellers.pop() if len(tellers) == 1 else None
        others = [endpoint for endpoint in self._awake() if endpoint is not teller]
        if not others:
            raise NodeUnavailable(f"network {self.network.name}: no second endpoint can be asked now")
        heights = [ref.number for ref in refs]
        told = await self._ask_each("witness", lambda node: _refs_that_it_has(node, heights), others)
        agreed: list[BlockRef] = []
        self.disagreement, self.compared = None, True
        for ref in refs:
            here = {one: found[ref.number] for one, found in told.items() if ref.number in found}
            if teller is not None:
                here[teller] = ref
            theirs = Counter(here.values())
            agreeing = theirs.pop(ref, 0)
            stops = agreeing < WITNESSES or agreeing <= max(theirs.values(), default=0)
            if theirs and (stops or self.disagreement is None):
                self.disagreement = _disagreement(ref.number, here, stops=stops)
            if stops:
                break
            agreed.append(ref)
        return agreed

    async def replaced(self, ref: BlockRef) -> bool:
        """Whether more endpoints have another block in the place of `ref` than have it. Raises if none answers."""
        told = await self._ask_each("witness", lambda node: _refs_that_it_has(node, [ref.number]), self._awake())
        here = {one: found[ref.number] for one, found in told.items() if ref.number in found}
        theirs = Counter(here.values())
        is_replaced = 2 * theirs[ref] < theirs.total()
        self.disagreement, self.compared = None, True
        if len(theirs) > 1:
            self.disagreement = _disagreement(ref.number, here, stops=not is_replaced)
        return is_replaced

    async def ask(
        self, what: str, question: Callable[[Node], Awaitable[Answer]], *, height: int | None = None
    ) -> Answer:
        """One endpoint's answer: the first one's, or of the next if that fails or is slow. A known refusal is one.

        `what` names the kind of question, `height` the highest block that it's about. One that serves another chain is
        passed by; WrongChain is raised when nobody else answers. (Who compares endpoints stops for a single one.)
        """
        waiting = self._order(height)
        running: dict[asyncio.Task[Answer], Endpoint] = {}
        problems: list[Unavailable | WrongChain] = []
        try:
            while waiting or running:
                if waiting and len(running) < WITNESSES:
                    endpoint = waiting.pop(0)
                    running[asyncio.create_task(self._answer(endpoint, what, question))] = endpoint
                patience_seconds = endpoint.hedge_seconds(what) if waiting and len(running) < WITNESSES else None
                done, _ = await asyncio.wait(running, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    running.pop(task)
                    try:
                        answer = task.result()
                    except (NodeUnavailable, NodeMisbehaved, NodeRefused, WrongChain) as problem:
                        if isinstance(problem, NodeRefused) and type(problem) not in _UNANSWERED:
                            raise
                        problems.append(problem)
                        continue
                    for slow in running.values():
                        slow.overtaken += 1
                    return answer
        finally:
            await _cancelled(running)
        raise min(problems, key=lambda problem: isinstance(problem, _Lacks))

    async def _ask_each(
        self, what: str, question: Callable[[Node], Awaitable[Answer]], endpoints: Sequence[Endpoint]
    ) -> dict[Endpoint, Answer]:
        """The answers of all `endpoints` that give one while it's worth waiting. Raises if none does."""
        running = {asyncio.create_task(self._answer(one, what, question)): one for one in endpoints}
        patience_seconds = max(HEDGE_SECONDS_FIRST, *(one.hedge_seconds(what) for one in endpoints))
        answers: dict[Endpoint, Answer] = {}
        problems: list[Unavailable] = []
        try:
            while running:
                enough_seconds = patience_seconds if answers else None
                done, _ = await asyncio.wait(running, timeout=enough_seconds, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    endpoint = running.pop(task)
                    try:
                        answers[endpoint] = task.result()
                    except (NodeUnavailable, NodeMisbehaved, NodeRefused) as problem:
                        problems.append(problem)
        finally:
            await _cancelled(running)
        if not answers:
            raise problems[0]
        return answers

    async def _answer(self, endpoint: Endpoint, what: str, question: Callable[[Node], Awaitable[Answer]]) -> Answer:
        """One endpoint's answer, and what it says about the endpoint."""
        started_seconds = self._now_seconds()
        try:
            if what != "check":
                await self._check(endpoint)
            answer = await question(endpoint.node)
        except _Lacks:
            raise
        except (NodeUnavailable, NodeMisbehaved, RateLimited) as problem:
            self._failed(endpoint, problem)
            raise
        except asyncio.CancelledError:
            endpoint.latencies_seconds[what].append(self._now_seconds() - started_seconds)
            raise
        except NodeRefused:
            endpoint.failures = 0
            raise
        if what == "check":
            self._checked(endpoint)
        taken_seconds = self._now_seconds() - started_seconds
        if taken_seconds <= endpoint.hedge_seconds(what):
            endpoint.overtaken = 0
        endpoint.latencies_seconds[what].append(taken_seconds)
        endpoint.failures = 0
        return answer

    async def _check(self, endpoint: Endpoint) -> None:
        fresh = self._now_seconds() - endpoint.checked_at_seconds < CHECK_SECONDS
        if endpoint.checked_round != self._round or not fresh:
            await endpoint.node.check(self._genesis_hash)
            self._checked(endpoint)

    def _checked(self, endpoint: Endpoint) -> None:
        endpoint.checked_round, endpoint.checked_at_seconds = self._round, self._now_seconds()

    def _failed(self, endpoint: Endpoint, problem: Exception) -> None:
        """It rests: longer after each failure in a row, with jitter, and as long as it asks for."""
        longest_seconds = min(REST_SECONDS_MAX, self._rest_seconds * 2.0 ** min(endpoint.failures, 16))  # bounded wait
        rest_seconds = longest_seconds * self._chance.uniform(0.5, 1.0)
        if isinstance(problem, NodeBusy) and problem.retry_after_seconds is not None:
            rest_seconds = max(rest_seconds, min(RETRY_AFTER_SECONDS_MAX, problem.retry_after_seconds))
        endpoint.failures += 1
        until_seconds = self._now_seconds() + rest_seconds
        endpoint.rests_until_seconds = max(endpoint.rests_until_seconds, until_seconds)

    def _awake(self) -> list[Endpoint]:
        now_seconds = self._now_seconds()
        awake = [endpoint for endpoint in self.endpoints if endpoint.rests_until_seconds <= now_seconds]
        if not awake:
            waking_seconds = min(endpoint.rests_until_seconds for endpoint in self.endpoints) - now_seconds
            raise NodeUnavailable(
                f"every node of network {self.network.name} failed and rests; the first one for {waking_seconds:.1f} s",
                retry_after_seconds=int(waking_seconds) + 1,
            )
        return awake

    def _order(self, height: int | None) -> list[Endpoint]:
        """Whom to ask, one after another: only who has come so far, the slow last. Raises NodeUnavailable."""
        awake = self._awake()
        heads = sorted(endpoint.head for endpoint in awake)
        needed = heads[-WITNESSES:][0] if height is None else height
        able = [endpoint for endpoint in awake if endpoint.head >= needed] or awake
        return sorted(able, key=lambda endpoint: endpoint.overtaken >= OVERTAKEN_MAX)


class _WitnessedTokens(TokenReader):
    """A pool's tokens: what credits or stops one is told by two endpoints."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.rpc)
        self._pool = pool

    async def states(self, contracts: Sequence[str], *, block: str) -> dict[str, TokenState]:
        return await self._pool.token_states(contracts, block=block)

    async def balances(self, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
        return await self._pool.token_balances(asked)


class _Pooled:
    """The `Rpc` under a pool's other questions: each is asked as the pool asks, sent once what is sent."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def call(self, method: str, *params: object) -> Json:
        ask = self._pool.once if method.startswith("eth_send") else self._pool.ask
        return await ask(method, lambda node: node.rpc.call(method, *params))

    async def batch(self, calls: Sequence[Call]) -> list[Json | NodeRefused]:
        return await self._pool.ask("batch", lambda node: node.rpc.batch(calls))


def _name(number: int, network: Network) -> str:
    """`2 (rpc.example:8545)`: the second of the network's addresses."""
    place = urlsplit(network.rpc_urls[number]) if number < len(network.rpc_urls) else None
    host = "" if place is None else place.netloc.rpartition("@")[2]
    return f"{number + 1} ({host})" if host else str(number + 1)


def _disagreement(height: int, told: Mapping[Endpoint, BlockRef], *, stops: bool) -> Disagreement:
    by_name = sorted((endpoint.name, ref.block_hash) for endpoint, ref in told.items())
    return Disagreement(height, tuple(by_name), stops)


async def _refs_that_it_has(node: Node, heights: Sequence[int]) -> dict[int, BlockRef]:
    """The blocks at these heights, as far as the node has come."""
    head = await node.head()
    asked = [height for height in heights if height <= head.number]
    found = await node.refs(asked) if asked else {}
    return {height: ref for height, ref in found.items() if ref is not None}


async def _cancelled(tasks: Iterable[asyncio.Task[Answer]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
