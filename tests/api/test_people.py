"""Four eyes count people, not keys: what several keys of one person may do, and what one of another's may."""

from pathlib import Path
from typing import Any

import pytest

from cli.staff_check import doubtful_keys
from tests.api.conftest import Caller, Stage, settings_for
from wiring.settings import Settings

pytestmark = pytest.mark.slow

ADJUSTMENTS, PROPOSALS, KEYS = "/v1/treasury/adjustments", "/v1/treasury/proposals", "/v1/api-keys"
MOVE = {"asset": "USDC", "amount": "60.00", "debit": "suspense", "credit": "capital", "reason": "found its owner: us"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, treasury={"manual": [{"asset": "USDC", "per_day": "80.00"}]})


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund_account("house/suspense/USDC", "1000.00")
    return stage


async def _proposed(who: Caller) -> str:
    made = await who.post(PROPOSALS, MOVE)
    assert made.status_code == 201, made.text
    return f"{PROPOSALS}/{made.json()['id']}/confirm"


async def test_two_keys_of_one_person_are_one_person(funded: Stage):
    first, second = await funded.another_treasurer("ada"), await funded.another_treasurer("ada")
    other = await funded.another_treasurer("ben")
    confirm = await _proposed(first)
    refused = await second.post(confirm)
    assert (refused.status_code, refused.json()["code"]) == (403, "same_person")
    done = (await other.post(confirm)).json()
    assert (done["made_by"], done["closed_by"]) == ("ada", "ben")
    (made,) = (await other.get(ADJUSTMENTS)).json()["items"]
    assert made["made_by"] == "ada"


async def test_two_keys_of_one_person_share_a_day(funded: Stage):
    first, second = await funded.another_treasurer("ada"), await funded.another_treasurer("ada")
    assert (await first.post(ADJUSTMENTS, MOVE)).status_code == 201
    spent = (await second.post(ADJUSTMENTS, MOVE)).json()
    assert (spent["code"], spent["used"]) == ("second_person_needed", "60.00")
    assert (await (await funded.another_treasurer("ben")).post(ADJUSTMENTS, MOVE)).status_code == 201


async def test_a_key_of_nobody_counts_as_a_person_of_its_own(funded: Stage):
    named, unnamed = await funded.another_treasurer("ada"), await funded.another_treasurer()
    assert (await unnamed.post(await _proposed(named))).status_code == 200
    assert (await named.post(await _proposed(unnamed))).status_code == 200


async def test_a_revoked_key_leaves_its_proposals_to_others_than_its_person(funded: Stage):
    made = await funded.operator.post(KEYS, {"label": "old", "scopes": ["treasury"], "person": "ada"})
    confirm = await _proposed(Caller(funded.api, made.json()["secret"]))
    await funded.operator.post(f"{KEYS}/{made.json()['id']}/revoke")
    renewed = await funded.another_treasurer("ada")
    assert (await renewed.post(confirm)).json()["code"] == "same_person"


async def test_a_break_is_resolved_by_two_people(funded: Stage):
    """Of the house's bank no statement has come: a difference that two may take as a matter of time."""
    await funded.fund_account("house/bank:main/EUR", "5.00")
    first, second = await funded.another_treasurer("ada"), await funded.another_treasurer("ada")
    assert (await first.post("/v1/treasury/reconciliations")).status_code == 201
    (found,) = (await first.get("/v1/treasury/breaks")).json()["items"]
    path = f"/v1/treasury/breaks/{found['id']}"
    assert (await first.post(f"{path}/owner", {"owner": "me"}, key=None)).json()["owner"] == "ada"
    asked = {"kind": "acceptance", "until": "2026-01-20T00:00:00Z", "reason": "the statement is late"}
    made = (await first.post(f"{path}/resolutions", asked, key=None)).json()
    confirm = f"/v1/treasury/resolutions/{made['id']}/confirm"
    assert (await second.post(confirm)).json()["code"] == "same_person"
    done = await (await funded.another_treasurer("ben")).post(confirm)
    assert (done.status_code, done.json()["proposed_by"], done.json()["decided_by"]) == (200, "ada", "ben")


async def test_a_break_is_given_to_a_person_or_to_whose_key_it_is(funded: Stage):
    await funded.fund_account("house/bank:main/EUR", "5.00")
    await funded.treasurer.post("/v1/treasury/reconciliations")
    (found,) = (await funded.treasurer.get("/v1/treasury/breaks")).json()["items"]
    path = f"/v1/treasury/breaks/{found['id']}/owner"
    made = await funded.operator.post(KEYS, {"label": "ada's", "scopes": ["treasury"], "person": "ada"})
    reader = await funded.operator.post(KEYS, {"label": "ben's", "scopes": ["treasury:read"], "person": "ben"})
    for owner, told in (("ada", "ada"), (made.json()["id"], "ada")):
        assert (await funded.treasurer.post(path, {"owner": owner}, key=None)).json()["owner"] == told
    for owner, code in (("ben", "unknown_key"), (reader.json()["id"], "owner_unfit")):
        assert (await funded.treasurer.post(path, {"owner": owner}, key=None)).json()["code"] == code


async def test_treasury_keys_with_which_one_could_be_two_are_named_until_they_are_revoked(funded: Stage):
    identity = funded.services.identity
    first = (await funded.treasurer.get("/v1/me")).json()["key"]["id"]
    operator = (await funded.operator.get("/v1/me")).json()["key"]["id"]  # may write for the treasury as well
    await funded.another_treasurer("ada")
    await funded.operator.post(KEYS, {"label": "reader", "scopes": ["treasury:read"]})
    both = {"label": "both", "scopes": ["treasury:write", "keys:write"], "person": "ben"}
    maker = (await funded.operator.post(KEYS, both)).json()["id"]
    nobodys, makers = [told async for told in doubtful_keys(identity)]
    assert keys_in(nobodys) == {first, operator}
    assert keys_in(makers) == {operator, maker}
    for key in (first, operator):
        await identity.revoke_key(key)
    assert [keys_in(told) async for told in doubtful_keys(identity)] == [{maker}]
    await identity.revoke_key(maker)
    assert [told async for told in doubtful_keys(identity)] == []


def keys_in(sentence: str) -> set[str]:
    return {word.strip(",") for word in sentence.split() if word.startswith("key_")}


WRONG: list[dict[str, Any]] = [
    {"person": "key_01jd3v"},
    {"person": "Ada"},
    {"person": "a"},
    {"person": "ada lovelace"},
    {"person": "ada", "user": "alice", "scopes": ["user"]},
]


async def test_only_keys_of_the_house_name_a_person_and_never_what_an_id_is_like(funded: Stage):
    for change in WRONG:
        refused = await funded.operator.post(KEYS, {"label": "k", "scopes": ["treasury"]} | change)
        assert (refused.status_code, refused.json()["code"], refused.json()["param"]) == (
            422, "invalid_key_request", "person",
        ), change  # fmt: skip
    made = await funded.operator.post(KEYS, {"label": "k", "scopes": ["treasury"], "person": "treasurer-2"})
    assert made.json()["person"] == "treasurer-2"
    shown = (await funded.operator.get(KEYS)).json()["items"]
    assert [one["person"] for one in shown if one["id"] == made.json()["id"]] == ["treasurer-2"]
