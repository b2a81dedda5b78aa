"""Clocks that a test drives by hand: wall clock, boot clock, and which boot it is."""

from dataclasses import dataclass

from custody.timekeeping import Reading

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
START = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z, in microseconds."""


@dataclass(slots=True)
class ManualClocks:
    """Stands still until told to move."""

    wall_us: int = START
    boot_us: int = 5 * MINUTE
    boot: str = "boot-1"

    def read(self) -> Reading:
        return Reading(self.wall_us, self.boot_us, self.boot)

    def advance(self, step_us: int) -> None:
        """Time passes, and both clocks tell it."""
        self.wall_us += step_us
        self.boot_us += step_us

    def set_wall(self, wall_us: int) -> None:
        """Somebody sets the clock."""
        self.wall_us = wall_us

    def reboot(self, *, down_us: int = 0) -> None:
        """The machine is down for a while and comes up: only the wall clock has gone on."""
        self.wall_us += down_us
        self.boot_us = 0
        self.boot = f"boot-{int(self.boot.removeprefix('boot-')) + 1}"
