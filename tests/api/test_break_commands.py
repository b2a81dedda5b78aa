"""`onebook breaks` and `onebook reconcile` as their own processes, against the API over TCP and the database."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.api_client import KEY_VARIABLE
from cli.commands.book import _exit
from cli.output import Exit
from tests.api.conftest import Caller, Stage
from tests.api.test_breaks import broken, second_treasurer
from tests.support.command import onebook
from tests.support.postgres import Database
from treasury.records import JudgedNetwork, Reconciliation

CONFIG = """
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2

[[bank_accounts]]
name = "main"
iban = "DE89370400440532013000"
asset = "EUR"
"""

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLEAN = Reconciliation("rec_1", NOW, NOW, checks=1, open_breaks=0, breaks=(), networks=(), in_flight=())
JUDGED, SKIPPED = JudgedNetwork("local", 5, "0x5"), JudgedNetwork("local", None, None, skipped="halted")

ENDS = [
    # open  explained  network   code
    (0,     0,         JUDGED,   Exit.OK),
    (2,     2,         JUDGED,   Exit.OK),
    (2,     1,         JUDGED,   Exit.DISAGREES),
    (0,     0,         SKIPPED,  Exit.UNAVAILABLE),
    (1,     1,         SKIPPED,  Exit.UNAVAILABLE),
    (1,     0,         SKIPPED,  Exit.DISAGREES),
]  # fmt: skip


@pytest.mark.parametrize(("breaks", "explained", "network", "code"), ENDS)
def test_reconcile_ends_with_what_is_unexplained_and_then_with_what_was_not_judged(breaks, explained, network, code):
    run = replace(CLEAN, open_breaks=breaks, explained=explained, networks=(network,))
    assert _exit(run) is code


@pytest.mark.slow
async def test_treasurers_resolve_a_break_at_the_command_line(
    stage: Stage, clock, address: str, database: Database, tmp_path: Path
):
    id = await broken(stage, clock)
    second = await second_treasurer(stage)
    (tmp_path / "onebook.toml").write_text(CONFIG)

    async def run(*told: str, who: Caller = stage.treasurer, api: bool = True):
        assert who.secret is not None
        environment = {KEY_VARIABLE: who.secret, "ONEBOOK_DATABASE_URL": database.app_url}
        told = (*told, "--api", address) if api else told
        return await asyncio.to_thread(onebook, *told, cwd=tmp_path, environment=environment)

    unexplained = await run("reconcile", api=False)
    assert (unexplained.returncode, "manual_change" in unexplained.stdout) == (1, True), unexplained.stderr
    listed = await run("breaks", "list", "--kind", "bank_differs", "--json")
    assert [one["id"] for one in json.loads(listed.stdout)["items"]] == [id], listed.stderr
    assert "None." in (await run("breaks", "list", "--state", "accepted")).stdout
    assert id in (await run("breaks", "own", id)).stdout
    assert "asked the bank" in (await run("breaks", "note", id, "asked the bank")).stdout

    until = (clock.now() + timedelta(days=30)).isoformat()
    both = await run("breaks", "propose", id, "--against", "fees", "--until", until, "--reason", "r")
    assert (both.returncode, "either" in both.stderr) == (2, True)
    proposed = json.loads((await run("breaks", "propose", id, "--until", until, "--reason", "soon", "--json")).stdout)
    mine = await run("breaks", "confirm", proposed["id"])
    assert (mine.returncode, "somebody else" in mine.stderr) == (1, True)
    confirmed = await run("breaks", "confirm", proposed["id"], who=second)
    assert (confirmed.returncode, "confirmed" in confirmed.stdout) == (0, True), confirmed.stderr

    shown = await run("breaks", "show", id)
    for words in ("accepted", "soon", "perhaps manual_change (likely)", "asked the bank", "looks after it"):
        assert words in shown.stdout, words
    entry = await run("breaks", "propose", id, "--against", "suspense", "--amount", "5.00", "--reason", "interest")
    assert (entry.returncode, "onebook breaks confirm brs_" in entry.stdout) == (0, True), entry.stderr
    withdrawn = await run("breaks", "withdraw", entry.stdout.partition(":")[0], who=second)
    assert (withdrawn.returncode, "withdrawn" in withdrawn.stdout) == (0, True), withdrawn.stderr
    gone = await run("breaks", "show", "brk_nowhere")
    assert (gone.returncode, "brk_nowhere" in gone.stderr) == (1, True)
