"""`onebook export`: the book, or a part of it, as CSV or JSON Lines."""

import asyncio
import gzip
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from base.errors import ConfigError
from base.files import drafted
from base.progress import Progress
from cli.output import Exit, fail, say
from ledger.errors import InvalidCommand
from ledger.exporting import Export, Selection, check_selection
from ledger.exporting import export as export_book
from ledger.rowfiles import FileFormat
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

STDOUT = Path("-")

_INTERRUPTED, _BROKEN_PIPE = 128 + 2, 128 + 13
"""Exit codes of what ended by Ctrl-C, and of what wrote to somebody who stopped reading."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def export(
    what: Annotated[Export, typer.Argument(help="What to write.")],
    form: Annotated[FileFormat | None, typer.Option("--format", help="Else by the file's name, else csv.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Only what touches this owner's accounts.")] = None,
    account: Annotated[str | None, typer.Option("--account", help="Only what touches this account.")] = None,
    asset: Annotated[str | None, typer.Option("--asset", help="Only what is of this asset.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Booked at or after this instant, or UTC day.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Booked before this instant, or UTC day.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="Balances as they stood at this instant, or day.")] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Where to write it, gzipped if the name ends with .gz; - is standard output.")
    ] = STDOUT,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
    ] = None,
) -> None:
    """Write the book, or a part of it, as it is at one instant. The same book gives the same bytes.

    Entries are in the form that `onebook import entries` takes; docs/import-export.md.

    Example: onebook export entries --since 2026-01-01 --out 2026.csv.gz
    """
    selection = Selection(
        owner=owner,
        account=account,
        asset=asset,
        since=_instant("--since", since),
        until=_instant("--until", until),
        at=_instant("--at", at),
    )
    settings = with_database(load_settings(find_config(config)))
    try:
        check_selection(what, selection)
        rows = asyncio.run(_export(settings, what, selection, form or _format(out), out))
    except InvalidCommand as error:
        fail(error.message, Exit.USAGE)
    except KeyboardInterrupt:
        left = "what was written isn't whole" if out == STDOUT else f"nothing is in {out} that wasn't there before"
        sys.stderr.write(f"onebook: interrupted; {left}\n")
        raise typer.Exit(_INTERRUPTED) from None
    if out != STDOUT:
        say(f"{out}: {rows:,} {'row' if rows == 1 else 'rows'}")


def _format(out: Path) -> FileFormat:
    name = out.name.lower().removesuffix(".gz")
    return FileFormat.JSONL if name.endswith((".jsonl", ".ndjson")) else FileFormat.CSV


def _instant(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ConfigError(f"{option}: {text!r} is no instant; write 2026-11-23 or 2026-11-23T02:45:22Z")


async def _export(settings: Settings, what: Export, selection: Selection, form: FileFormat, out: Path) -> int:
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook export") as parts:
        with _written(out) as write, Progress() as progress, ExitStack() as bars:
            shows = out != STDOUT or not sys.stdout.isatty()
            told = _telling(progress, bars, f"exporting {what}") if shows else lambda done, total: None
            return await export_book(parts.engine, parts.settings.book, what, selection, form, write=write, told=told)


def _telling(progress: Progress, bars: ExitStack, what: str) -> Callable[[int, int], None]:
    """Moves a bar that begins once its end is known."""
    advance: Callable[[int], None] | None = None
    before = 0

    def told(done: int, total: int) -> None:
        nonlocal advance, before
        if advance is None:
            advance = bars.enter_context(progress.bar(what, total))
        advance(done - before)
        before = done

    return told


class _Unwritable(Exception):
    """A file or a pipe takes no more. No OSError, which inside a tx would be taken for the database's."""


@contextmanager
def _written(out: Path) -> Iterator[Callable[[bytes], None]]:
    """Writes bytes: all of them or none, unless it's standard output or no file that could be replaced."""
    try:
        with ExitStack() as stack:
            stream = _stream(out, stack)

            def write(part: bytes) -> None:
                try:
                    stream.write(part)
                except OSError as error:
                    raise _Unwritable from error

            yield write
            stream.flush()
    except (OSError, _Unwritable) as failure:
        error = failure.__cause__ if isinstance(failure, _Unwritable) else failure
        assert isinstance(error, OSError)
        if out == STDOUT:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that it doesn't fail again at the end
            if isinstance(error, BrokenPipeError):
                raise typer.Exit(_BROKEN_PIPE) from None
        raise ConfigError(f"{_name(out)} can't be written: {error.strerror}") from error


def _name(out: Path) -> str:
    """Where the bytes go, for people."""
    return "standard output" if out == STDOUT else str(out)


def _stream(out: Path, stack: ExitStack) -> BinaryIO:
    if out == STDOUT:
        return sys.stdout.buffer
    stream = stack.enter_context(drafted(out))
    if not out.name.lower().endswith(".gz"):
        return stream
    # Neither name nor time in it: the same book, the same bytes.
    return cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=stream, mode="wb", filename="", mtime=0)))
