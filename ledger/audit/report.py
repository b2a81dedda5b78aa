"""What an audit says: how much it looked at, and the rows that aren't what the journal says they must be. Pure."""

from dataclasses import dataclass, field

FINDINGS_MAX = 100
"""Disagreements that a report carries at most; the first ones tell where to look."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A row that isn't what the journal says: which, what, the figure it should have, and the one that it has."""

    where: str
    what: str
    expected: str
    found: str


@dataclass(slots=True)
class AuditReport:
    """What an audit looked at, and what it found wrong (at most `FINDINGS_MAX`).

    `after_seq` is 0 for a full audit, else the last command of the last seal, where it began. `erased` commands have
    had their metadata erased: their leaves still prove them. `sealed_seq` is the last command under a seal.
    """

    book: str
    commands: int = 0
    lines: int = 0
    accounts: int = 0
    through_seq: int = 0
    after_seq: int = 0
    holds: int = 0
    erased: int = 0
    seals: int = 0
    sealed_seq: int = 0
    outside_seals: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.disagreements


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a finding stands among others: what causes first, then the journal in its order, then what follows."""

    rank: int
    seq: int = 0
    line: int = -1


NAMES, JOURNAL, STATES, SEALS = range(4)
"""Ranks: a wrong account's name makes many leaves look wrong, so it comes first."""


def at(seq: bytes, line: bytes = b"-1") -> Place:
    """Where a row of the journal stands, by its fields."""
    return Place(JOURNAL, int(seq), int(line))


def said(field: bytes) -> str:
    """A field as a report shows it, whatever its bytes are."""
    return field.decode("utf-8", "replace")


class Findings:
    """Disagreements as they are found, at most `FINDINGS_MAX`; those that would come first are kept."""

    def __init__(self) -> None:
        self._found: list[tuple[Place, Disagreement]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: Place, where: str, what: str, *, expected: object, found: object) -> None:
        """Note a disagreement."""
        self._found.append((place, Disagreement(where, what, _shown(expected), _shown(found))))
        if len(self._found) >= 2 * FINDINGS_MAX:
            self._trim()

    def expect(self, place: Place, where: str, what: str, *, expected: object, found: object) -> None:
        """Note a disagreement unless both are equal."""
        if expected != found:
            self.add(place, where, what, expected=expected, found=found)

    def absorb(self, others: "Findings") -> None:
        self._found.extend(others._found)
        self._trim()

    def sorted(self) -> list[Disagreement]:
        self._trim()
        return [disagreement for _, disagreement in self._found]

    def _trim(self) -> None:
        self._found.sort(key=lambda item: item[0])
        del self._found[FINDINGS_MAX:]


def _shown(value: object) -> str:
    return said(value) if isinstance(value, bytes) else str(value)
