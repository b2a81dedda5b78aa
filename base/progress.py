"""Progress of long work, on standard error: bars on a terminal, else a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

_PLAIN_STEPS = 10
"""Lines that a loading takes where there is no terminal."""

_PLAIN_STRIDE = 100_000
"""Steps to a line where the end isn't known."""


class Progress:
    """Says on standard error how far it is: bars on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = (
            RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TaskProgressColumn(),
                _SpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> "Progress":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def note(self, text: str) -> None:
        """One line: what was just measured."""
        self._console.print(text, markup=False)

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar to `total` (None: nobody knows it); the function given moves it on by so many."""
        bars = self._bars
        if bars is None:
            yield self._lines(what, total)
            return
        task = bars.add_task(what, total=total)
        try:
            yield lambda step: bars.advance(task, step)
        finally:
            bars.remove_task(task)

    def _lines(self, what: str, total: int | None) -> Callable[[int], None]:
        done, started = 0, time.monotonic()

        def advance(step: int) -> None:
            nonlocal done
            before, done = done, done + step
            if before != done and _nth_line(before, total) != _nth_line(done, total):
                seconds = max(time.monotonic() - started, 1e-6)
                end = "" if total is None else f" of {total:,}"
                left = "" if total is None else f", {_clock(seconds * max(0, total - done) / done)} left"
                self.note(f"{what}: {done:,}{end}, {done / seconds:,.0f}/s{left}")

        return advance


class _SpeedColumn(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


def _nth_line(done: int, total: int | None) -> int:
    """Which line of plain progress `done` steps belong to."""
    return done // _PLAIN_STRIDE if total is None else done * _PLAIN_STEPS // max(1, total)


def _clock(seconds: float) -> str:
    """Seconds as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
