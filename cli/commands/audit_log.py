"""`onebook audit-log`: what people did to treasury and operation, from the database itself."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Config
from cli.output import Exit, say, show_json, show_table
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from treasury.operations.acts import Act
    from treasury.operations.audit_log import LogDifference


def audit_log(
    subject: Annotated[str | None, typer.Option("--subject", help="What it was done to: an id.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="A key's or a user's id.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Such as adjustment.create.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Rows at most, the newest.")] = 100,
    check: Annotated[
        bool, typer.Option("--check", help="Compare all rows with what the book's records sealed instead.")
    ] = False,
    config: Config = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List what people did: who, when, on what, why, and what came of it. It's read from the database.

    With --check, exit code 1 if a row was altered, deleted or put there behind its back; `onebook audit` does the same,
    and looks after the records besides.

    Example: onebook audit-log --subject adj_01jd3v --json
    """
    settings = with_database(load_settings(find_config(config)))
    if check:
        _show_differences(asyncio.run(_differences(settings)), json=json)
        return
    rows = asyncio.run(_rows(settings, subject=subject, actor=actor, action=action, limit=limit))
    if json:
        show_json([asdict(row) for row in rows])
        return
    columns = ("at", "who", "action", "subject", "outcome", "reason", "id")
    cells = [
        (
            row.at.isoformat(timespec="seconds"),
            row.actor.user or row.actor.key,
            row.action,
            row.subject or "",
            row.outcome + (f" ({row.detail})" if row.detail else ""),
            " ".join(filter(None, (row.reason_code, row.reason))),
            row.id,
        )
        for row in rows
    ]
    show_table("Audit log", columns, cells)


def _show_differences(found: "list[LogDifference]", *, json: bool) -> None:
    if json:
        show_json({"audit_log_differs": [asdict(one) for one in found]})
    else:
        for one in found:
            say(f"audit_log_differs: row {one.row} is {one.what}")
        say(f"{len(found)} {'row differs' if len(found) == 1 else 'rows differ'}")
    if found:
        raise typer.Exit(Exit.DISAGREES)


async def _rows(
    settings: Settings, *, subject: str | None, actor: str | None, action: str | None, limit: int
) -> "list[Act]":
    from wiring.operations import build_audit_log
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook audit-log") as parts:
        return await build_audit_log(parts).recent(subject=subject, actor=actor, action=action, limit=limit)


async def _differences(settings: Settings) -> "list[LogDifference]":
    from wiring.operations import build_audit_log
    from wiring.parts import open_parts

    async with open_parts(settings, name="onebook audit-log") as parts:
        return await build_audit_log(parts).differences()
