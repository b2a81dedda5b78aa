"""`onebook bench`: measure this machine. Each area is a module of `bench`, loaded when it's named."""

import asyncio
import importlib
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


@app.command()
def ledger(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """The engine in this process against its yardsticks: ORM row locks, a call per command, COPY.

    Example: onebook bench ledger --quick --only batcher64
    """
    _bench(["ledger"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command()
def api(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """Requests a second over HTTP, authentication and idempotency on.

    Example: onebook bench api --json
    """
    _bench(["api"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command()
def audit(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """Postings a second that the audit recomputes.

    Example: onebook bench audit --json
    """
    _bench(["audit"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command()
def custody(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """Addresses derived from a public key, and signatures through the socket of a real signer.

    Example: onebook bench custody --json
    """
    _bench(["custody"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command()
def chain(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """Blocks read, recomputed and taken in from a local chain, with a million watched addresses.

    Example: onebook bench chain --json
    """
    _bench(["chain"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command()
def fiat(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """A bank statement of 100,000 lines read, matched and booked; webhooks verified and kept; conversions over HTTP.

    Example: onebook bench fiat --json
    """
    _bench(["fiat", "webhooks", "conversions"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command()
def treasury(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    only: Only = None,
    record: Record = False,
) -> None:
    """What is owed to a million users, read from a book and hashed into a tree; a user's proof, its size and check.

    Example: onebook bench treasury --json
    """
    _bench(["treasury"], _options(seconds, seed, quick, only), json=json, keep=record)


@app.command(name="all")
def all_(
    json: Json = False,
    seconds: Seconds = 5,
    seed: Seed = 1,
    quick: Quick = False,
    record: Record = False,
) -> None:
    """Every area, one after the other.

    Example: onebook bench all --record
    """
    _bench(list(AREAS), _options(seconds, seed, quick, None), json=json, keep=record)


def _options(seconds: float, seed: int, quick: bool, only: list[str] | None) -> Options:
    return Options(seconds=min(seconds, 1) if quick else seconds, seed=seed, quick=quick, only=tuple(only or ()))


def _bench(areas: list[str], options: Options, *, json: bool, keep: bool) -> None:
    reports: list[Report] = []
    for area in areas:
        measure = importlib.import_module(AREAS[area]).measure
        with Progress() as progress, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the API
            report = runner.run(measure(options, progress))
        if not json:
            _show(report)
        if keep:
            record(report)
        reports.append(report)
    if json:
        typer.echo(to_json(reports))


def _show(report: Report) -> None:
    title = f"{report.area}, {report.at:%Y-%m-%d %H:%M} UTC"
    show_table(title, ("figure", "value", "unit", "must reach", "met"), rows(report), right=(1,))
    for what, facts in (report.machine | report.settings).items():
        say(f"  {what}: {facts}")
