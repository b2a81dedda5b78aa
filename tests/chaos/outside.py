"""The outside world, without keeping others waiting: a chain whose blocks come each second, its branches, its payers.

All that moves blocks goes through one lock, so that a reorganisation never meets a block that is being made. What a
branch drops stays dropped, as on real networks, unless it keeps its transactions.
"""

import asyncio
import contextlib
import gzip
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from chain import local
from chain.evm.blocks import encode_transaction
from chain.local import LocalChain
from tests.chaos.plan import Paying, Way
from tests.support.chain import RunningChain
from tests.support.contracts import create

BLOCK_SECONDS = 1.0

FAUCET, PAYERS, LISTED_PAYER = 0, (1, 2), 6
"""Development accounts: owns the tokens; pay tokens and ether; is on the screening list."""

GAS = 200_000
"""For each of their transactions: nothing is estimated, so that nothing is refused beforehand."""


ALONE_SECONDS = 30.0
"""How long questions under way may take before a branch is made."""


class Turnstile:
    """Lets questions pass side by side; whoever wants to be alone waits for those under way and keeps others waiting.

    anvil can lock itself up for good where a reorganisation meets a question.
    """

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._inside = 0

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """One question."""
        await self._open.wait()
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else's question. One at a time may ask for it."""
        self._open.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), ALONE_SECONDS)
            yield
        finally:
            self._open.set()


class NodeRefuses(Exception):
    """The node's own no."""


