"""The clocks of the signer's machine. The shipped signer takes no time from a file, a flag or a socket."""

import time
from functools import cache
from pathlib import Path
from typing import Protocol

from custody.timekeeping import Reading

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clocks(Protocol):
    """Tells what the clocks say."""

    def read(self) -> Reading:
        """Wall clock, boot clock and which boot this is."""
        ...


class SystemClocks:
    """The kernel's wall clock and boot clock (which goes on while the machine sleeps)."""

    def read(self) -> Reading:
        wall, boot = time.time_ns() // 1000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        return Reading(wall, boot, _boot_id())


@cache
def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
