"""Every wrong try gets its own code, its status, and a sentence that says what is wrong."""

import pytest

from tests.api.conftest import Stage

pytestmark = pytest.mark.slow

GOOD = {"recipient": "@bob", "asset": "USDC", "amount": "1.00"}
OUTSIDE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PAY = {"asset": "USDC", "network": "local", "address": OUTSIDE, "amount": "1.00"}
QUOTE = {"sell": "EUR", "buy": "USDC", "sell_amount": "1.00"}

SEND, ASK, CONVERT, WITHDRAW = "/v1/transfers", "/v1/quotes", "/v1/conversions", "/v1/withdrawals"

TRIES = [
    # path, what is sent                            status  code                param       says
    (SEND, GOOD | {"asset": "XYZ"},                         422, "unknown_asset",      "asset",       "XYZ"),
    (SEND, GOOD | {"amount": "1.0000001"},                  422, "too_many_decimals",  "amount",      "7 decimals"),
    (SEND, GOOD | {"amount": "1.001", "asset": "EUR"},      422, "too_many_decimals",  "amount",      "EUR has 2"),
    (SEND, GOOD | {"amount": "1,5"},                        422, "invalid_amount",     "amount",      "1,5"),
    (SEND, GOOD | {"amount": "-1"},                         422, "invalid_amount",     "amount",      "-1"),
    (SEND, GOOD | {"amount": "1e3"},                        422, "invalid_amount",     "amount",      "1e3"),
    (SEND, GOOD | {"amount": "0"},                          422, "invalid_amount",     "amount",      "than zero"),
    (SEND, GOOD | {"amount": ""},                           422, "invalid_amount",     "amount",      "not an amount"),
    (SEND, GOOD | {"amount": str(2**256)},                  422, "amount_too_large",   "amount",      "2^256"),
    (SEND, GOOD | {"amount": 12.5},                         422, "amount_not_text",    "amount",      "quotes"),
    (SEND, GOOD | {"amount": 12},                           422, "amount_not_text",    "amount",      "quotes"),
    (SEND, GOOD | {"amount": True},                         422, "amount_not_text",    "amount",      "quotes"),
    (SEND, GOOD | {"amount": None},                         422, "invalid_request",    "amount",      "string"),
    (SEND, GOOD | {"amount": "100.00"},                     422, "insufficient_funds", None,          "100.00 USDC"),
    (SEND, GOOD | {"recipient": "@nobody"},                 422, "unknown_recipient",  "recipient",   "@nobody"),
    (SEND, GOOD | {"recipient": "@alice"},                  422, "self_transfer",      "recipient",   "yourself"),
    (SEND, GOOD | {"memo": "x" * 201},                      422, "memo_too_long",      "memo",        "200"),
    (SEND, GOOD | {"to": "@bob"},                           422, "unknown_field",      "to",          "no such field"),
    (SEND, {"asset": "USDC", "amount": "1.00"},             422, "missing_field",      "recipient",   "missing"),
    (SEND, [],                                              422, "invalid_request",    None,          "object"),
    (ASK, QUOTE | {"buy": "EUR"},                          422, "no_rate",            None,          "EUR"),
    (ASK, QUOTE | {"buy_amount": "1.00"},                  422, "one_amount",         "sell_amount", "either"),
    (ASK, QUOTE | {"sell_amount": "0.001"},                422, "too_many_decimals",  "sell_amount", "decimals"),
    (CONVERT, {"quote": "quo_none"},                           404, "not_found",          "quote",       "quo_none"),
    (WITHDRAW, PAY | {"address": "0x123"},                      422, "address_length",     "address",     "too short"),
    (WITHDRAW, PAY | {"address": OUTSIDE[:-1] + "9"},           422, "wrong_checksum",     "address",     "checksum"),
    (WITHDRAW, PAY | {"address": "0x" + OUTSIDE[2:].swapcase()}, 422, "wrong_checksum", "address", "checksum"),
    (WITHDRAW, PAY | {"address": "0x" + "00" * 20},             422, "zero_address",       "address",     "zero"),
    (WITHDRAW, PAY | {"asset": "EUR"},                          422, "not_on_network",     "network",     "EUR"),
    (WITHDRAW, PAY | {"network": "mainnet"},                    422, "unknown_network",    "network",     "mainnet"),
    (WITHDRAW, PAY | {"amount": "0.10"},                        422, "below_minimum",      "amount",      "smallest"),
    (WITHDRAW, PAY | {"amount": "5000.00"},                     422, "insufficient_funds", None,          "available"),
    ("/v1/withdrawals/wdr_none/cancel", None,                   404, "not_found",          "withdrawal",  "wdr_none"),
    ("/v1/deposit-addresses", {"network": "mainnet"},           422, "unknown_network",    "network",     "mainnet"),
]  # fmt: skip


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund(stage.alice, "50.00", "USDC")
    return stage


async def test_each_wrong_try_says_what_is_wrong(funded: Stage):
    surprises = []
    for path, body, status, code, param, says in TRIES:
        answer = await funded.alice.post(path, body)
        problem = answer.json()
        told = (answer.status_code, problem["code"], problem.get("param"))
        if told != (status, code, param) or says not in problem["detail"]:
            surprises.append((path, body, told, problem["detail"]))
    assert not surprises, "\n".join(map(str, surprises))


