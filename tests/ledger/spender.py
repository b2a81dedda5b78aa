"""A process of its own in a crowd: says what `tests.ledger.crowd` has it say, and records what it heard and when.

It repeats what it got no answer to, also what an earlier process of its number, killed meanwhile, had left open. Each
line of its record is one event, written before it goes on: {"at": instant, "sent": names} or {"at", "name", "heard"}.
Instants are of the machine's monotonic clock, which all processes share.
"""

import asyncio
import itertools
import json
import os
import random
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from base.clock import Clock
from base.errors import Unavailable
from db.engine import create_engine
from ledger.outcomes import Outcome
from ledger.service import PostgresLedger
from tests.ledger.crowd import PROCESSES, Crowd

TURN_SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Errand:
    """What a process is to do: `until` it comes, on the shared monotonic clock, or `most` names are said.

    However late a busy machine lets it begin, it says something new for `least_seconds`.
    """

    url: str
    seed: int
    epoch: str
    process: int
    record: str
    until: float
    least_seconds: float
    most: int = 1_000_000
    callers: int = 6
    hours_ahead: float = 0

    @property
    def crowd(self) -> Crowd:
        return Crowd(self.seed, datetime.fromisoformat(self.epoch))


@dataclass(frozen=True, slots=True)
class _AheadClock:
    ahead: timedelta

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class Record:
    """Events in a file. What was written before a kill stays written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, **event: Any) -> None:
        os.write(self._file, json.dumps({"at": time.monotonic(), **event}).encode() + b"\n")


def events(path: Path) -> list[dict[str, Any]]:
    """The events of a record; a last line that a kill cut short doesn't count."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON gives it back."""
    told = msgspec.to_builtins(outcome, builtin_types=(bytes, datetime))
    told["content"] = outcome.content.hex()
    told["booked_at"] = outcome.booked_at.isoformat()
    told["effective_at"] = outcome.effective_at and outcome.effective_at.isoformat()
    plainly: dict[str, Any] = json.loads(json.dumps(told))
    return plainly


class Spender:
    """One process's callers."""

    def __init__(self, errand: Errand, ledger: PostgresLedger) -> None:
        self._errand = errand
        self._crowd = errand.crowd
        self._ledger = ledger
        path = Path(errand.record)
        before = events(path)
        heard = {event["name"] for event in before if "heard" in event}
        said = list(dict.fromkeys(name for event in before for name in event.get("sent", ())))
        own = [int(name.split(".")[1]) for name in said if name.startswith("p")]
        self._record = Record(path)
        self._chance = random.Random(f"{errand.seed}/calls/{errand.process}/{len(said)}")
        self._until = max(errand.until, time.monotonic() + errand.least_seconds)
        self._left = [name for name in said if name not in heard]
        self._fresh = itertools.islice(self._crowd.names(errand.process, max(own, default=0) + 1), errand.most)

    async def spend(self) -> None:
        await asyncio.gather(*(self._call_on() for _ in range(self._errand.callers)))
        self._record.write(batches=dict(self._ledger.batches), decided=dict(self._ledger.decided))

    async def _call_on(self) -> None:
        """Say one thing after the other: what was left unanswered, then what's new until time is up."""
        while names := self._next():
            while not self._is_our_turn():
                await asyncio.sleep(0.02)
            await self._say(list(dict.fromkeys(names)))

    def _next(self) -> list[str]:
        many = self._chance.choice((1, 1, 1, 1, 1, 1, 1, 2, 5, 25))
        if self._left:
            names, self._left = self._left[:many], self._left[many:]
            return names
        return list(itertools.islice(self._fresh, many)) if time.monotonic() < self._until else []

    def _is_our_turn(self) -> bool:
        """All speak for a while, then one alone, then all again: so that what one has learnt grows old."""
        turn = int(time.monotonic() / TURN_SECONDS)
        return turn % 2 == 0 or turn // 2 % PROCESSES == self._errand.process

    async def _say(self, names: list[str]) -> None:
        """Say it until it's answered. Some of our callers hang up at once and ask again."""
        groups = [self._crowd.group(name) for name in names]
        while True:
            self._record.write(sent=names)
            call = asyncio.ensure_future(self._ledger.submit(*groups))
            try:
                if self._chance.random() < 0.03:
                    await asyncio.wait({call}, timeout=self._chance.uniform(0, 0.004))
                    call.cancel()
                answers = await call
            except asyncio.CancelledError:
                continue
            except Unavailable as error:
                self._record.write(failed=names, code=error.code)
                await asyncio.sleep(0.05)
                continue
            for name, outcomes in zip(names, answers, strict=True):
                self._record.write(name=name, heard=[plain(outcome) for outcome in outcomes])
            return


async def main(errand: Errand) -> None:
    clock: Clock = _AheadClock(timedelta(hours=errand.hours_ahead))
    engine = create_engine(errand.url, pool_size=3)
    ledger = PostgresLedger(engine, clock=clock, retry_seconds=5)
    await Spender(errand, ledger).spend()
    await ledger.aclose()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(Errand(**json.loads(sys.argv[1]))))
