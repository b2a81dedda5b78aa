"""An account with much history, some of it back-dated: how long a balance by effective time takes to find."""

import random
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from base.progress import Progress
from bench.frame import percentile
from bench.loader import repeat, write_stretch
from bench.mix import AMOUNT_AVERAGE, USDC
from bench.stage import FOUNDED, Ago, Stage, Stepping, opened
from ledger.commands import Group, Post, Posting
from ledger.requests import worker_id
from ledger.statements import TimeKind

POSTINGS = 1_000_000
"""Of the one account."""

BACKDATED_EVERY = 100
"""One posting in so many is back-dated, by ten days at most."""

_STRETCH = 10_000
"""Postings that the engine writes itself."""

_STEP = timedelta(minutes=10)
"""Time in the book between two batches of them."""

_QUESTIONS = 500


async def balance_p99_ms(stage: Stage, *, postings: int, seed: int, progress: Progress) -> float:
    """The slowest but one in a hundred of so many questions, at instants spread over the account's history."""
    account = stage.accounts[1]
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    async with stage.book() as place:
        clock = Stepping(Ago(FOUNDED / 2).now(), _STEP)
        start = clock.instant
        async with opened(stage.server, place.name, clock=clock) as past:
            size = min(_STRETCH, postings // 4)
            groups = [_post(chance, number, account, stage.accounts[2:], start) for number in range(size)]
            stretch = await write_stretch(past, groups, progress)
            await repeat(past, stretch, postings // size - 1, progress)
            span = stretch.interval * (postings // size)
        taken = []
        for _ in range(_QUESTIONS):
            at = start + span * chance.random()
            asked = time.perf_counter()
            await place.ledger.balance_at(account, at, by=TimeKind.EFFECTIVE)
            taken.append((time.perf_counter() - asked) * 1000)
    return percentile(taken, 0.99)


def _post(chance: random.Random, number: int, account: str, others: Sequence[str], start: datetime) -> Group:
    debit, credit = chance.sample((account, chance.choice(others)), 2)
    effective_at = start - timedelta(days=10) * chance.random() if number % BACKDATED_EVERY == 0 else None
    posting = Posting(debit, credit, USDC.code, chance.randint(1, 2 * AMOUNT_AVERAGE))
    post = Post(id=worker_id("bench:dated", number), effective_at=effective_at, postings=(posting,))
    return Group((post,))
