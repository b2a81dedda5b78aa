"""Prints the digests of a closed month's balance sheet in every form, in Chinese: run in a process of its own."""

import asyncio
import hashlib
import io
import json
import os
from datetime import UTC, datetime

from base.clock import ManualClock
from db.engine import create_engine
from ledger.service import PostgresLedger
from treasury.reports.model import ReportKind
from treasury.reports.render.rendering import Form, render
from treasury.reports.render.words import Language
from treasury.reports.service import Asked, Reports


class NoRates:
    async def at(self, instant):
        return None


async def main() -> None:
    engine = create_engine(os.environ["REPORTS_URL"])
    clock = ManualClock(datetime(2027, 6, 1, tzinfo=UTC))
    reports = Reports(engine, ledger=PostgresLedger(engine, clock=clock), rates=NoRates(), reference=None, clock=clock)
    found = {}
    for form in Form:
        async with reports.report(Asked(kind=ReportKind.BALANCE_SHEET, period="2026-10")) as report:
            stream = io.BytesIO()
            render(report, form, Language.ZH, stream)
            found[form.value] = hashlib.sha256(stream.getvalue()).hexdigest()
    print(json.dumps(found))
    await engine.dispose()


asyncio.run(main())
