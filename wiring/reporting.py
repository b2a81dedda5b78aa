"""Builds reports of the settings: in which asset they value, and by which rates of the past."""

from zoneinfo import ZoneInfo

from exchange.past import RateHistory
from treasury.reports.service import Reports
from wiring.parts import Parts


def build_reports(parts: Parts) -> Reports:
    """Who makes reports. Their periods are of the treasury's own days and months, as those that it closes."""
    reference = parts.settings.exchange.reference
    return Reports(
        parts.engine,
        ledger=parts.ledger,
        rates=RateHistory(parts.engine, book=parts.settings.book, reference=reference),
        reference=reference,
        clock=parts.clock,
        zone=ZoneInfo(parts.settings.treasury.time_zone),
    )
