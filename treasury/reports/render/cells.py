"""Cells as people read them: words in a language, figures and instants by its locale. Exact: figures stay text.

A locale gives the signs (Babel); digits are grouped here, since no number type that a library formats is wide enough.
"""

from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import get_decimal_symbol, get_group_symbol, get_minus_sign_symbol

from treasury.reports.model import Cell
from treasury.reports.periods import Length, Period
from treasury.reports.render.words import Language, word

_GROUP = 3

_PERIODS = {
    Length.DAY: {Language.EN: "d MMMM y", Language.ZH: "y年M月d日"},
    Length.MONTH: {Language.EN: "MMMM y", Language.ZH: "y年M月"},
    Length.QUARTER: {Language.EN: "QQQQ y", Language.ZH: "y年QQQQ"},
    Length.YEAR: {Language.EN: "y", Language.ZH: "y年"},
}


def plain(text: str | None, cell: Cell, language: Language) -> str:
    """A cell for machines that people read as well: words are in the language, all else is as it is."""
    if text is None:
        return ""
    return word(text, language) if cell is Cell.WORD else text


def shown(text: str | None, cell: Cell, language: Language, zone: tzinfo) -> str:
    """A cell for people: figures grouped, instants in the report's time zone."""
    if not text:
        return ""
    match cell:
        case Cell.WORD:
            return word(text, language)
        case Cell.AMOUNT | Cell.WHOLE:
            return figure(text, language)
        case Cell.INSTANT:
            return instant(datetime.fromisoformat(text), language, zone)
        case Cell.TEXT:
            return text


def figure(text: str, language: Language) -> str:
    """An exact decimal with the locale's signs: `-1,234.50`. A fraction `1/3` stays what it is."""
    if "/" in text:
        return text
    minus, point, comma = _signs(language)
    sign, digits = (minus, text[1:]) if text.startswith("-") else ("", text)
    whole, dot, decimals = digits.partition(".")
    first = len(whole) % _GROUP or _GROUP
    groups = [whole[:first], *(whole[at : at + _GROUP] for at in range(first, len(whole), _GROUP))]
    return sign + comma.join(groups) + (point + decimals if dot else "")


def instant(at: datetime, language: Language, zone: tzinfo) -> str:
    """An instant in a time zone, to the second: `2026-10-05 14:30:00`."""
    return format_datetime(at, "yyyy-MM-dd HH:mm:ss", tzinfo=zone, locale=_locale(language))


def period_name(period: Period, language: Language) -> str:
    """A period as people call it: `October 2026`, `2026年10月`."""
    return format_date(period.first_day, _PERIODS[period.length][language], locale=_locale(language))


def zone_of(period: Period) -> tzinfo:
    """The time zone that a period is told in."""
    return UTC if period.zone == "UTC" else ZoneInfo(period.zone)


@lru_cache
def _locale(language: Language) -> Locale:
    return Locale.parse(language.value)


@lru_cache
def _signs(language: Language) -> tuple[str, str, str]:
    locale = _locale(language)
    return get_minus_sign_symbol(locale), get_decimal_symbol(locale), get_group_symbol(locale)
