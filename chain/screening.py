"""Screening: who says that an address is listed, so that its money reaches no user and none is paid to it by itself.

Two are here and in `chain.evm.sanctions`: a file of addresses, and a contract on the network. Whoever can't tell says
so, and what depends on it waits. What becomes of a listed sender's deposit is the wallet's.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from chain.errors import InvalidAddress, InvalidScreeningList, ScreeningUnavailable
from chain.evm.addresses import parse_address

COMMENT = "#"
"""What follows it in a line is for people; behind an address it's the reason that the treasurer is shown."""

FAULTS_TOLD = 20
"""Faults of one file that are named at once."""


class Screening(Protocol):
    """Knows listed addresses of one network."""

    async def objections(self, addresses: Collection[str], *, block: str) -> dict[str, str]:
        """Of these addresses (lower-case hex) the listed ones, each with who lists it and why.

        `block` is the hash of the block as of which it is asked. Raises Unavailable when it can't be told.
        """
        ...


class AllOf:
    """Objects where any of `screenings` does, and can tell only when all can."""

    def __init__(self, screenings: Sequence[Screening]) -> None:
        self._screenings = tuple(screenings)

    async def objections(self, addresses: Collection[str], *, block: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for screening in self._screenings:
            for address, why in (await screening.objections(addresses, block=block)).items():
                found[address] = f"{found[address]}; {why}" if address in found else why
        return found


class ScreeningList:
    """A file with one address per line, read again when it has changed.

    While it's missing or has a fault nothing can be told: an old list isn't used instead.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._listed: dict[str, str] = {}

    async def objections(self, addresses: Collection[str], *, block: str) -> dict[str, str]:
        """As in `Screening`; the list is the same for every network and block. Raises ScreeningUnavailable."""
        try:
            listed = self.load()
        except InvalidScreeningList as error:
            raise ScreeningUnavailable(error.message) from error
        return {address: listed[address] for address in addresses if address in listed}

    def load(self) -> dict[str, str]:
        """The listed addresses, each with its place in the file and its comment. Raises InvalidScreeningList."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino, status.st_size)
            if version != self._seen:
                self._listed = parse_list(self._path.read_text(encoding="utf-8"), source=str(self._path))
                self._seen = version
        except (OSError, UnicodeDecodeError) as error:
            self._seen = None
            why = error.strerror if isinstance(error, OSError) else "it isn't UTF-8 text"
            raise InvalidScreeningList(
                f"the screening list {self._path} can't be read: {why}. Put it back, or take screening_list out of"
                " onebook.toml"
            ) from error
        except InvalidScreeningList:
            self._seen = None
            raise
        return self._listed


def parse_list(text: str, *, source: str) -> dict[str, str]:
    """The addresses of a list's text (lower-case hex), each with `source:line` and its comment, if it has one.

    Mixed case must carry the right checksum (EIP-55). Raises InvalidScreeningList, which names the line of each fault.
    """
    listed: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        entry, _, comment = (part.strip() for part in line.partition(COMMENT))
        if not entry:
            continue
        try:
            address = parse_address(entry)
        except InvalidAddress as error:
            faults.append(f"{source}:{number}: {entry[:60]!r}: {error.message}")
            continue
        if address in lines:
            faults.append(f"{source}:{number}: {entry} stands in line {lines[address]} already")
            continue
        lines[address] = number
        listed[address] = f"{source}:{number}" + (f" ({comment})" if comment else "")
    if faults:
        more = f"; and {len(faults) - FAULTS_TOLD} more" if len(faults) > FAULTS_TOLD else ""
        raise InvalidScreeningList("; ".join(faults[:FAULTS_TOLD]) + more)
    return listed
