"""The catalogue of problems: for each error code its HTTP status, and in words why it happens and what to do.

A page at `/problems/<code>` shows each row. Who turns errors into answers is `api.problems`.
"""

from collections.abc import Mapping

from api.problem import Problem
from api.problem_rows import asking, bank, book, breaks, chain, operations, providers

_ROWS = (
    *asking.ROWS,
    *chain.ROWS,
    *book.ROWS,
    *bank.ROWS,
    *breaks.ROWS,
    *providers.ROWS,
    *operations.ROWS,
)

CATALOGUE: Mapping[str, Problem] = {row.code: row for row in _ROWS}
"""Every row by its code."""
