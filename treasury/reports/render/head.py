"""What stands above a report's tables in every form, as pairs of what is said and of what. Pure."""

from collections.abc import Iterator

from treasury.reports.model import Report, instant_cell
from treasury.reports.render.words import Language, word


def head_lines(report: Report, language: Language) -> Iterator[tuple[str, str]]:
    """Which report it is, of what, as known when, and what is to be noted."""
    period = report.period
    yield word("report", language), word(report.kind.value, language)
    yield word("book", language), report.book
    if report.subject is not None:
        yield word("user", language), report.subject
    yield word("period", language), period.name
    yield word("from", language), instant_cell(period.since)
    yield word("to", language), instant_cell(period.until)
    yield word("time_zone", language), period.zone
    yield word("at", language), instant_cell(report.at)
    yield word("known_at", language), instant_cell(report.known_at)
    yield word("known_seq", language), str(report.known_seq)
    yield word("state", language), word("provisional" if report.provisional else "final", language)
    if report.reference is not None:
        yield word("reference", language), report.reference
    yield word("digest", language), f"sha256:{report.digest}"
    for note in report.notes:
        yield "", word(note.word, language, note.about)
