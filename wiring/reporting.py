"""Builds reports of the settings: in which asset they value, and by which rates of the past."""

from typing import TYPE_CHECKING

from exchange.past import RateHistory
from treasury.reports.service import Reports

if TYPE_CHECKING:
    from wiring.assemble import Parts


def build_reports(parts: "Parts") -> Reports:
    """Who makes reports. Periods are those of UTC."""
    reference = parts.settings.exchange.reference
    return Reports(
        parts.engine,
        ledger=parts.ledger,
        rates=RateHistory(parts.engine, book=parts.settings.book, reference=reference),
        reference=reference,
        clock=parts.clock,
    )