async def test_each_problem_leads_to_its_explanation(funded: Stage):
    for path, body, status, *_ in TRIES:
        answer = await funded.alice.post(path, body)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["Request-Id"]
        page = await funded.nobody.get(answer.json()["type"])
        assert (page.status_code, page.json()["status"]) == (200, status)


async def test_none_of_them_moved_anything(funded: Stage):
    before = await funded.services.ledger.accounts()
    for path, body, *_ in TRIES:
        await funded.alice.post(path, body)
    after = {account.id: account for account in await funded.services.ledger.accounts()}
    assert all(after[account.id] == account for account in before)


async def test_refusal_for_want_of_funds_carries_its_numbers_as_decimal_strings(funded: Stage):
    problem = (await funded.alice.post("/v1/transfers", GOOD | {"amount": "60.50"})).json()
    assert (problem["required"], problem["available"], problem["asset"]) == ("60.50", "50.00", "USDC")


async def test_amount_finer_than_its_asset_names_both_scales(funded: Stage):
    problem = (await funded.alice.post("/v1/transfers", GOOD | {"amount": "0.1234567"})).json()
    assert (problem["decimals"], problem["scale"]) == (7, 6)


async def test_all_faults_of_a_body_are_listed(funded: Stage):
    problem = (await funded.alice.post("/v1/transfers", {"asset": 1, "amount": 2, "to": "x"})).json()
    assert {fault["param"]: fault["code"] for fault in problem["errors"]} == {
        "recipient": "missing_field",
        "asset": "invalid_request",
        "amount": "amount_not_text",
        "to": "unknown_field",
    }


BODIES = [
    # content                                   content type           status  code
    (b'{"recipient": "@bob", ',                 "application/json",       400, "malformed_body"),
    (b"\xff\xfe",                               "application/json",       400, "malformed_body"),
    (b'{"amount": "1", "amount": "2"}',         "application/json",       400, "malformed_body"),
    (b'{"amount": NaN}',                        "application/json",       400, "malformed_body"),
    (b'{"amount": 1e999}',                      "application/json",       400, "malformed_body"),
    (b'{"amount": ' + b"9" * 5000 + b"}",       "application/json",       400, "malformed_body"),
    (b"[" * 5000 + b"]" * 5000,                 "application/json",       400, "malformed_body"),
    (b'{"memo": "\\ud800"}',                    "application/json",       400, "malformed_body"),
    (b'{"memo": "\\u0000"}',                    "application/json",       400, "malformed_body"),
    (b"recipient=bob",                          "application/x-www-form-urlencoded", 415, "wrong_content_type"),
    (b"{}",                                     "text/plain",             415, "wrong_content_type"),
    (b"{}",                                     "",                       415, "wrong_content_type"),
    (b"",                                       "application/json",       422, "body_missing"),
    (b" " * 70_000,                             "application/json",       413, "body_too_large"),
]  # fmt: skip


async def test_bodies_that_could_be_misread_are_refused(funded: Stage):
    for content, kind, status, code in BODIES:
        headers = {"Content-Type": kind} if kind else {}
        answer = await funded.alice.post("/v1/transfers", content=content, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (content[:40], answer.text)


PLACES = [
    # method    path                    status  code
    ("GET",     "/v1/typo",                404, "unknown_path"),
    ("GET",     "/v1/transfers/trf_none",  404, "not_found"),
    ("GET",     "/v1/transfers/a%00b",     400, "malformed_text"),
    ("GET",     "/v1/history?kind=a%00b",  400, "malformed_text"),
    ("GET",     "/v1/history?kind=gift",   422, "unknown_kind"),
    ("GET",     "/v1/history?asset=XYZ",   422, "unknown_asset"),
    ("GET",     "/v1/history?since=noon",  422, "invalid_request"),
    ("GET",     "/v1/history?starting_after=x", 422, "invalid_cursor"),
    ("GET",     "/v1/transfers?limit=0",   422, "invalid_request"),
    ("GET",     "/v1/transfers?limit=101", 422, "invalid_request"),
    ("GET",     "/v1/transfers?starting_after=a&ending_before=b", 422, "invalid_request"),
    ("GET",     "/v1/balances/XYZ",        422, "unknown_asset"),
    ("GET",     "/v1/receipts/trf_none",   404, "not_found"),
    ("DELETE",  "/v1/transfers",           405, "method_not_allowed"),
    ("GET",     "/problems/none",          404, "unknown_path"),
    ("GET",     "/nothing",                404, "unknown_path"),
]  # fmt: skip


async def test_places_where_nothing_is_say_so(stage: Stage):
    for method, path, status, code in PLACES:
        answer = await stage.api.request(method, path, headers={"Authorization": f"Bearer {stage.alice.secret}"})
        assert (answer.status_code, answer.json()["code"]) == (status, code), (path, answer.text)


async def test_wrong_method_names_the_right_ones(stage: Stage):
    answer = await stage.api.delete("/v1/transfers")
    assert answer.headers["Allow"]


async def test_unknown_version_is_refused_and_the_served_one_is_told(stage: Stage):
    answer = await stage.alice.get("/v1/me", headers={"Onebook-Version": "2020-01-01"})
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_version")
    assert answer.json()["known"] == [answer.headers["Onebook-Version"]]
