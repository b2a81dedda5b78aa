"""Answers remembered by idempotency key. What a repeat or a clash is answered is the provider's own rule."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from railsim.calls import Answer, Call
from railsim.clock import Timeline


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first answer to a key, and a fingerprint of what was asked."""

    fingerprint: str
    answer: Answer
    at: datetime


@dataclass(slots=True)
class Keys:
    """A provider's idempotency keys, each kept for `lifetime`."""

    timeline: Timeline
    lifetime: timedelta
    _known: dict[str, Remembered] = field(default_factory=dict)

    def find(self, key: str) -> Remembered | None:
        found = self._known.get(key)
        if found is not None and self.timeline.now() - found.at >= self.lifetime:
            del self._known[key]
            return None
        return found

    def keep(self, key: str, call: Call, answer: Answer) -> None:
        self.keep_as(key, fingerprint(call), answer)

    def keep_as(self, key: str, asked: str, answer: Answer) -> None:
        """Keep an answer with a fingerprint that the provider made itself."""
        self._known[key] = Remembered(asked, answer.copied(), self.timeline.now())


def fingerprint(call: Call) -> str:
    """What makes two requests the same one: method, path and body."""
    return hashlib.sha256(b"\0".join((call.method.encode(), call.target.encode(), call.raw))).hexdigest()
