"""What `onebook import entries` does: a file of entries is checked, booked, and its refusals are told."""

import json as jsonlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from base.errors import ConfigError
from base.files import drafted
from base.progress import Progress
from cli.output import Exit, say
from ledger.import_run import Checked, Importer, Inquiry, Tally, check_file, facts_text
from ledger.importing import TOLD, ByHand, Entry, Parser, check_header
from ledger.money import Asset
from ledger.outcomes import Refusal
from ledger.rowfiles import FileFormat, RowFile, RowWriter, shown
from treasury.by_hand import ADJUSTABLE, WAITING
from wiring.parts import Parts, open_parts
from wiring.settings import Settings

REFUSALS_SHOWN = 10

STDIN = "-"

BY_HAND = ByHand(purposes=ADJUSTABLE, waiting=WAITING)
"""What an import may book unless it's another book's: the same that the treasurer may move."""


@dataclass(slots=True, kw_only=True)
class _Refused:
    """The refusals told at the end; all of them go into the file of rejects."""

    assets: Mapping[str, Asset]
    write: Callable[[Entry, str, str], None] | None = None
    first: list[dict[str, object]] = field(default_factory=list)

    def __call__(self, entry: Entry, refusal: Refusal) -> None:
        facts = facts_text(refusal, self.assets)
        if len(self.first) < REFUSALS_SHOWN:
            line = entry.rows[0].line
            self.first.append({"line": line, "id": entry.id, "code": refusal.code.value, "facts": facts})
        if self.write is not None:
            self.write(entry, refusal.code.value, jsonlib.dumps(facts, ensure_ascii=False))


