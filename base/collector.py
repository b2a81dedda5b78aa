"""The garbage collector of a process that stays."""

import gc

_GENERATION_THRESHOLD = 50_000
"""Objects made before the collector looks: most die with their request, without it."""


def calm_collector() -> None:
    """Collect now, and never walk again what was built at start: it lives as long as the process. Call it once."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GENERATION_THRESHOLD, 50, 50)
