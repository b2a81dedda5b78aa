"""Which of the house's accounts people may move value between by hand. Pure."""

ADJUSTABLE = frozenset(
    {
        "suspense",
        "quarantine",
        "capital",
        "fx",
        "fees",
        "fx-result",
        "rounding",
        "promotion",
        "network-fees",
        "rail-fees",
    }
)
"""Purposes of the house that may be moved between by hand."""

WAITING = frozenset({"suspense", "quarantine"})
"""Purposes that hold value of others until its owner is known: never more leaves them than is there."""
