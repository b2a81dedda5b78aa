"""One kind of problem: an error code, and what callers are told of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of failure. `why` explains it, `remedy` says what to do.

    `private`: what the error itself says is for the log; callers get `why`.
    """

    code: str
    status: int
    title: str
    why: str
    remedy: str
    private: bool = False
