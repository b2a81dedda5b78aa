"""`onebook bench`: measure this machine. Each area is a module of `bench`, loaded when it's named."""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
import uvloop

from base.progress import Progress
from bench.frame import Options, Report, record, rows, to_json
from cli.output import say, show_table

AREAS = {
    "ledger": "bench.ledger",
    "api": "bench.api",
    "audit": "bench.audit",
    "custody": "bench.custody",
    "chain": "bench.chain",
    "webhooks": "bench.webhooks",
    "fiat": "bench.fiat",
    "conversions": "bench.conversions",
    "treasury": "bench.treasury",
}
"""Each area's module, which offers `async def measure(options, progress) -> Report`."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Measure how fast book, API, audit and signer are here. Starts servers of its own; touches no other.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document; progress goes to standard error.")]
Seconds = Annotated[float, typer.Option("--seconds", help="How long each measurement takes.", min=0.1)]
Seed = Annotated[int, typer.Option("--seed", help="Another seed, another history.")]
Quick = Annotated[bool, typer.Option("--quick", help="Small and measured once: to see that it works.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Rows to measure, such as batcher64 or 'hot*'.")]
Record = Annotated[bool, typer.Option("--record", help="Renew the area's section in bench/RESULTS.md.")]


COMMANDS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "ledger": (
        ("ledger",),
        "The engine in this process against its yardsticks: ORM row locks, a call per command, COPY.",
        "ledger --quick --only batcher64",
    ),
    "api": (("api",), "Requests a second over HTTP, authentication and idempotency on.", "api --json"),
    "audit": (("audit",), "Postings a second that the audit recomputes.", "audit --json"),
    "custody": (
        ("custody",),
        "Addresses derived from a public key, and signatures through the socket of a real signer.",
        "custody --json",
    ),
    "chain": (
        ("chain",),
        "Blocks read, recomputed and taken in from a local chain, with a million watched addresses.",
        "chain --json",
    ),
    "fiat": (
        ("fiat", "webhooks", "conversions"),
        "A bank statement of 100,000 lines read, matched and booked; webhooks kept; conversions over HTTP.",
        "fiat --json",
    ),
    "treasury": (
        ("treasury",),
        "What is owed to a million users, hashed into a tree, and a user's proof; all of it reconciled with a chain.",
        "treasury --json",
    ),
    "all": (tuple(AREAS), "Every area, one after the other.", "all --record"),
}
"""Each command's areas, what it measures, and an example."""


def _measuring(areas: tuple[str, ...]) -> Callable[..., None]:
    """The command that measures these areas: all of them have the same options."""

    def measuring(
        json: Json = False,
        seconds: Seconds = 5,
        seed: Seed = 1,
        quick: Quick = False,
        only: Only = None,
        record: Record = False,
    ) -> None:
        _bench(areas, _options(seconds, seed, quick, only), json=json, keep=record)

    return measuring


for _name, (_areas, _what, _example) in COMMANDS.items():
    app.command(_name, help=f"{_what}\n\nExample: onebook bench {_example}")(_measuring(_areas))


def _options(seconds: float, seed: int, quick: bool, only: list[str] | None) -> Options:
    return Options(seconds=min(seconds, 1) if quick else seconds, seed=seed, quick=quick, only=tuple(only or ()))


def _bench(areas: Sequence[str], options: Options, *, json: bool, keep: bool) -> None:
    reports: list[Report] = []
    for area in areas:
        measure = importlib.import_module(AREAS[area]).measure
        with Progress() as progress, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the API
            report = runner.run(measure(options, progress))
        if not json and report.figures:
            _show(report)
        if keep and report.figures:  # an area of which nothing was wanted keeps what it has
            record(report)
        reports.append(report)
    if json:
        typer.echo(to_json(reports))


def _show(report: Report) -> None:
    title = f"{report.area}, {report.at:%Y-%m-%d %H:%M} UTC"
    show_table(title, ("figure", "value", "unit", "must reach", "met"), rows(report), right=(1,))
    for what, facts in (report.machine | report.settings).items():
        say(f"  {what}: {facts}")
