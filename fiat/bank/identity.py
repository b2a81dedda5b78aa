"""What makes two statement lines the same line, so that overlapping files book it once. Pure.

The bank's own reference doesn't suffice: banks leave it out, start it anew each year, and share one between a payment
and its fee. So a line is what the bank said of it; equal lines within one statement are told apart by counting them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator

from fiat.bank.lines import StatementLine

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
"""Characters of an id after its prefix, five bits each."""


def with_ids(account: str, lines: Iterable[StatementLine]) -> Iterator[tuple[str, StatementLine]]:
    """Each line with its id (`lin_...`), the same in every file that holds it. `account` is our bank account's name."""
    seen: Counter[bytes] = Counter()
    for line in lines:
        told = json.dumps([account, *_terms(line)], ensure_ascii=False)
        short = hashlib.blake2b(
            told.encode(), digest_size=16
        ).digest()  # of a hundred thousand lines nothing else is kept
        seen[short] += 1
        yield named("lin", told, str(seen[short])), line


def named(prefix: str, *terms: str) -> str:
    """An id that only depends on `terms`."""
    digest = hashlib.sha256(json.dumps(terms).encode()).digest()
    return f"{prefix}_{''.join(_ALPHABET[byte & 31] for byte in digest[:_LENGTH])}"


def _terms(line: StatementLine) -> list[str]:
    common = [line.booked_on.isoformat(), line.direction.value, str(line.amount)]
    if line.bank_reference:
        return ["bank", line.bank_reference, *common]
    return ["text", *common, line.value_on.isoformat(), line.counterparty_account, line.end_to_end_id, *line.texts]
