"""The audit of a book: recompute outside the database all that its rows claim, and name those that disagree.

`run` reads one snapshot by COPY and spreads ranges of the journal over processes (`crew`, `worker`); `ranges` checks a
range by itself, `whole` puts ranges together, `states`, `seals` and `since` compare them with what is stored. From
nothing but the commands and their lines it rebuilds leaves, the gapless seq, balances after every line, the four
counters, flags and credit lines of every account, holds, limits, links, projections, and the seals' roots.
"""

from typing import TYPE_CHECKING, Any

from ledger.audit.report import AuditReport, Disagreement

if TYPE_CHECKING:
    from ledger.audit.run import audit

__all__ = ["AuditReport", "Disagreement", "audit"]


def __getattr__(name: str) -> Any:
    """`audit` when it's first asked for: a worker starts in half the time without what only its parent needs."""
    if name != "audit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ledger.audit.run import audit

    return audit
