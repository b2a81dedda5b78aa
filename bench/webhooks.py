"""How many providers' webhooks a second are verified and kept in the inbox, each durable before it's answered.

In this process, without HTTP: signature, age, and the row, with 64 senders at once. Wired into `onebook bench fiat` by
its figures: `webhooks_per_s`, and the CPU that one costs here.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.progress import Progress
from bench.frame import Figure, Options, Report, median, number
from bench.machine import describe_machine, describe_server
from bench.stage import Place, prepare, server
from fiat.personal import NoVault
from fiat.rails.desk import Desk, Rails
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import ObjectKind, RawWebhook
from fiat.rails.sandbox import Sandbox
from fiat.rails.sandbox_record import Record

SENDERS = 64
_EVENTS, _QUICK_EVENTS = 5_000, 500
_TARGET = 1_000.0
_LATE = timedelta(seconds=1)


async def measure(options: Options, progress: Progress) -> Report:
    """Keep that many webhooks, three times, each on an empty inbox of a durable server."""
    if not options.wants_any("webhooks_per_s", "webhook_cpu_us"):
        return Report(area="webhooks", machine=describe_machine(), settings={}, at=datetime.now(UTC), figures=[])
    with server("webhooks") as running:
        stage = await prepare(running, accounts=1, seed=options.seed, progress=progress)
        rates: list[float] = []
        costs: list[float] = []
        for _ in range(1 if options.quick else 3):
            async with stage.book() as place:
                rate, cost = await _kept(place, _QUICK_EVENTS if options.quick else _EVENTS)
            rates.append(rate)
            costs.append(cost)
        settings = {
            "postgresql": await describe_server(running.admin_url),
            "run": {"events": _QUICK_EVENTS if options.quick else _EVENTS, "senders": SENDERS},
        }
    figures = [
        Figure("webhooks_per_s", median(rates), "webhooks/s", _TARGET),
        Figure("webhook_cpu_us", median(costs), "us"),
    ]
    for figure in figures:
        progress.note(f"{figure.name}: {number(figure.value)} {figure.unit}")
    return Report(area="webhooks", machine=describe_machine(), settings=settings, at=datetime.now(UTC), figures=figures)


async def _kept(place: Place, count: int) -> tuple[float, float]:
    """Webhooks a second, and microseconds of this process's CPU for each."""
    clock = SystemClock()
    record = Record(place.engine, book=place.ledger.book, clock=clock)
    sandbox = Sandbox(record, clock=clock, secret="bench-webhooks")  # noqa: S106 - signs nothing of value
    desk = Desk(
        engine=place.engine,
        ledger=place.ledger,
        rails=Rails([sandbox]),
        vault=NoVault("no bank here"),
        clock=clock,
        entropy=SystemEntropy(),
    )
    inbox = Inbox(desk)
    waiting = [sandbox.sign(_event(number, clock.now() - _LATE)) for number in range(count)]
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_send(inbox, waiting) for _ in range(SENDERS)))
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    kept = len(await inbox.list_all(limit=count + 1))
    if kept != count:
        raise AssertionError(f"{kept} of {count} webhooks were kept")
    await inbox.aclose()
    return count / seconds, spent / count * 1_000_000


async def _send(inbox: Inbox, waiting: list[RawWebhook]) -> None:
    while waiting:
        await inbox.receive("sandbox", waiting.pop())


def _event(number: int, at: datetime) -> dict[str, object]:
    return {
        "id": f"evt_{number}",
        "kind": "payment.captured",
        "object_kind": ObjectKind.PAYMENT.value,
        "object": f"sbp_{number}",
        "reference": None,
        "at": at.isoformat(),
    }
