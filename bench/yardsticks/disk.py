"""Yardstick disk: how often a second this folder's disk makes a written page durable. No commit can be more often."""

import os
import tempfile
import time
from pathlib import Path

_PAGE = b"\0" * 8192


def fsyncs_per_s(folder: Path, seconds: float) -> float:
    """Pages of 8 KiB appended and flushed one by one, a second."""
    with tempfile.NamedTemporaryFile(dir=folder) as stream:
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            stream.write(_PAGE)
            stream.flush()
            os.fdatasync(stream.fileno())
            count += 1
    return count / elapsed
