"""The signer's own measure of time, from clocks that others may have set. Pure.

Expiries are judged by the wall clock, never behind the last row of the journal. Windows refill by a measure that runs
no faster than the wall clock and the boot clock, whichever is slower; after a reboot, when the boot clock says nothing
about the time between, by one hour at most and by no more than was measured before it, until approvers confirm the
time: so that a clock set forward and reboots, one after the other, refill nothing. When the clocks disagree, or the
wall clock is behind the journal, nothing is signed.
"""

from dataclasses import dataclass
from typing import Final

DRIFT_US: Final = 60 * 1_000_000
"""How far wall and boot clock may drift apart within one boot."""

REBOOT_US: Final = 60 * 60 * 1_000_000
"""The most that windows refill over a reboot that nobody has confirmed."""

_BEHIND_US: Final = 1_000_000
"""How far a wall clock may be behind the last row: it's set by network time in small steps."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks say: microseconds since 1970, since the machine's boot, and which boot that was."""

    wall_us: int
    boot_us: int
    boot: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as the journal keeps it. `at_us` is the wall clock's, `window_us` the measure that windows go by.

    `offset_us` is wall minus boot clock when this boot was first seen (or its time confirmed), `withheld_us` what a
    reboot took from the windows' measure and approvers can still give back, `measured_us` what the boot clock has told
    since the last reboot (at most an hour counts).
    """

    at_us: int
    window_us: int
    boot_us: int
    boot: str
    offset_us: int
    withheld_us: int = 0
    measured_us: int = REBOOT_US


@dataclass(frozen=True, slots=True)
class Unsafe:
    """Why the clocks can't be trusted, as a stable code and a sentence that says what to do."""

    code: str
    sentence: str


def begin(reading: Reading) -> Moment:
    """The first moment of a journal."""
    offset = reading.wall_us - reading.boot_us
    return Moment(reading.wall_us, reading.wall_us, reading.boot_us, reading.boot, offset)


def advance(last: Moment, reading: Reading) -> Moment | Unsafe:
    """The moment after `last` that `reading` tells, or why it tells none."""
    passed = reading.wall_us - last.at_us
    if passed < -_BEHIND_US:
        return Unsafe(
            "clock_behind",
            f"the clock is {-passed // 1_000_000} s behind the journal: set it right, or have approvers confirm the"
            " time (onebook signer confirm-time)",
        )
    at_us = max(reading.wall_us, last.at_us)
    if reading.boot != last.boot:
        return _rebooted(last, reading, at_us)
    if abs(reading.wall_us - reading.boot_us - last.offset_us) > DRIFT_US:
        return Unsafe(
            "clock_drifts",
            "wall clock and boot clock have drifted apart by more than 60 s: somebody set the clock; set it right, or"
            " have approvers confirm the time (onebook signer confirm-time)",
        )
    step = max(0, min(passed, reading.boot_us - last.boot_us))
    return Moment(
        at_us=at_us,
        window_us=last.window_us + step,
        boot_us=reading.boot_us,
        boot=last.boot,
        offset_us=last.offset_us,
        withheld_us=last.withheld_us,
        measured_us=min(REBOOT_US, last.measured_us + step),
    )


def confirm(last: Moment, reading: Reading) -> Moment:
    """Approvers say that the wall clock is right: what a reboot withheld is given back, and drift begins anew.

    This alone may bring the journal's time back, when a clock that ran ahead had taken it along.
    """
    step = max(0, reading.wall_us - last.at_us)
    if reading.boot == last.boot:
        step = max(0, min(step, reading.boot_us - last.boot_us))
    return Moment(
        at_us=reading.wall_us,
        window_us=last.window_us + step + last.withheld_us,
        boot_us=reading.boot_us,
        boot=reading.boot,
        offset_us=reading.wall_us - reading.boot_us,
    )


def _rebooted(last: Moment, reading: Reading, at_us: int) -> Moment:
    passed = at_us - last.at_us
    granted = min(passed, last.measured_us)
    return Moment(
        at_us=at_us,
        window_us=last.window_us + granted,
        boot_us=reading.boot_us,
        boot=reading.boot,
        offset_us=reading.wall_us - reading.boot_us,
        withheld_us=last.withheld_us + passed - granted,
        measured_us=0,
    )
