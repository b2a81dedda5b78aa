"""A request that moves money happens once, however often it is sent."""

import asyncio

import pytest

from tests.api.conftest import Stage

pytestmark = pytest.mark.slow

SEND = {"recipient": "@bob", "asset": "USDC", "amount": "10.00"}


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund(stage.alice, "100.00", "USDC")
    return stage


async def _has(caller, asset: str = "USDC") -> str:
    return str((await caller.get(f"/v1/balances/{asset}")).json()["balance"])


MONEY = ["/v1/transfers", "/v1/conversions", "/v1/withdrawals", "/v1/withdrawals/wdr_x/cancel"]


@pytest.mark.parametrize("path", MONEY)
async def test_requests_that_move_money_need_a_key(funded: Stage, path):
    answer = await funded.alice.post(path, {}, key=None)
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")


@pytest.mark.parametrize("key", ["x" * 256, "a\tb", "caf\u00e9"])
async def test_keys_that_could_be_misread_are_refused(funded: Stage, key):
    answer = await funded.alice.post(
        "/v1/transfers", SEND, key=None, headers={"Idempotency-Key": key.encode("latin-1")}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


async def test_f60_fifty_concurrent_requests_have_one_effect_and_equal_answers(funded: Stage):
    answers = await asyncio.gather(*(funded.alice.post("/v1/transfers", SEND, key="pay-1") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert (await _has(funded.alice), await _has(funded.bob)) == ("90.00", "10.00")


async def test_f60_fifty_concurrent_refusals_are_one_refusal(funded: Stage):
    body = SEND | {"amount": "500.00"}
    answers = await asyncio.gather(*(funded.alice.post("/v1/transfers", body, key="pay-1") for _ in range(50)))
    assert {answer.json()["code"] for answer in answers} == {"insufficient_funds"}
    assert {answer.json()["available"] for answer in answers} == {"100.00"}


async def test_repeat_is_marked_and_moves_nothing(funded: Stage):
    first = await funded.alice.post("/v1/transfers", SEND, key="pay-1")
    again = await funded.alice.post("/v1/transfers", dict(reversed(SEND.items())), key="pay-1")
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert await _has(funded.bob) == "10.00"


async def test_same_key_with_another_body_names_the_first(funded: Stage):
    first = await funded.alice.post("/v1/transfers", SEND, key="pay-1")
    for other in (SEND | {"amount": "10.0"}, SEND | {"memo": "x"}, SEND | {"recipient": "bob"}):
        answer = await funded.alice.post("/v1/transfers", other, key="pay-1")
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "idempotency_key_reused")
        assert problem["first"] == first.json()["id"]
    assert await _has(funded.bob) == "10.00"


async def test_refusal_is_remembered_until_another_key_is_used(funded: Stage):
    body = SEND | {"amount": "150.00"}
    assert (await funded.alice.post("/v1/transfers", body, key="big")).json()["code"] == "insufficient_funds"
    await funded.fund(funded.alice, "100.00", "USDC")
    again = await funded.alice.post("/v1/transfers", body, key="big")
    assert (again.json()["code"], again.json()["available"]) == ("insufficient_funds", "100.00")
    assert (await funded.alice.post("/v1/transfers", body, key="big-2")).status_code == 201


async def test_what_parsing_refused_does_not_use_the_key_up(funded: Stage):
    assert (await funded.alice.post("/v1/transfers", SEND | {"amount": 10}, key="pay-1")).status_code == 422
    assert (await funded.alice.post("/v1/transfers", SEND, key="pay-1")).status_code == 201


async def test_users_and_paths_have_their_own_keys(funded: Stage):
    await funded.fund(funded.bob, "5.00", "USDC")
    mine = await funded.alice.post("/v1/transfers", SEND, key="same")
    theirs = await funded.bob.post("/v1/transfers", SEND | {"recipient": "@alice", "amount": "5.00"}, key="same")
    paid = await funded.alice.post("/v1/withdrawals", {
        "asset": "USDC", "network": "local", "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "amount": "1.00",
    }, key="same")  # fmt: skip
    assert [answer.status_code for answer in (mine, theirs, paid)] == [201, 201, 201]


async def test_two_keys_of_one_user_share_their_idempotency_keys(funded: Stage):
    made = await funded.operator.post("/v1/api-keys", {"label": "second", "scopes": ["user"], "user": "alice"})
    first = await funded.alice.post("/v1/transfers", SEND, key="pay-1")
    funded.alice.secret = made.json()["secret"]
    again = await funded.alice.post("/v1/transfers", SEND, key="pay-1")
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


async def test_conversion_and_withdrawal_are_replayed_too(funded: Stage):
    await funded.fund_account("house/fx/EUR", "1000.00")
    quote = (await funded.alice.post("/v1/quotes", {"sell": "USDC", "buy": "EUR", "sell_amount": "10.00"})).json()
    pay = {
        "asset": "USDC",
        "network": "local",
        "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "1.00",
    }
    for path, body in (("/v1/conversions", {"quote": quote["id"]}), ("/v1/withdrawals", pay)):
        first, again = [await funded.alice.post(path, body, key="once") for _ in range(2)]
        assert (first.status_code, again.status_code) == (201, 201), first.text
        assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
