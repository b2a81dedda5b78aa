"""How `onebook doctor --restore-drill` is begun and told: its options, its table, its JSON, its exit code."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import typer

from base.progress import Progress
from cli.asking import ask_passphrase
from cli.drill_sheet import Check
from cli.output import Exit, say, show_json, show_table
from cli.restore_drill import Drill, drill
from cli.whole_folders import end_in_order
from custody.passphrases import PASSPHRASE_ENV, told_passphrase
from wiring.running import with_database
from wiring.settings import Settings, find_config, load_settings


def run_drill(
    config: Path | None, backup: Path | None, *, open_keys: bool, passphrase_fd: int | None, json: bool
) -> None:
    """Do a drill, and show what it found. Ends with exit code 1 where something isn't as it must be."""
    end_in_order()
    passphrase = _passphrase(open_keys=open_keys, descriptor=passphrase_fd)

    def service() -> tuple[Settings, Path]:
        path = find_config(config)
        return with_database(load_settings(path)), path

    with Progress() as progress:
        done = drill(
            None if backup is None else backup.absolute(),
            service,
            passphrase=passphrase,
            progress=progress,
            told=lambda check: progress.note(f"{check.what}: {check.verdict.value}"),
        )
    if json:
        show_json(_document(done))
    else:
        _show(done)
    if not done.passed:
        raise typer.Exit(Exit.DISAGREES)


def _passphrase(*, open_keys: bool, descriptor: int | None) -> bytes | None:
    """As it's given, or asked for if `open_keys`; None: the keys stay closed."""
    if descriptor is None and open_keys and PASSPHRASE_ENV not in os.environ:
        return ask_passphrase(confirm=False)
    return told_passphrase(descriptor, _warn)


def _warn(text: str) -> None:
    sys.stderr.write(f"onebook: warning: {text}\n")


def _show(done: Drill) -> None:
    rows = [(check.what, check.verdict.value, f"{check.seconds:.1f} s", check.text) for check in done.checks]
    told = done.manifest
    title = "Restore drill" if told is None else f"Restore drill of book {told.book}, backup: {done.backup}"
    show_table(title, ("what", "", "took", "found"), rows, right=(2,))
    counts = {verdict: sum(check.verdict.value == verdict for check in done.checks) for verdict in ("ok", "failed")}
    say(f"{counts['ok']} checks ok, {counts['failed']} failed; {done.seconds:.1f} s in all")
    if done.passed:
        say(f"restored in {done.restored_seconds:.1f} s (RTO, without starting the service and `onebook recover`)")
    else:
        say("This backup would not bring the book back as it was: " + ", ".join(map(_name, _failed(done))))


def _failed(done: Drill) -> list[Check]:
    return [check for check in done.checks if check.verdict.value == "failed"]


def _name(check: Check) -> str:
    return check.what


def _document(done: Drill) -> dict[str, object]:
    told = done.manifest
    return {
        "passed": done.passed,
        "backup": done.backup,
        "made_at": None if told is None else told.made_at.isoformat(),
        "book": None if told is None else told.book,
        "seq": None if told is None else told.seq,
        "checks": [asdict(check) for check in done.checks],
        "restored_seconds": done.restored_seconds,
        "seconds": done.seconds,
    }
