"""`onebook report`: the house's figures for a period, or a user's statement, as a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from base.errors import ConfigError
from base.files import drafted
from base.progress import Progress
from cli.output import Exit, fail, say, show_json
from treasury.reports.model import ReportKind, instant_cell
from treasury.reports.render.rendering import Form, file_name, render
from treasury.reports.render.words import Language
from treasury.reports.service import Asked
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings


def report(
    kind: Annotated[ReportKind, typer.Argument(help="Which report.")],
    period: Annotated[str, typer.Option("--period", help="2026-10-05, 2026-10, 2026-Q4 or 2026.")],
    form: Annotated[Form, typer.Option("--format", help="What it's written as.")] = Form.PDF,
    language: Annotated[Language, typer.Option("--lang", help="The language of its words.")] = Language.EN,
    user: Annotated[str | None, typer.Option("--user", help="Whose statement: a user's id.")] = None,
    known_at: Annotated[
        str | None, typer.Option("--known-at", help="As it would have been told at this instant (RFC 3339).")
    ] = None,
    closed_only: Annotated[bool, typer.Option("--closed-only", help="Refuse a period that isn't closed.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="The file; else one named for what is in it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as one JSON document.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="The configuration; else ONEBOOK_CONFIG, else ./onebook.toml.")
    ] = None,
) -> None:
    """Write a report of a period: balance sheet, income, movements, costs, ageing, a user's statement.

    Of a closed period it's the same to the last byte whenever it's written; of an open one it says that it's
    provisional. What is in each: docs/reports.md.

    Example: onebook report balance-sheet --period 2026-10 --format pdf --lang zh --out october.pdf
    """
    asked = Asked(kind=kind, period=period, known=_instant(known_at), closed_only=closed_only, user=user)
    settings = with_database(load_settings(find_config(config)))
    try:
        written = asyncio.run(_write(settings, asked, form, language, out))
    except OSError as error:
        raise ConfigError(f"{out or 'the file'} can't be written: {error.strerror}") from error
    if json:
        show_json(written)
        return
    state = "provisional: the period isn't closed" if written["provisional"] else "final"
    say(f"{written['out']}: {kind.value} of {period}, {state}; digest sha256:{written['digest']}")


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.utcoffset() is None:
        fail(f"--known-at: {text!r} is no instant; write 2026-11-23T02:45:22Z", Exit.USAGE)
    return at


async def _write(
    settings: Settings, asked: Asked, form: Form, language: Language, out: Path | None
) -> dict[str, object]:
    from wiring.parts import open_parts
    from wiring.reporting import build_reports

    async with open_parts(settings, name="onebook report") as parts:
        with _progress() as told:
            async with build_reports(parts).report(asked, told=told) as made:
                place = out or Path(file_name(made, form, language))
                with drafted(place) as stream:
                    render(made, form, language, stream, told=lambda rows: told("writing rows", rows, None))
                return {
                    "kind": made.kind.value,
                    "period": made.period.name,
                    "out": str(place),
                    "provisional": made.provisional,
                    "known_at": instant_cell(made.known_at),
                    "known_seq": made.known_seq,
                    "digest": made.digest,
                }


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int | None], object]]:
    """A bar for each thing that takes long, one after the other."""
    with Progress() as progress, ExitStack() as stack:
        bars: dict[str, Callable[[int], None]] = {}

        def told(what: str, step: int, total: int | None) -> None:
            if what not in bars:
                bars[what] = stack.enter_context(progress.bar(what, total))
            bars[what](step)

        yield told