@dataclass(slots=True)
class Outside:
    """A steered chain. `made` counts what was done to it."""

    chain: RunningChain
    folder: Path
    contract: str = ""
    """Pays ether on by inner calls."""
    made: Counter[str] = field(default_factory=Counter)
    trouble: list[str] = field(default_factory=list)
    """What the node refused of strangers: said at the end, never a failure of the house."""
    lowest: int = 0
    """Below this height nothing can be replaced: a node that was restarted knows no state before it."""
    _http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(trust_env=False, timeout=60))
    gate: Turnstile = field(default_factory=Turnstile)
    """What stands before the node, for everybody but us."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _payers: Iterator[int] = field(default_factory=lambda: itertools.cycle(PAYERS))

    def furnish(self) -> None:
        """The inner payer, tokens for the listed payer; then blocks come only when they're made."""
        self.contract = create(self.chain, "Payer")
        self.chain.faucet(self.chain.accounts[LISTED_PAYER], 10**12, "USDC")
        self.chain.set_automine(False)
        self.lowest = self.chain.height()

    async def close(self) -> None:
        await self._http.aclose()

    async def rpc(self, method: str, *params: object) -> Any:
        """One call. Raises NodeRefuses, httpx.HTTPError."""
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = (await self._http.post(self.chain.url, json=call)).json()
        if "error" in reply:
            raise NodeRefuses(f"{method}: {reply['error'].get('message')}")
        return reply["result"]

    async def height(self) -> int:
        return int(await self.rpc("eth_blockNumber"), 16)

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """No block is made or replaced meanwhile, but by who holds it."""
        async with self._turn:
            yield

    # Blocks

    async def mine(self, blocks: int = 1) -> None:
        async with self._turn:
            await self._mine(blocks)

    async def make_blocks(self, stop: asyncio.Event) -> None:
        """A block each second, until told to stop; while the node is away none."""
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError):
                await self.mine()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), BLOCK_SECONDS)

    async def reorganise(self, depth: int, *, keep: bool) -> bool:
        """Replace the last `depth` blocks, or as many as can be; whether there were any."""
        async with self._turn:
            head = await self.height()
            depth = min(depth, head - self.lowest)
            if depth < 1:
                return False
            heights = range(head - depth + 1, head + 1)
            lost = [await self.rpc("eth_getBlockByNumber", hex(height), True) for height in heights]
            again = [
                ("0x" + encode_transaction(one).hex(), offset)
                for offset, block in enumerate(lost)
                for one in block["transactions"]
            ]
            async with self.gate.alone():
                await self.rpc("anvil_reorg", depth, again if keep else [])
            for account in self.chain.accounts:  # what waits behind a dropped nonce would wait for ever
                await self.rpc("anvil_removePoolTransactions", account)
        self.made["blocks replaced"] += depth
        return True

    async def restart(self, away_seconds: float) -> None:
        """The node is killed, is away for so long, and comes back with its blocks, without what wasn't mined."""
        async with self._turn:
            state = await self._dump(historical=True)
            node, place = self.chain.node, httpx.URL(self.chain.url)
            node.process.kill()
            node.process.wait()
            await asyncio.sleep(away_seconds)
            async with self.gate.alone():  # until it knows its chain it's another one, which nobody shall see
                started = await _start(node, node.folder, port=place.port)
                record = replace(started.record, genesis_hash=node.record.genesis_hash)
                self.chain.node = replace(started, record=record)
                assert started.url == node.url, f"somebody took {node.url} while the node was away"
                self.chain.set_automine(False)
                await self.rpc("anvil_loadState", state)
            self.lowest = await self.height()

    async def _dump(self, *, historical: bool) -> str:
        """The node's state, with no blocks in it but those of the chain.

        The node itself would put replaced blocks into it, and its own first ones of earlier starts, and would take any
        of those that share a number for the chain's when it's loaded.
        """
        told = await self.rpc("anvil_dumpState", historical)
        state = json.loads(gzip.decompress(bytes.fromhex(told[2:])))
        heights = range(await self.height() + 1)
        chain = [await self.rpc("eth_getBlockByNumber", hex(height), False) for height in heights]
        marks, hashes = {_mark(block) for block in chain}, {block["hash"] for block in chain}
        state["blocks"] = [one for one in state["blocks"] if _mark(one["header"]) in marks]
        state["transactions"] = [one for one in state["transactions"] if one["block_hash"] in hashes]
        assert len(state["blocks"]) == len(chain), "the node's state lacks a block of its chain"
        return "0x" + gzip.compress(json.dumps(state).encode(), compresslevel=1).hex()

    @asynccontextmanager
    async def fork(self) -> AsyncIterator[str]:
        """A node that shares the chain up to now and goes on by itself, with a payment of its own: its address."""
        async with self._turn:
            state = await self._dump(historical=False)
        node = self.chain.node
        with await _start(node, self.folder / "fork", port=None) as other:
            local.mine_at_once(other.url, False)
            local.rpc(other.url, "anvil_loadState", state)
            local.transfer(other.url, "USDC", self.chain.accounts[7], 666, gas=GAS, seconds=None)
            local.mine(other.url, 2)
            yield other.url

    # Payments

    async def pay(self, asked: Paying, to: str, *, hot: str) -> None:
        """Hand in what the plan says; whether it stays on the chain is the chain's affair."""
        payer = next(self._payers)
        match asked.way:
            case Way.ETH:
                sent = self.send(payer, to, value=asked.amount)
            case Way.INNER:
                call = local.encode_call("pay(address)", to)
                sent = self.send(payer, self.contract, value=asked.amount, call=call)
            case Way.UNKNOWN:
                sent = self.send_token("DAI", payer, to, asked.amount)
            case Way.LISTED:
                sent = self.send_token("USDC", LISTED_PAYER, to, asked.amount)
            case Way.HOUSE:
                sent = self.send_token("USDC", payer, hot, asked.amount)
            case Way.USDC | Way.DUST:
                sent = self.send_token("USDC", payer, to, asked.amount)
        try:
            await sent
            self.made["payments"] += 1
        except (NodeRefuses, httpx.HTTPError) as problem:
            self.trouble.append(f"{asked.way}: {problem or type(problem).__name__}")

    async def send_token(self, token: str, sender: int, to: str, amount: int) -> str:
        return await self.send(
            sender, self.chain.token(token), call=local.encode_call("transfer(address,uint256)", to, amount)
        )

    async def blacklist(self, address: str) -> None:
        """The token refuses this recipient from the next block on."""
        call = local.encode_call("blacklist(address)", address)
        with contextlib.suppress(NodeRefuses, httpx.HTTPError):
            await self.send(FAUCET, self.chain.token("USDC"), call=call)

    async def send_as(self, owner: str, token: str, amount: int, *, to_whom: str) -> str:
        """Move a token of an address that the node plays for us."""
        call = local.encode_call("transfer(address,uint256)", to_whom, int(amount))
        wanted = {"from": owner, "to": token, "data": "0x" + call.hex(), "gas": hex(GAS)}
        return str(await self.rpc("eth_sendTransaction", wanted))

    async def send(self, sender: int, to: str, *, value: int = 0, call: bytes = b"") -> str:
        wanted = {"from": self.chain.accounts[sender], "to": to, "value": hex(value), "data": "0x" + call.hex()}
        return str(await self.rpc("eth_sendTransaction", {**wanted, "gas": hex(GAS)}))

    async def _mine(self, blocks: int) -> None:
        for _ in range(blocks):
            await self.rpc("evm_mine")
        self.made["blocks"] += blocks


def _mark(block: Any) -> tuple[str, ...]:
    """What tells a block from every other one, of a dumped header as of the node's answer."""
    return tuple(block[name] for name in ("number", "parentHash", "stateRoot", "transactionsRoot", "timestamp"))


async def _start(like: LocalChain, folder: Path, *, port: int | None) -> LocalChain:
    """A node with that chain id. The thread that starts it lives as long as the loop, and so does the node at most."""
    return await asyncio.to_thread(LocalChain.start, like.kind, folder, port=port, chain_id=like.chain_id)
