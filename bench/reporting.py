"""A user's statement over 300,000 lines, written as CSV: what memory that takes.

The figure is what the process needs beyond what it had: rows wait outside of memory, so it mustn't grow with them.
"""

import io
import tempfile
from datetime import UTC

from base.clock import SystemClock
from base.progress import Progress
from bench.frame import Options
from bench.machine import forget_highest, highest_mib
from bench.stage import Place, Stage
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.outcomes import require_accepted
from treasury.reports.model import ReportKind
from treasury.reports.render.rendering import Form, render
from treasury.reports.render.words import Language
from treasury.reports.service import Asked, Reports

FIGURE = "report_300k_mib"
LINES, _QUICK_LINES = 300_000, 20_000
FORM = Form.CSV
"""The quickest. Of a workbook the tests look at fewer lines; a PDF has at most 200,000, its pages made in memory."""

_USER = "usr_" + "0" * 26
_YUAN = Asset("CNY", AssetKind.FIAT, 2)
_A_COMMAND, _AT_ONCE = 100, 100
"""Lines of a command, and commands sent together."""


class _NoRates:
    async def at(self, instant: object) -> None:
        return None


async def measure(stage: Stage, options: Options, progress: Progress) -> float:
    """MiB that making and writing it takes at most."""
    count = _QUICK_LINES if options.quick else LINES
    async with stage.book() as place:
        await _fill(place, count, progress)
        clock = SystemClock()
        reports = Reports(place.engine, ledger=place.ledger, rates=_NoRates(), reference=None, clock=clock, zone=UTC)
        year = str(clock.now().year)
        asked = Asked(kind=ReportKind.STATEMENT, period=year, user=_USER)
        async with reports.report(Asked(kind=ReportKind.BALANCE_SHEET, period=year)) as first:
            render(first, FORM, Language.EN, io.BytesIO())  # what is loaded for the first file isn't the second one's
        with progress.bar("a statement", count) as advance, tempfile.TemporaryFile() as file:
            forget_highest()
            before = highest_mib()
            async with reports.report(asked, told=lambda what, step, total: advance(step)) as report:
                render(report, FORM, Language.EN, file)
            return highest_mib() - before


async def _fill(place: Place, count: int, progress: Progress) -> None:
    """Lines of one user's account, each of a cent, all booked today."""
    await place.ledger.register_asset(_YUAN)
    account, source = user_account(_USER, _YUAN.code), house_account("capital", _YUAN.code)
    await place.ledger.ensure_open(account, source)
    posting = Posting(source, account, _YUAN.code, 1)
    commands = max(1, count // _A_COMMAND)
    with progress.bar("a user's lines", count) as advance:
        for start in range(0, commands, _AT_ONCE):
            names = range(start, min(start + _AT_ONCE, commands))
            posts = [
                Post(id=f"report:{name}", subject=f"trf_{name}", postings=(posting,) * _A_COMMAND) for name in names
            ]
            for outcomes in await place.ledger.submit(*map(alone, posts)):
                require_accepted(outcomes)
            advance(len(names) * _A_COMMAND)
