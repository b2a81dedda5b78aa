"""Many transfers in one request: an outcome each, once, however often it is sent and however it is cut short."""

import asyncio

import pytest

from tests.api.conftest import Stage

pytestmark = pytest.mark.slow

PATH = "/v1/transfers/bulk"


def item(amount="1.00", recipient="@bob", **more):
    return {"recipient": recipient, "asset": "USDC", "amount": amount} | more


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund(stage.alice, "100.00", "USDC")
    return stage


async def _has(caller) -> str:
    return str((await caller.get("/v1/balances/USDC")).json()["balance"])


async def test_each_transfer_is_made_or_refused_by_itself_in_order(funded: Stage):
    asked = {"transfers": [item("60.00", memo="rent"), item("50.00"), item("40.00")]}
    answer = await funded.alice.post(PATH, asked)
    shown = answer.json()
    assert (answer.status_code, shown["accepted"], shown["refused"]) == (200, 2, 1)
    first, second, third = shown["outcomes"]
    assert (first["transfer"]["amount"], first["transfer"]["memo"]) == ("60.00", "rent")
    problem = second["problem"]
    assert (problem["code"], problem["param"], problem["available"]) == ("insufficient_funds", "transfers[1]", "40.00")
    assert third["transfer"]["amount"] == "40.00"
    assert (await _has(funded.alice), await _has(funded.bob)) == ("0.00", "100.00")
    read = await funded.bob.get(f"/v1/transfers/{first['transfer']['id']}")
    assert read.json() == first["transfer"]


async def test_all_or_nothing_makes_all_or_names_the_one_that_stopped_it(funded: Stage):
    refused = await funded.alice.post(
        PATH, {"mode": "all_or_nothing", "transfers": [item("60.00"), item("30.00"), item("20.00")]}, key="all"
    )
    shown = refused.json()
    assert (refused.status_code, shown["code"], shown["param"]) == (422, "insufficient_funds", "transfers[2]")
    assert (await _has(funded.alice), await _has(funded.bob)) == ("100.00", "0.00")
    made = await funded.alice.post(PATH, {"mode": "all_or_nothing", "transfers": [item("60.00"), item("40.00")]})
    assert made.json()["accepted"] == 2
    assert await _has(funded.bob) == "100.00"


@pytest.mark.parametrize("mode", ["independent", "all_or_nothing"])
async def test_a_repeat_gives_the_first_answer_and_moves_nothing(funded: Stage, mode):
    asked = {"mode": mode, "transfers": [item("10.00"), item("20.00")]}
    first = await funded.alice.post(PATH, asked, key="pay")
    again = await funded.alice.post(PATH, asked, key="pay")
    assert again.json() == first.json()
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert await _has(funded.bob) == "30.00"


@pytest.mark.parametrize("mode", ["independent", "all_or_nothing"])
@pytest.mark.parametrize(
    "other",
    [
        [item("10.00"), item("20.00"), item("30.00")],
        [item("10.00")],
        [item("20.00"), item("10.00")],
    ],
)
async def test_the_same_key_with_another_list_is_refused_whole(funded: Stage, mode, other):
    await funded.alice.post(PATH, {"mode": mode, "transfers": [item("10.00"), item("20.00")]}, key="pay")
    for other_mode in ("independent", "all_or_nothing"):
        conflict = await funded.alice.post(PATH, {"mode": other_mode, "transfers": other}, key="pay")
        assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_key_reused")
    assert await _has(funded.bob) == "30.00"


async def test_f60_concurrent_equal_requests_are_made_once(funded: Stage):
    asked = {"transfers": [item("1.00") for _ in range(5)]}
    answers = await asyncio.gather(*(funded.alice.post(PATH, asked, key="pay") for _ in range(20)))
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert await _has(funded.bob) == "5.00"


WRONG = [
    ([item("abc")], "transfers[0].amount"),
    ([item("1.00"), item("1.0000001")], "transfers[1].amount"),
    ([item("1.00"), item("-1.00")], "transfers[1].amount"),
    ([item("1.00"), item(1.5)], "transfers[1].amount"),
    ([item("1.00"), item(asset="XYZ")], "transfers[1].asset"),
    ([item("1.00"), item(recipient="@nobody-here")], "transfers[1].recipient"),
    ([item("1.00"), item(recipient="@alice")], "transfers[1].recipient"),
    ([item("1.00"), item(memo="x" * 201)], "transfers[1].memo"),
    ([item("1.00"), item(color="red")], "transfers[1].color"),
    ([item("1.00"), {"asset": "USDC", "amount": "1.00"}], "transfers[1].recipient"),
    ([item("1.00"), "5"], "transfers[1]"),
    ([], "transfers"),
    ([item("0.01")] * 1001, "transfers"),
]


@pytest.mark.parametrize(("transfers", "param"), WRONG)
async def test_what_cannot_be_meant_is_named_and_nothing_is_made(funded: Stage, transfers, param):
    answer = await funded.alice.post(PATH, {"transfers": transfers})
    shown = answer.json()
    assert answer.status_code in (404, 422), shown
    assert (shown["param"], await _has(funded.bob)) == (param, "0.00")


async def test_a_thousand_transfers_with_long_memos_fit(funded: Stage):
    asked = {"transfers": [item("0.05", memo="m" * 200) for _ in range(1000)]}
    shown = (await funded.alice.post(PATH, asked)).json()
    assert (shown["accepted"], shown["refused"]) == (1000, 0)
    assert await _has(funded.bob) == "50.00"


async def test_a_request_cut_short_by_its_caller_neither_loses_nor_doubles(funded: Stage):
    asked = {"transfers": [item("1.00") for _ in range(50)]}
    for patience in (0.0005, 0.002, 0.005, 0.01):
        request = asyncio.create_task(funded.alice.post(PATH, asked, key=f"cut-{patience}"))
        await asyncio.wait({request}, timeout=patience)
        request.cancel()
        answer = await funded.alice.post(PATH, asked, key=f"cut-{patience}")
        assert answer.json()["accepted"] + answer.json()["refused"] == 50
    assert (await _has(funded.alice), await _has(funded.bob)) == ("0.00", "100.00")
