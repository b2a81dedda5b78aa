"""`onebook freeze`, `period`, `audit-log` and their kin as their own processes, over TCP and on the database itself."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from base.clock import ManualClock
from cli.api_client import KEY_VARIABLE
from db.engine import tx
from tests.api.conftest import ROUTES, Stage
from tests.support.command import onebook
from tests.support.postgres import Database

CONFIG = """
[[assets]]
code = "EUR"
kind = "fiat"
scale = 2
"""
ACTS_ON_NOTHING = {"/v1/treasury/reconciliations"}
"""What a person asks of the house there changes nothing."""
HOUSE = {"treasury:write", "users:write", "keys:write"}


def test_every_act_of_the_house_is_noted():
    unnoted = {
        route.path
        for route in ROUTES
        if HOUSE & {scope for part in route.dependant.dependencies for scope in part.own_oauth_scopes or ()}
        and not any(part.name == "acts" for part in route.dependant.dependencies)
    }
    assert unnoted == ACTS_ON_NOTHING


@pytest.mark.slow
async def test_what_people_do_beside_the_book_is_noted_with_whom_and_on_what(stage: Stage):
    made = (await stage.operator.post("/v1/api-keys", {"label": "reader", "scopes": ["treasury:read"]})).json()
    await stage.operator.post(f"/v1/api-keys/{made['id']}/revoke")
    await stage.operator.post("/v1/users", {"handle": "Alice"})
    user = (await stage.operator.post("/v1/users", {"handle": "dora"})).json()["id"]
    log = (await stage.treasurer.get("/v1/treasury/audit-log")).json()["items"]
    assert made["secret"] not in json.dumps(log)
    assert "dora" not in json.dumps(log)
    told = {(one["action"], one["outcome"], one["subject"], one["detail"]) for one in log}
    assert told >= {
        ("api_key.create", "begun", None, None),
        ("api_key.create", "done", made["id"], None),
        ("api_key.revoke", "done", made["id"], None),
        ("user.create", "refused", None, "handle_taken"),
        ("user.create", "done", user, None),
    }
    own = (await stage.operator.get("/v1/me")).json()["key"]["id"]
    assert {one["actor"]["key"] for one in log if one["subject"] in (made["id"], user)} == {own}
    assert all(one["request_id"].startswith("req_") for one in log)


@pytest.mark.slow
async def test_the_commands_freeze_close_list_and_find_what_was_tampered_with(
    stage: Stage, address: str, clock: ManualClock, database: Database, tmp_path: Path
):
    (tmp_path / "onebook.toml").write_text(CONFIG)

    async def run(*arguments: str, asks: bool = True, secret: str | None = stage.treasurer.secret) -> Any:
        environment = {KEY_VARIABLE: str(secret), "ONEBOOK_DATABASE_URL": database.app_url}
        told = (*arguments, "--api", address) if asks else arguments
        return await asyncio.to_thread(onebook, *told, cwd=tmp_path, environment=environment)

    why = ("--code", "incident", "--reason", "node lies")
    frozen = await run("freeze", "network", "local", *why, "--json")
    assert frozen.returncode == 0, frozen.stderr
    freeze = json.loads(frozen.stdout)["id"]
    listed = json.loads((await run("freezes", "--json")).stdout)
    assert ([one["id"] for one in listed["items"]], listed["signer"]) == ([freeze], None)
    assert "lifted" in (await run("unfreeze", freeze, "--reason", "it told the truth")).stdout
    wrong = await run("freeze", "network", "mars", *why)
    assert (wrong.returncode, "mars" in wrong.stderr) == (1, True)

    clock.advance(timedelta(days=40))
    assert (await run("period", "check", "2026-01")).returncode == 1
    refused = await run("period", "close", "2026-01", "--reason", "reported")
    assert (refused.returncode, "not_reconciled" in refused.stderr) == (1, True)
    forced = await run("period", "close", "2026-01", "--reason", "reported", "--force")
    assert "in spite of not_reconciled" in forced.stdout
    (waiting,) = json.loads((await run("proposals", "list", "--json")).stdout)["items"]
    assert f"onebook proposals confirm {waiting['id']}" in forced.stdout
    own = await run("proposals", "confirm", waiting["id"])
    assert (own.returncode, "who proposed it can't confirm it" in own.stderr) == (1, True)
    assert "2026-01" not in (await run("period", "list")).stdout
    other = await stage.another_treasurer()
    confirmed = await run("proposals", "confirm", waiting["id"], secret=other.secret)
    assert "close all before 2026-02-01T00:00:00Z in spite of not_reconciled, is confirmed: per_" in confirmed.stdout
    assert "2026-01" in (await run("period", "list")).stdout
    unwanted = await run("period", "close", "2026-02-01", "--reason", "reported", "--force", "--json")
    assert "is withdrawn" in (await run("proposals", "withdraw", json.loads(unwanted.stdout)["id"])).stdout
    assert "None." in (await run("approvals", "list")).stdout

    rows = json.loads((await run("audit-log", "--action", "freeze.set", "--json", asks=False)).stdout)
    assert {(row["subject"], row["outcome"]) for row in rows} == {("mars", "refused"), (freeze, "done")}
    assert (await run("audit-log", "--check", asks=False)).returncode == 0
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text("DELETE FROM treasury_audit_log WHERE id = :row"), {"row": rows[0]["id"]})
    for command in (("audit-log", "--check"), ("audit",)):
        found = await run(*command, asks=False)
        assert (found.returncode, f"row {rows[0]['id']} is missing" in found.stdout) == (1, True), found.stderr