class Run:
    """One import of a file of entries, and what is told of it."""

    def __init__(
        self,
        file: str,
        form: FileFormat,
        *,
        opens: bool,
        only_checks: bool,
        checks: bool,
        by_hand: ByHand | None,
        rejects: Path | None,
    ) -> None:
        self.name = "standard input" if file == STDIN else file
        self._file = file
        self._form = form
        self._opens = opens
        self._only_checks = only_checks
        self._checks = checks
        self._by_hand = by_hand
        self._rejects = rejects
        self._checked: Checked | None = None
        self._tally: Tally | None = None
        self._refused = _Refused(assets={})
        self._seconds = 0

    async def take(self, settings: Settings) -> None:
        """Check the file and book it, as far as that was asked for.

        Raises BadFile, ConfigError, Unavailable (also while the database must be recovered first).
        """
        with _opened(self._file) as stream:
            if self._checks and not self._only_checks and not stream.seekable():
                raise ConfigError(f"{self.name} can be read only once: import a file, or add --no-check")
            start = stream.tell() if stream.seekable() else 0
            async with open_parts(settings, name="onebook import") as parts:
                if not self._only_checks:
                    await parts.gate.require()
                self._refused.assets = await parts.ledger.assets()
                with Progress() as progress:
                    if self._checks:
                        await self._check(parts, stream, progress)
                        if self._only_checks or not self._is_sound:
                            return
                        stream.seek(start)
                    await self._import(parts, stream, progress)

    async def _check(self, parts: Parts, stream: BinaryIO, progress: Progress) -> None:
        size = _size(stream)
        with progress.bar(f"checking {self.name}, {'rows' if size is None else 'KiB'}", size) as advance:
            done = 0

            def told(rows: int) -> None:
                nonlocal done
                now = done + rows if size is None else min(size, stream.tell() // 1024)
                advance(now - done)
                done = now

            rows, parser = self._parsing(parts, stream)
            with self._inquiry(parts) as inquiry:
                self._checked = await check_file(inquiry, parser.bundles(rows), parser, told=told)

    async def _import(self, parts: Parts, stream: BinaryIO, progress: Progress) -> None:
        total = None if self._checked is None else self._checked.rows
        rows, parser = self._parsing(parts, stream)
        began = time.monotonic()
        with ExitStack() as stack:
            if self._rejects is not None:
                draft = stack.enter_context(_drafted(self._rejects))
                self._refused.write = _rejects_writer(draft, self._form, rows.columns)
            advance = stack.enter_context(progress.bar(f"importing {self.name}, rows", total))
            inquiry = None if self._checks else stack.enter_context(self._inquiry(parts))
            importer = Importer(parts.ledger, opens=self._opens, refused=self._refused, told=advance, inquiry=inquiry)
            self._tally = importer.tally
            await importer.run(parser.bundles(rows))
        self._seconds = max(1, round(time.monotonic() - began))

    def _inquiry(self, parts: Parts) -> Inquiry:
        return Inquiry(parts.engine, parts.settings.book, opens=self._opens)

    def _parsing(self, parts: Parts, stream: BinaryIO) -> tuple[RowFile, Parser]:
        rows = RowFile(stream, self._form, check_header=check_header)
        return rows, Parser(self._refused.assets, now=parts.clock.now(), by_hand=self._by_hand)

    # What is told

    @property
    def _is_sound(self) -> bool:
        return self._checked is None or self._checked.is_sound

    def exit_code(self) -> Exit:
        tally = self._tally
        if not self._is_sound:
            return Exit.USAGE
        if tally is not None and tally.fault is not None:
            return Exit.DISAGREES if tally.line else Exit.USAGE
        return Exit.DISAGREES if tally is not None and (tally.refused or tally.repeated) else Exit.OK

    def so_far(self) -> str:
        """What was written, and how to go on."""
        tally = self._tally
        if tally is None:
            return "nothing was written"
        if not tally.line:
            return "nothing is known to be written; run the same command again to go on: no entry is booked twice"
        return (
            f"{tally.booked + tally.known:,} entries are booked, through line {tally.line:,} at least;"
            " run the same command again to go on: no entry is booked twice"
        )

    def document(self) -> dict[str, object]:
        checked, tally = self._checked, self._tally
        faults = [] if checked is None else checked.first_faults
        stopped = tally.fault if tally is not None else None
        return {
            "file": self.name,
            "rows": checked.rows if checked is not None else (tally.rows if tally is not None else 0),
            "booked": tally.booked if tally is not None else 0,
            "known": tally.known if tally is not None else 0,
            "refused": tally.refused if tally is not None else 0,
            "faults": 0 if checked is None else checked.faults,
            "first_faults": [asdict(fault) for fault in faults],
            "first_refusals": self._refused.first,
            "repeated": tally.repeated if tally is not None else 0,
            "stopped": None if stopped is None else asdict(stopped),
        }

    def tell(self) -> None:
        if not self._is_sound:
            self._tell_faults()
        elif self._tally is None:
            assert self._checked is not None
            say(f"{self.name}: {_counted(self._checked)}, and nothing is wrong with them; nothing was written")
        else:
            self._tell_tally(self._tally)

    def _tell_faults(self) -> None:
        checked = self._checked
        assert checked is not None
        for fault in checked.first_faults:
            say(str(fault))
        more = checked.faults - len(checked.first_faults)
        if more:
            say(f"... and {more:,} more")
        say(f"{self.name}: {checked.faults:,} of {checked.rows:,} rows are wrong; nothing was written")

    def _tell_tally(self, tally: Tally) -> None:
        for refused in self._refused.first:
            facts = refused["facts"]
            assert isinstance(facts, dict)
            said = ", ".join(f"{name} {fact}" for name, fact in facts.items())
            name = shown(str(refused["id"]))
            say(f"line {refused['line']:,}, {name}: {refused['code']}" + (f" ({said})" if said else ""))
        if tally.refused > len(self._refused.first):
            say(f"... and {tally.refused - len(self._refused.first):,} more")
        say(
            f"{self.name}: {tally.booked:,} entries booked, {tally.known:,} known already, {tally.refused:,} refused;"
            f" {tally.rows:,} rows in {self._seconds:,} s"
        )
        if tally.refused:
            kept = f"the rows are in {self._rejects}" if self._rejects else "--rejects FILE keeps the rows"
            say(f"{kept}; import it again to try once more, with a new id for what is changed")
        for fault in tally.first_repeated:
            say(f"{fault}; only the first is booked")
        if tally.repeated > len(tally.first_repeated):
            say(f"... and {tally.repeated - len(tally.first_repeated):,} more")
        if tally.fault is not None:
            say(f"stopped at {tally.fault}; {self.so_far()}")


def _counted(checked: Checked) -> str:
    return f"{checked.rows:,} rows, {checked.entries:,} entries"


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from error
    with stream:
        yield stream


@contextmanager
def _drafted(path: Path) -> Iterator[BinaryIO]:
    try:
        with drafted(path) as draft:
            yield draft
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}") from error


def _size(stream: BinaryIO) -> int | None:
    """KiB of what is read; None where the end isn't known."""
    if not stream.seekable():
        return None
    start = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(start)
    return max(1, end // 1024)


def _rejects_writer(draft: BinaryIO, form: FileFormat, columns: tuple[str, ...]) -> Callable[[Entry, str, str], None]:
    """Writes an entry's rows as they stood in their file, with the code and the facts of its refusal."""
    kept = tuple(column for column in columns if column not in TOLD)
    writer = RowWriter(form, (*kept, *TOLD), texts=set(kept) - {"amount"})
    draft.write(writer.header())

    def write(entry: Entry, code: str, facts: str) -> None:
        for row in entry.rows:
            if form is FileFormat.CSV:
                cells = [row.cells.get(column) for column in kept]
                draft.write(writer.rows([(*cells, code, facts)]))
            else:
                told = {**row.cells, "code": code, "facts": jsonlib.loads(facts)}
                draft.write((jsonlib.dumps(told, ensure_ascii=False) + "\n").encode())

    return write
