"""What is done to chain, nodes and processes: each strike of the plan, and what counts as having happened.

A lie counts when an answer was altered by it, a kill when a process that ran is dead, a reorganisation when blocks were
replaced. What was planned and didn't come about isn't counted.
"""

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.house import API, SIGNER, House
from tests.chaos.outside import Outside
from tests.chaos.plan import (
    DEEPEST,
    KILLS,
    LIES,
    POINT_SECONDS,
    REORGS,
    ChainStrike,
    HouseStrike,
    Lying,
    ToChain,
    ToHouse,
)
from tests.faults.inventing import Invention
from tests.faults.lies import Kind as Lie
from tests.faults.lying_node import LyingNode

LIE_SECONDS = 1.5
"""How long a node goes on with a lie that concerns more than one answer."""

LATE_SECONDS = 2.0
"""By how much a late answer is late."""

AGAIN_SECONDS = 1.0
WORSE_SECONDS = 30.0
"""How long, for each minute of the plan, what hasn't come about often enough by its end is done again."""

OFTEN = "mined.seen"
"""A point to which a worker comes whenever anything of ours was mined, or mined anew."""

LASTING: dict[Lie, dict[str, Any]] = {Lie.OLD_HEAD: {"depth": 3}}
"""Lies that a node keeps up for a while."""

ONCE: dict[Lie, dict[str, Any]] = {
    Lie.DELAY: {"seconds": LATE_SECONDS},
    Lie.BUSY: {"retry_after_seconds": 1},
    Lie.LOGS_LIMIT: {"limit": 0},
    Lie.NO_TRACES: {"method": "debug_traceBlockByHash"},
}
"""How the others are told, where there is something to say."""


@dataclass(slots=True)
class Striker:
    """Does to the world what the plan says. `done` counts strikes that came about, by kind."""

    house: House
    outside: Outside
    liar: LyingNode
    dice: random.Random
    done: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    """Where workers killed themselves."""
    _lasting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self) -> Counter[str]:
        """Everything that happened, by kind: strikes, and lies as they were told."""
        return self.done + Counter({kind.value: told for kind, told in self.liar.told.items()})

    @property
    def reorgs(self) -> int:
        return sum(self.done[kind.value] for kind in REORGS)

    @property
    def kills(self) -> int:
        return sum(self.done[kind.value] for kind in KILLS)

    # The chain and its node

    async def strike_chain(self, strike: ChainStrike) -> None:
        match strike.what:
            case ToChain.REORG | ToChain.REORG_KEEPING:
                keep = strike.what is ToChain.REORG_KEEPING
                if not await self.outside.reorganise(strike.depth, keep=keep):
                    return
            case ToChain.HANG:
                await self._hang_node(strike.seconds)
            case ToChain.RESTART:
                await self.outside.restart(strike.seconds / 2)
        self.done[strike.what.value] += 1

    async def _hang_node(self, seconds: float) -> None:
        process = self.outside.chain.node.process
        async with self.outside.still():
            process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                process.send_signal(signal.SIGCONT)

    # Lies

    async def lie(self, lying: Lying) -> None:
        """Have the lying node tell this lie: once, or for a while."""
        match lying.lie:
            case Lie.INVENT:
                await self._invent()
            case Lie.FORK:
                async with self._lasting, self.outside.fork() as url:
                    self.liar.fork_at(url)
                    await self._for_a_while(Lie.FORK)
                    self.liar.fork_at(None)
            case kind if kind in LASTING:
                async with self._lasting:
                    await self._for_a_while(kind, **LASTING[kind])
            case kind:
                if not self.liar.is_about_to(kind):
                    self.liar.lie(kind, **ONCE.get(kind, {}))

    async def _for_a_while(self, kind: Lie, **how: object) -> None:
        told = self.liar.lie(kind, times=None, **how)
        await asyncio.sleep(LIE_SECONDS)
        self.liar.take_back(told)

    async def _invent(self) -> None:
        """From the next block on, which has a payment in it, this node tells of another one."""
        async with self._lasting:
            async with self.outside.still():
                await self.outside.send(1, self.outside.chain.accounts[8], value=1)
                height = await self.outside.height() + 1
                invented = Invention(height, to=self.house.hot[0], value=10**18)
                told = self.liar.lie(Lie.INVENT, times=None, invention=invented)
                await self.outside.rpc("evm_mine")
                self.outside.lowest = max(self.outside.lowest, height)
            await asyncio.sleep(LIE_SECONDS)
            self.liar.take_back(told)

    async def make_up(self, *, reorgs: float, kills: float, each: int) -> None:
        """Do again what came about less often than it must, for a bounded time: on a busy machine all takes longer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WORSE_SECONDS * each
        while loop.time() < deadline:
            missing = self.missing(each)
            if not missing and self.reorgs >= reorgs and self.kills >= kills:
                return
            await self.outside.send_token("USDC", 1, self.house.hot[0], 1)  # there must be something to lie about
            for kind in missing:
                await self._again(kind)
            if self.reorgs < reorgs:
                await self._again(ToChain.REORG_KEEPING)
            if self.kills < kills:
                await self._again(ToHouse.API)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _again(self, kind: Lie | ToChain | ToHouse) -> None:
        depth, seconds = self.dice.randint(1, DEEPEST), self.dice.uniform(1, 2)
        match kind:
            case Lie():
                await self.lie(Lying(at=0, lie=kind))
            case ToChain():
                await self.strike_chain(ChainStrike(at=0, what=kind, depth=depth, seconds=seconds))
            case ToHouse.WORKER_AT_POINT:
                await self._again(ToChain.REORG_KEEPING)  # what is mined is mined anew
                await self.strike_house(HouseStrike(at=0, what=kind, point=OFTEN, seconds=POINT_SECONDS))
            case _:
                await self.strike_house(HouseStrike(at=0, what=kind, seconds=seconds))

    def missing(self, floor: int) -> list[Lie | ToChain | ToHouse]:
        """Kinds of faults that came about less often."""
        happened = self.count()
        return [kind for group in (sorted(LIES), ToChain, ToHouse) for kind in group if happened[kind.value] < floor]

    # The house

    async def strike_house(self, strike: HouseStrike) -> None:
        worker = f"worker-{strike.worker}"
        match strike.what:
            case ToHouse.WORKER_AT_POINT:
                if not await self.house.kill_at(strike.point, seconds=strike.seconds):
                    await self._kill(worker, ToHouse.WORKER)
                    return
                self.points[strike.point] += 1
            case ToHouse.WORKER:
                await self._kill(worker, strike.what)
                return
            case ToHouse.SIGNER:
                await self._kill(SIGNER, strike.what)
                return
            case ToHouse.API:
                await self._kill(API, strike.what)
                return
            case ToHouse.SIGNER_HANGS:
                await self.house.hang(SIGNER, strike.seconds)
            case ToHouse.CONNECTIONS:
                if not await self.house.kill_connections():
                    return
            case ToHouse.DATABASE:
                self.house.restart_database(self.dice)
            case ToHouse.SCREENING:
                await self.house.without_list(strike.seconds)
        self.done[strike.what.value] += 1

    async def _kill(self, name: str, kind: ToHouse) -> None:
        if self.house.kill(name):
            self.done[kind.value] += 1
