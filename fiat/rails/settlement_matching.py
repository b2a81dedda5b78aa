"""Which bank lines are certainly settlements' money, without a person: by amount and by what the bank wrote. Pure.

A line is certain when it's the only one of its amount whose text names the settlement (its id at the provider, or the
descriptor that the provider said the line would have), and the settlement is the only one that the line names. A
provider that uses one descriptor for all it pays is so believed only where the amount leaves no choice.
"""

import re
from collections import Counter
from collections.abc import Iterable

from fiat.bank.records import BankLine
from fiat.rails.records import Settlement

NAME_LENGTH_MIN = 5
"""Characters of an id or descriptor that tell something; shorter ones stand in too many texts by chance."""


def names(settlement: Settlement, line: BankLine) -> bool:
    """Whether the line's text has the settlement's id or descriptor in it, as whole words, in either case."""
    texts = (line.remittance, line.end_to_end_id, line.bank_reference, line.counterparty)
    told = (settlement.source, settlement.descriptor or "")
    return any(_stands_in(name, text) for name in told for text in texts)


def certain(pairs: Iterable[tuple[Settlement, BankLine]]) -> list[tuple[Settlement, BankLine]]:
    """Of all pairs of a settlement on its way and a line of its asset and amount, those of which there is no doubt."""
    named = [(settlement, line) for settlement, line in pairs if names(settlement, line)]
    by_settlement = Counter(settlement.id for settlement, _ in named)
    by_line = Counter(line.id for _, line in named)
    return [(settlement, line) for settlement, line in named if by_settlement[settlement.id] == 1 == by_line[line.id]]


def _stands_in(name: str, text: str) -> bool:
    words = name.casefold().split()
    if sum(map(len, words)) < NAME_LENGTH_MIN:
        return False
    pattern = r"(?<!\w)" + r"\s+".join(re.escape(word) for word in words) + r"(?!\w)"
    return re.search(pattern, text.casefold()) is not None
