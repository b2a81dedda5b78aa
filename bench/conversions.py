"""Conversions a second over HTTP: quotes taken, and conversions at the price of now; how fast quotes are made beside.

The API's own process, asked by wrk over loopback; authentication, idempotency and the rate limit are on. Half goes one
way, half the other, each in an entry of its own with its row and, where no quote was asked for before, the quote's.
The exchange has a reference, spreads, and a bound on what it may hold, as it would in production.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from sqlalchemy import insert

from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.progress import Progress
from bench.frame import Better, Figure, Options, Report, median, number
from bench.http import CLIENTS, Answer, Service, load, lua_list, require_wrk, serving
from bench.machine import describe_machine, describe_server
from bench.stage import server
from db.engine import tx
from exchange.rates_file import RatesFile
from exchange.terms import Terms
from ledger.money import Asset, AssetKind
from wallet.conversion_store import quote_values
from wallet.quotes import Quotes
from wallet.tables import quotes

USERS, _QUICK_USERS = 200, 50

QUOTES_PER_SECOND = 4_000
"""Quotes made ahead for each second in which they're taken: more than can be."""

TARGETS = {"conversions_per_s": 1_000.0}

_LUA = Path(__file__).with_suffix(".lua")
_ASSETS = (
    Asset("EUR", AssetKind.FIAT, 2),
    Asset("USD", AssetKind.FIAT, 2),
    Asset("USDC", AssetKind.STABLECOIN, 6),
)
_CONFIG = """
[exchange]
reference = "USD"
quote_seconds = 3600
[[exchange.exposures]]
asset = "USDC"
most = "900000000000000"
"""
_RATES = """
as_of = {as_of}
max_age_seconds = 86400
spread_basis_points = 50
pivot = "USD"
[[pairs]]
base = "EUR"
quote = "USD"
rate = "1.0842"
[[pairs]]
base = "USDC"
quote = "USD"
rate = "1"
spread_basis_points = 5
"""
_ROWS = {
    "bare": ("conversions_bare_per_s", "conversions_bare_p99_ms"),
    "take": ("conversions_per_s", "conversions_p99_ms"),
    "now": ("conversions_now_per_s", "conversions_now_p99_ms"),
    "quote": ("quotes_per_s", "quotes_p99_ms"),
}
"""Each row's figures: how many a second, and the slowest but one in a hundred. `bare` is the yardstick."""


async def measure(options: Options, progress: Progress) -> Report:
    """Start a server and the API, and measure the wanted rows, in turn; medians."""
    report = Report(area="conversions", machine=describe_machine(), settings={}, at=datetime.now(UTC))
    wanted = [row for row, figures in _ROWS.items() if options.wants_any(*figures)]
    if not wanted:
        return report
    require_wrk()
    users = _QUICK_USERS if options.quick else USERS
    rates = _RATES.format(as_of=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    measured: dict[str, list[Answer]] = {row: [] for row in wanted}
    with server("conversions") as running:
        async with serving(
            running,
            "bench_conversions",
            assets=_ASSETS,
            users=users,
            progress=progress,
            config=_CONFIG,
            files={"rates.toml": rates},
            stock=("fx",),
        ) as service:
            runs = _Runs(service, options)
            for row in wanted:
                await runs.run(row, seconds=1)
            for _ in range(options.repeats):
                for row in wanted:
                    measured[row].append(await runs.run(row, seconds=options.seconds))
        run = {"seconds": options.seconds, "seed": options.seed, "clients": CLIENTS, "users": users}
        report.settings.update({"postgresql": await describe_server(running.admin_url), "run": run})
    for row, answers in measured.items():
        named, slow = _ROWS[row]
        rate = median([answer.per_second for answer in answers])
        p99 = median([answer.p99_ms for answer in answers])
        report.figures.append(Figure(named, rate, "requests/s", TARGETS.get(named)))
        report.figures.append(Figure(slow, p99, "ms", None, Better.LOWER))
        progress.note(f"{named}: {number(rate)} requests/s")
    return report


class _Runs:
    """Runs of wrk, each with ids of its own."""

    def __init__(self, service: Service, options: Options) -> None:
        self._service = service
        self._options = options
        self._runs = 0

    async def run(self, what: str, *, seconds: float) -> Answer:
        self._runs += 1
        made = await self._quotes(round(QUOTES_PER_SECOND * seconds)) if what == "take" else []
        plan = (
            f"plan = {{ what = '{what}', run = 'c{self._runs}', seed = {self._options.seed + self._runs},"
            f" keys = {lua_list(self._service.keys)}, quotes = {lua_list([id for id, _ in made])},"
            f" owners = {{{','.join(str(owner + 1) for _, owner in made)}}} }}\n"
        )
        return await load(self._service, _LUA, plan, what=what, seconds=seconds)

    async def _quotes(self, count: int) -> list[tuple[str, int]]:
        """So many quotes, drawn as the API draws them and kept in bulk: each id, and whose it is."""
        service, chance = self._service, Random(self._options.seed + self._runs)  # noqa: S311 - repeatable on purpose
        clock = SystemClock()
        quoting = Quotes(
            service.engine,
            ledger=service.ledger,
            rates=RatesFile(service.folder / "rates.toml", clock=clock),
            clock=clock,
            entropy=SystemEntropy(),
            terms=Terms(reference="USD", quote_life=timedelta(hours=1)),
        )
        owners = [chance.randrange(len(service.users)) for _ in range(count)]
        rows, made = [], []
        for owner in owners:
            ways = [{"sell": "EUR", "buy": "USDC", "sell_amount": chance.randint(100, 999)}]
            ways.append({"sell": "USDC", "buy": "EUR", "buy_amount": chance.randint(100, 999)})
            quote = await quoting.draw(service.users[owner], **chance.choice(ways))  # type: ignore[arg-type]
            rows.append({"book": service.ledger.book, "id": quote.id, **quote_values(quote)})
            made.append((quote.id, owner))
        async with tx(service.engine) as connection:
            for start in range(0, len(rows), 1000):
                await connection.execute(insert(quotes), rows[start : start + 1000])
        return made
