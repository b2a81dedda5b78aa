"""How much was checked against the official files, said at the end of a test run."""

from collections import Counter
from typing import Any

TOTALS: Counter[str] = Counter()
_WORKERS = "rails_checked"


def hand_up(config: Any) -> None:
    """A worker of pytest-xdist tells the main process its counts."""
    if hasattr(config, "workeroutput"):
        config.workeroutput[_WORKERS] = dict(TOTALS)


def take_from(node: Any) -> None:
    TOTALS.update(getattr(node, "workeroutput", {}).get(_WORKERS, {}))


def summarise(reporter: Any) -> None:
    if TOTALS:
        said = ", ".join(f"{count} {name}" for name, count in sorted(TOTALS.items()))
        reporter.write_line(f"checked against the providers' official files: {said}")
