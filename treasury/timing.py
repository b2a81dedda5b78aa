"""When reconciliation looks, how long what it found is kept, and how old a break may get. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from treasury.break_alerts import AGED_AFTER
from treasury.records import BreakReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """`every`: the shortest time between two runs of the worker; `at_least_every`: the longest, though nothing came
    that calls for one. `rails_every`: the shortest time between two questions to payment providers. `unbooked_after`:
    how long a final movement may stay unbooked before that is a break.

    All runs in which nothing changed are kept for `runs_all`, then each hour's first, for `runs_kept`; all judged
    samples for `samples_all`, then each hour's last, for `samples_kept`: so long positions can say what nodes told.
    `critical_after`: how long each kind of break may stand, unexplained, before it's critical.
    """

    every: timedelta = timedelta(seconds=10)
    at_least_every: timedelta = timedelta(minutes=1)
    rails_every: timedelta = timedelta(minutes=1)
    unbooked_after: timedelta = timedelta(minutes=10)
    runs_all: timedelta = timedelta(hours=1)
    runs_kept: timedelta = timedelta(days=90)
    samples_all: timedelta = timedelta(days=2)
    samples_kept: timedelta = timedelta(days=400)
    critical_after: Mapping[BreakReason, timedelta] = field(default_factory=lambda: AGED_AFTER)


USUAL = Timing()
"""Where nobody says otherwise."""
