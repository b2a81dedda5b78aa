"""`onebook webhooks` as its own process, against the API over TCP and the database itself."""

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from base.clock import ManualClock
from cli.api_client import KEY_VARIABLE
from db.engine import tx
from tests.api.conftest import Stage, settings_for
from tests.support.command import onebook
from tests.support.postgres import Database

pytestmark = pytest.mark.slow

SECRET = "a-commands-tests-sandbox"
ORDER = {"rail": "sandbox", "asset": "EUR", "amount": "100.00", "method": "tok_disputed"}
CONFIG = f"""
environment = "test"

[[assets]]
code = "EUR"
kind = "fiat"
scale = 2

[rails.sandbox]
webhook_secret = "{SECRET}"
"""


@pytest.fixture
def settings(tmp_path):
    return settings_for(tmp_path, environment="test", rails={"sandbox": {"webhook_secret": SECRET}})


async def test_a_dead_letter_is_listed_shown_with_its_body_and_retried(
    stage: Stage, address: str, clock: ManualClock, database: Database, tmp_path
):
    (tmp_path / "onebook.toml").write_text(CONFIG)

    async def run(*arguments: str):
        secret = stage.treasurer.secret
        assert secret is not None
        environment = {KEY_VARIABLE: secret, "ONEBOOK_DATABASE_URL": database.app_url}
        told = ("webhooks", *arguments)
        return await asyncio.to_thread(onebook, *told, cwd=tmp_path, environment=environment)

    bodies, dead = await _dead_letter(stage, clock, database)
    listed = await run("list", "--api", address, "--json")
    assert [item["id"] for item in json.loads(listed.stdout)["items"]] == [dead]
    assert len(json.loads((await run("list", "--all", "--api", address, "--json")).stdout)["items"]) == len(bodies)

    shown = await run("show", dead, "--api", address, "--json")
    told = json.loads(shown.stdout)
    assert (told["id"], told["object_kind"], told["state"]) == (dead, "dispute", "dead")
    assert not [key for key in told if "body" in key]
    body = await run("show", dead, "--body")
    assert body.returncode == 0, body.stderr
    assert body.stdout.rstrip("\n").encode() in bodies
    assert told["object"] in body.stdout

    retried = await run("retry", dead, "--api", address)
    assert (retried.returncode, retried.stdout.startswith(f"{dead}: waiting")) == (0, True)
    assert (await stage.treasurer.get(f"/v1/treasury/webhooks/{dead}")).json()["state"] == "waiting"
    assert "None." in (await run("list", "--api", address)).stdout

    none = await run("retry", "whk_nowhere", "--api", address)
    assert (none.returncode, "whk_nowhere" in none.stderr) == (1, True)
    clock.advance(timedelta(days=31))
    assert await stage.services.rails.inbox.drop_bodies() == len(bodies)
    gone = await run("show", dead, "--body")
    assert (gone.returncode, gone.stdout, "isn't kept" in gone.stderr) == (1, "", True)


async def _dead_letter(stage: Stage, clock: ManualClock, database: Database) -> tuple[list[bytes], str]:
    """The bodies of all webhooks that came, and the id of the one without effect: nobody here knows its payment."""
    rails = stage.services.rails
    assert rails.delivery is not None
    assert (await stage.alice.post("/v1/top-ups", ORDER)).status_code == 201
    async with rails.delivery._record.session() as session:
        events = await session.unsent(limit=100)
        await session.sent(events)
    sandbox = rails.rails.get("sandbox")
    signed = {event.id: sandbox.sign(event.body) for event in events}  # type: ignore[attr-defined]
    for event in sorted(events, key=lambda event: event.object_kind == "dispute"):
        if event.object_kind == "dispute":
            await rails.effects.step()
            async with tx(database.engine()) as connection:
                await connection.execute(text("UPDATE fiat_top_ups SET source = 'other', capture_source = NULL"))
        assert await rails.inbox.receive("sandbox", signed[event.id])
    for _ in range(12):
        await rails.effects.step()
        clock.advance(timedelta(hours=2))
    (dead,) = (await stage.treasurer.get("/v1/treasury/webhooks", state="dead")).json()["items"]
    return [one.body for one in signed.values()], dead["id"]
