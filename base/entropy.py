"""Randomness is handed in. Nothing in Onebook draws random bytes except through an `Entropy`."""

import os
import random
from typing import Protocol


class Entropy(Protocol):
    """A source of random bytes."""

    def draw(self, count: int) -> bytes:
        """`count` random bytes."""
        ...


class SystemEntropy:
    """The operating system's cryptographic generator."""

    def draw(self, count: int) -> bytes:
        return os.urandom(count)


class SeededEntropy:
    """Repeatable bytes from a seed: for tests that must be replayed, never for keys."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def draw(self, count: int) -> bytes:
        return self._random.randbytes(count)
