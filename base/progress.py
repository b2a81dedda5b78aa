"""Progress of long work, on standard error: bars on a terminal, else a line now and then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_PLAIN_STEPS = 10
"""Lines that a loading takes where there is no terminal."""


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
    def bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar to `total`; the function given moves it on by so many."""
        bars = self._bars
        if bars is None:
            yield self._lines(what, total)
            return
        task = bars.add_task(what, total=total)
        try:
            yield lambda step: bars.advance(task, step)
        finally:
            bars.remove_task(task)

    def _lines(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def advance(step: int) -> None:
            nonlocal done
            before, done = done, done + step
            if before * _PLAIN_STEPS // max(1, total) != done * _PLAIN_STEPS // max(1, total):
                self.note(f"{what}: {done:,} of {total:,}")

        return advance
