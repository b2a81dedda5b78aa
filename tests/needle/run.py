"""One run: every hand puts its unit of drift in, and the treasury's cycles must find it; then cycles without any.

python -m tests.needle --accounts 100000 --cycles 1000 --seed 7

A cycle is what the worker's step `reconcile` does when it's due. For each hand: a cycle finds nothing; the unit is put
in; the cycle without the check that finds it misses it; the next cycle names kind, account and network.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from tests.needle.hands import HANDS, NETWORK, Hand, Put
from tests.needle.haystack import FINAL_DEPTH, Barn
from tests.needle.load import Load
from treasury import comparison
from treasury.book_check import BookCheck
from treasury.reconciliation import Reconciler
from treasury.records import Break, Reconciliation


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one hand. `wrong`: why it failed; empty if it was found as it should be, and missed without."""

    hand: str
    kind: str
    seconds: float
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Quiet:
    """Cycles without a hand: how many, in how many the chain was judged, what happened beside them, and what is wrong.

    `wrong`: false alarms, and too little to mean anything: a cycle that judges nothing raises no alarm.
    """

    cycles: int
    judged: int
    done: dict[str, int]
    wrong: tuple[str, ...]
    slowest: float


async def cycle(reconciler: Reconciler) -> Reconciliation:
    """What the worker's step does when it's due, a minute after payment providers were asked last."""
    reconciler._rails_asked_at = None
    return await reconciler._run(whole=False)


@contextmanager
def switched_off(check: str) -> Iterator[None]:
    """Without the named check; nothing of the kind can be set in the product."""
    with _OFF[check]():
        yield


def _blind_book() -> AbstractContextManager[object]:
    checked = BookCheck.check

    async def check(self: BookCheck, *args: object, **more: object) -> object:
        seen = await checked(self, *args, **more)  # type: ignore[arg-type]
        seen.findings.clear()
        return seen

    return patch.object(BookCheck, "check", check)


def _blind(name: str, nothing: object) -> Callable[[], AbstractContextManager[object]]:
    return lambda: patch.object(comparison, name, lambda *_, **__: nothing)


_OFF: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "book": _blind_book,
    "lines": _blind_book,
    "chain": _blind("chain_differs", []),
    "foreign": _blind("unsent", []),
    "surplus": _blind("unexplained", []),
    "bank": _blind("bank_differs", ([], [])),
    "rails": _blind("rail_differs", ([], [])),
    "exchange": _blind("position_differs", []),
}


async def try_hand(barn: Barn, hand: Hand, seed: int) -> Found:
    """Put one unit in, with its control before the cycle that must find it.

    What is on chain is looked at in the newest block, and judged when that is final: the cycle that counts is the first
    one then.
    """
    async with barn.haystack(seed) as stack:
        reconciler = stack.house.services.reconciler
        before = await cycle(reconciler)
        if before.breaks:
            return Found(hand.name, "", 0.0, f"a break before anybody did anything: {_said(before.breaks)}")
        put = await hand.put(stack)
        await stack.settle()
        with switched_off(hand.check):
            blind = list((await cycle(reconciler)).breaks)
            if put.network == NETWORK or put.beside:
                for chain in stack.house.chains.values():
                    chain.mine(FINAL_DEPTH)
                await stack.settle()
                blind += (await cycle(reconciler)).breaks
        if named := [found for found in blind if _names(found, hand, put)]:
            return Found(hand.name, "", 0.0, f"found without its check: {_said(named)}")
        begun = time.monotonic()
        run = await cycle(reconciler)
        seconds = time.monotonic() - begun
        named = [found for found in run.breaks if _names(found, hand, put)]
        if not put.met_by({found.account for found in named}):
            return Found(hand.name, "", seconds, f"not found; there was {_said(run.breaks)}, {run.networks}")
        return Found(hand.name, named[0].reason.value, seconds)


def _names(found: Break, hand: Hand, put: Put) -> bool:
    return found.reason.value in hand.kinds and put.is_at(found.account, found.network)


def _said(breaks: object) -> str:
    return "; ".join(
        f"{one.reason} {one.account} {one.network} {one.expected} {one.found} {one.detail}"
        for one in breaks  # type: ignore[attr-defined]
    )


async def stay_quiet(barn: Barn, cycles: int, seed: int, say: Callable[[str], None], *, seconds: float) -> Quiet:
    """So many cycles of a house under load and reorganisations: none may find anything. None begins after `seconds`.

    In the end all comes to rest, and a run over everything agrees.
    """
    ends_at, number, judged = time.monotonic() + seconds, 0, 0
    wrong: list[str] = []
    slowest = 0.0
    async with barn.haystack(seed, last=True) as stack:
        reconciler, load = stack.house.services.reconciler, Load(stack, random.Random(seed))
        while number < cycles and len(wrong) < ALARMS_MAX and time.monotonic() < ends_at:
            number += 1
            await load.go_on()
            begun = time.monotonic()
            run = await cycle(reconciler)
            slowest = max(slowest, time.monotonic() - begun)
            judged += all(network.skipped is None for network in run.networks)
            if run.breaks:
                wrong.append(f"false alarm in cycle {number}: {_said(run.breaks)}")
            if number % SAID_EVERY == 0:
                say(f"{number} of {cycles} cycles, {load.told()}; alarms: {len(wrong) or 'none'}")
        await stack.settle()
        for chain in stack.house.chains.values():
            chain.mine(FINAL_DEPTH + 1)
        await stack.settle()
        end = await reconciler.run()
        if end.breaks or end.in_flight or any(network.skipped for network in end.networks):
            wrong.append(f"at rest: {_said(end.breaks)}, {end.in_flight}, {end.networks}")
    for what, least in FLOORS.items():
        if load.done[what] < number // least:
            wrong.append(f"only {load.done[what]} {what} in {number} cycles")
    if judged < number * JUDGED_LEAST // 100:
        wrong.append(f"only {judged} of {number} cycles judged the chain")
    return Quiet(number, judged, dict(load.done), tuple(wrong), slowest)


SAID_EVERY = 100

JUDGED_LEAST = 75
"""Percent of the clean cycles that must have judged the chain: the others met a reorganisation under way."""

FLOORS = {"reorganisations": 12, "withdrawals": 12, "payments in": 6, "statements": 80, "transfers": 1}
"""One of each in so many cycles at least."""

ALARMS_MAX = 5
"""After so many the run gives up."""


def hands_named(part: str) -> list[Hand]:
    return [hand for hand in HANDS if part in hand.name]
