"""What a drill writes down: each thing that was looked at, how it is and why, and how long that took."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from base.errors import OnebookError

NAMED_MAX = 10
"""Of several faults of one kind so many are named; how many more there are is said."""


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Nobody could look; why is said."""


class Failed(Exception):
    """Something isn't as it must be; says what."""


class Skipped(Exception):
    """This can't be looked at here; says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the sheet."""

    what: str
    verdict: Verdict
    text: str
    seconds: float


@dataclass(slots=True)
class Sheet:
    """The lines so far. Whatever goes wrong in a check is its line; the others are still done."""

    checks: list[Check] = field(default_factory=list)
    told: Callable[[Check], object] = lambda _: None

    def look(self, what: str, work: Callable[[], str]) -> bool:
        """Do it, and write down what it says; whether it's fine."""
        started = time.monotonic()
        try:
            verdict, text = Verdict.OK, work()
        except Exception as problem:
            verdict, text = _said(problem)
        return self._add(what, verdict, text, started)

    async def ask(self, what: str, work: Awaitable[str]) -> bool:
        """The same of what has to be waited for."""
        started = time.monotonic()
        try:
            verdict, text = Verdict.OK, await work
        except Exception as problem:
            verdict, text = _said(problem)
        return self._add(what, verdict, text, started)

    def skip(self, what: str, why: str) -> None:
        """Nobody could look."""
        self._add(what, Verdict.SKIPPED, why, time.monotonic())

    def fail(self, what: str, why: str) -> None:
        """This isn't as it must be, as somebody found out already."""
        self._add(what, Verdict.FAILED, why, time.monotonic())

    def seconds_of(self, *whats: str) -> float:
        """How long these took together."""
        return sum(check.seconds for check in self.checks if check.what in whats)

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if check.verdict is Verdict.FAILED]

    def _add(self, what: str, verdict: Verdict, text: str, started: float) -> bool:
        check = Check(what, verdict, text, round(time.monotonic() - started, 3))
        self.checks.append(check)
        self.told(check)
        return verdict is Verdict.OK


def require_none(faults: Sequence[object]) -> None:
    """Raise Failed with the first of them, if there are any."""
    if faults:
        more = f"; and {len(faults) - NAMED_MAX} more" if len(faults) > NAMED_MAX else ""
        raise Failed("; ".join(map(str, faults[:NAMED_MAX])) + more)


def _said(problem: Exception) -> tuple[Verdict, str]:
    match problem:
        case Skipped():
            return Verdict.SKIPPED, str(problem)
        case Failed():
            return Verdict.FAILED, str(problem)
        case OnebookError():
            return Verdict.FAILED, problem.message
        case _:
            return Verdict.FAILED, f"{type(problem).__name__}: {problem}"
