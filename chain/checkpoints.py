"""Names for the instants between durable steps, so that a test can kill the process at each of them. Pure."""

from typing import Protocol


class Checkpoint(Protocol):
    """Is told when a step is done and the next isn't begun."""

    def reached(self, name: str) -> None:
        """`name` was reached: `reserved`, `signing.before`, `signing.after`, `stored`, `sending.before`, ..."""
        ...


class NoCheckpoint:
    """Goes on."""

    def reached(self, name: str) -> None:
        """Nothing happens."""
