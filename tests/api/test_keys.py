"""Keys over HTTP: none, wrong, expired, revoked, without the scope, too often."""

from datetime import timedelta

import pytest

from base.clock import ManualClock
from base.entropy import SeededEntropy
from identity.keys import make_secret
from tests.api.conftest import Caller, Stage

pytestmark = pytest.mark.slow


async def test_without_a_key_the_answer_says_how_to_send_one(stage: Stage):
    answer = await stage.nobody.get("/v1/balances")
    assert (answer.status_code, answer.json()["code"]) == (401, "no_key")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="onebook"'


@pytest.mark.parametrize("sent", ["Basic YTpi", "Bearer", "Bearer ", "ob_live_x"])
async def test_another_way_to_send_a_key_is_refused(stage: Stage, sent):
    answer = await stage.nobody.get("/v1/balances", headers={"Authorization": sent})
    assert (answer.status_code, answer.json()["code"]) == (401, "no_key")


async def test_wrong_keys_are_refused(stage: Stage):
    assert stage.alice.secret is not None
    mistyped = stage.alice.secret[:-1] + ("a" if stage.alice.secret[-1] != "a" else "b")
    for secret in (mistyped, make_secret(SeededEntropy(5)), make_secret(SeededEntropy(5), "ob_test"), "x" * 5000):
        answer = await Caller(stage.api, secret).get("/v1/balances")
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong_key")
        assert "invalid_token" in answer.headers["WWW-Authenticate"]


async def test_expired_and_revoked_keys_say_which(stage: Stage, clock: ManualClock):
    until = (clock.now() + timedelta(minutes=1)).isoformat()
    body = {"label": "short", "scopes": ["user"], "user": "alice", "expires_at": until}
    short = Caller(stage.api, (await stage.operator.post("/v1/api-keys", body)).json()["secret"])
    assert (await short.get("/v1/balances")).status_code == 200
    clock.advance(timedelta(minutes=1))
    answer = await short.get("/v1/balances")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_expired")

    own = (await stage.alice.get("/v1/me")).json()["key"]["id"]
    assert (await stage.operator.post(f"/v1/api-keys/{own}/revoke")).json()["revoked_at"]
    answer = await stage.alice.get("/v1/balances")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_revoked")


DENIED = [
    # who          method   path                          needed
    ("operator",   "GET",   "/v1/balances",               "wallet:read"),
    ("treasurer",  "POST",  "/v1/transfers",              "transfers:write"),
    ("alice",      "GET",   "/v1/users",                  "users:read"),
    ("alice",      "POST",  "/v1/users",                  "users:write"),
    ("alice",      "GET",   "/v1/api-keys",               "keys:read"),
    ("alice",      "POST",  "/v1/api-keys",               "keys:write"),
    ("alice",      "GET",   "/v1/treasury/trial-balance", "treasury:read"),
]  # fmt: skip


async def test_key_without_the_scope_is_told_which_it_needs(stage: Stage):
    for who, method, path, needed in DENIED:
        caller: Caller = getattr(stage, who)
        answer = await (caller.get(path) if method == "GET" else caller.post(path, {}))
        assert (answer.status_code, answer.json()["code"], answer.json()["needed"]) == (403, "wrong_scope", needed), (
            path
        )


async def test_a_key_may_have_only_some_of_a_users_scopes(stage: Stage):
    body = {"label": "reader", "scopes": ["wallet:read"], "user": "@alice"}
    reader = Caller(stage.api, (await stage.operator.post("/v1/api-keys", body)).json()["secret"])
    assert (await reader.get("/v1/balances")).status_code == 200
    answer = await reader.post("/v1/transfers", {"recipient": "@bob", "asset": "USDC", "amount": "1.00"})
    assert answer.json()["needed"] == "transfers:write"


async def test_rate_is_limited_per_key_and_told_in_advance(stage: Stage, clock: ManualClock):
    body = {"label": "slow", "scopes": ["user"], "user": "alice", "rate_per_minute": 3}
    slow = Caller(stage.api, (await stage.operator.post("/v1/api-keys", body)).json()["secret"])
    left = []
    for _ in range(3):
        answer = await slow.get("/v1/balances")
        assert answer.headers["RateLimit-Policy"] == '"key";q=3;w=60'
        left.append(answer.headers["RateLimit"].split(";")[1])
    assert left == ["r=2", "r=1", "r=0"]
    answer = await slow.get("/v1/balances")
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_exceeded")
    assert answer.headers["Retry-After"] == "60"
    assert (await stage.alice.get("/v1/balances")).status_code == 200
    clock.advance(timedelta(seconds=59))
    assert (await slow.get("/v1/balances")).headers["Retry-After"] == "1"
    clock.advance(timedelta(seconds=1))
    assert (await slow.get("/v1/balances")).status_code == 200


async def test_secret_is_in_the_first_answer_and_in_no_other(stage: Stage):
    made = (await stage.operator.post("/v1/api-keys", {"label": "app", "scopes": ["user"], "user": "bob"})).json()
    assert made["secret"].endswith(made["hint"])
    for path in ("/v1/api-keys", "/v1/api-keys?user=bob"):
        assert made["secret"] not in (await stage.operator.get(path)).text


async def test_operator_makes_users_once(stage: Stage):
    made = await stage.operator.post("/v1/users", {"handle": "Carol", "name": "Carol C."})
    assert (made.status_code, made.json()["handle"]) == (201, "carol")
    again = await stage.operator.post("/v1/users", {"handle": "CAROL"})
    assert (again.status_code, again.json()["code"], again.json()["param"]) == (409, "handle_taken", "handle")
    assert (await stage.operator.get("/v1/users/@carol")).json() == made.json()
    assert (await stage.operator.get("/v1/users/dave")).status_code == 404


async def test_me_shows_the_user_and_the_key(stage: Stage):
    me = (await stage.alice.get("/v1/me")).json()
    assert (me["user"]["handle"], me["key"]["user"]) == ("alice", stage.alice.user)
    assert (await stage.operator.get("/v1/me")).json()["user"] is None
