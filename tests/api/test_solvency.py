"""Epochs over HTTP: a user's own proofs, what anybody may see, and what isn't there."""

import shutil

import pytest

from cli.solvency_check import check
from tests.api.conftest import Stage, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path):
    return settings_for(tmp_path, networks=[], deployments=[])


async def test_a_user_gets_the_file_that_anybody_can_check_offline(stage: Stage):
    await stage.fund(stage.alice, "12.50", "EUR")
    await stage.fund(stage.bob, "7.00", "EUR")
    assert (await stage.alice.get("/v1/solvency")).json()["code"] == "no_epoch"
    made = await stage.treasurer.post("/v1/treasury/solvency")
    assert (made.status_code, made.json()["number"], made.json()["coverage"][0]["owed"]) == (201, 1, "19.50")

    log = (await stage.treasurer.get("/v1/treasury/audit-log", action="epoch.make")).json()["items"]
    assert {(one["outcome"], one["subject"]) for one in log} == {("begun", None), ("done", "main/1")}

    file = await stage.alice.get("/v1/solvency")
    shown = await stage.nobody.get("/v1/solvency/epochs/1")
    assert shown.headers["Cache-Control"] == "public, max-age=60"
    digest = made.json()["digest"]
    found = check(file.content, user=stage.alice.user, epoch="1", root=digest, published=shown.content, trusted=())
    assert [(one.owner, one.amount, one.total) for one in found.proofs] == [(stage.alice.user, 1250, 1950)]
    assert file.json()["published_at"] == "http://onebook.test/v1/solvency/epochs/1"
    (summary,) = (await stage.nobody.get("/v1/solvency/epochs")).json()["items"]
    assert (summary["digest"], summary["seal"]) == (digest, None)
    assert str(stage.alice.user) not in shown.text


async def test_strangers_are_counted_and_keys_needed_for_all_but_what_is_public(stage: Stage):
    assert (await stage.nobody.get("/v1/solvency")).status_code == 401
    assert (await stage.alice.post("/v1/treasury/solvency")).status_code == 403
    answers = [(await stage.nobody.get("/v1/solvency/epochs")).status_code for _ in range(61)]
    assert (answers[0], answers[-1]) == (200, 429)


async def test_files_that_are_not_here_are_named(stage: Stage, tmp_path):
    await stage.fund(stage.alice, "12.50", "EUR")
    await stage.treasurer.post("/v1/treasury/solvency")
    shutil.move(tmp_path / "solvency", tmp_path / "elsewhere")
    answer = await stage.alice.get("/v1/solvency")
    assert (answer.status_code, answer.json()["code"]) == (503, "epoch_files_missing")
