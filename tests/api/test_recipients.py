"""What callers are told of whom they pay: warnings, notes, each wrong try, and nothing of a secret that was pasted."""

import json
import logging
from typing import Any

import pytest

from base.clock import ManualClock
from chain.evm.addresses import show_address
from tests.api.conftest import USDC, Stage
from tests.support.postgres import Database
from tests.wallet.scripted_chain import ScriptedChain
from tests.wallet.test_address_forms import PHRASE, SECRET, WRONG

pytestmark = pytest.mark.slow

OUTSIDE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ESTIMATE, WITHDRAW = "/v1/withdrawals/estimate", "/v1/withdrawals"
PAY = {"asset": "USDC", "network": "local", "address": OUTSIDE, "amount": "5.00"}


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund(stage.alice, "100.00", "USDC")
    return stage


async def test_each_wrong_form_is_a_problem_that_says_what_to_do(funded: Stage):
    for pasted, code, says in WRONG:
        for path in (ESTIMATE, WITHDRAW):
            answer = await funded.alice.post(path, PAY | {"address": pasted})
            told = answer.json()
            assert (answer.status_code, told["code"], told["param"]) == (422, code, "address"), (pasted, answer.text)
            assert says in told["detail"]
            assert told["remedy"]
    assert (await funded.alice.get("/v1/balances/USDC")).json()["held"] == "0.00"


@pytest.mark.parametrize("secret", [SECRET, "0x" + SECRET, PHRASE, PHRASE + " " + PHRASE, SECRET * 4])
async def test_a_secret_that_was_pasted_is_neither_answered_nor_logged(funded: Stage, secret, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        for path in (ESTIMATE, WITHDRAW):
            answer = await funded.alice.post(path, PAY | {"address": secret})
            assert answer.status_code == 422
            assert secret[2:12] not in answer.text
    written = capfd.readouterr()
    assert secret[2:12] not in caplog.text + written.out + written.err


OTHERS: list[tuple[dict[str, Any], int, str, str, dict[str, Any]]] = [
    # what is asked                                      status  code                  param          facts
    ({"address": "0x" + "0" * 39 + "1"},                   422, "precompile",         "address",     {}),
    ({"address": "0x" + "0" * 38 + "11"},                  422, "precompile",         "address",     {}),
    ({"address": USDC},                                    422, "token_contract",     "address",     {"token": "USDC"}),
    ({"amount": "10000.01"},                               422, "above_maximum",      "amount",
        {"maximum": "10000.00", "amount": "10000.01", "asset": "USDC"}),
    ({"amount": "0.49"},                                   422, "below_minimum",      "amount",
        {"minimum": "0.50", "amount": "0.49", "asset": "USDC"}),
    ({"asset": "EUR"},                                     422, "not_on_network",     "network",     {"networks": []}),
    ({"fee_highest": "1.00"},                              409, "fee_above_accepted", "fee_highest",
        {"fee_highest": "3.25065", "fee_accepted": "1.00", "asset": "USDC"}),
    ({"fee_highest": "-1"},                                422, "invalid_amount",     "fee_highest", {}),
    ({"fee_highest": 3},                                   422, "amount_not_text",    "fee_highest", {}),
    ({"accept": ["everything"]},                           422, "unknown_warning",    "accept",
        {"known": ["looks_alike", "contract_refuses"]}),
    ({"accept": "looks_alike"},                            422, "invalid_request",    "accept",      {}),
]  # fmt: skip


async def test_each_bound_is_a_problem_with_its_numbers(funded: Stage):
    for asked, status, code, param, facts in OTHERS:
        answer = await funded.alice.post(WITHDRAW, PAY | asked)
        told = answer.json()
        assert (answer.status_code, told["code"], told.get("param")) == (status, code, param), answer.text
        assert {name: told[name] for name in facts} == facts
        assert told["remedy"]
    assert (await funded.alice.get("/v1/balances/USDC")).json()["held"] == "0.00"


async def test_an_estimate_tells_what_is_held_what_it_may_cost_and_what_to_look_at(funded: Stage):
    estimate = (await funded.alice.post(ESTIMATE, PAY | {"address": OUTSIDE.lower()})).json()
    assert (estimate["address"], estimate["internal"], estimate["warnings"]) == (OUTSIDE, False, [])
    assert [note["code"] for note in estimate["notes"]] == ["first_time", "no_checksum"]
    costs = (estimate["fee_expected"], estimate["fee_highest"], estimate["total"])
    assert costs == ("0.812663", "3.25065", "8.25065")
    without = (await funded.alice.post(ESTIMATE, {name: PAY[name] for name in ("asset", "network", "amount")})).json()
    assert (without["address"], without["notes"], without["total"]) == (None, [], "8.25065")
    made = await funded.alice.post(WITHDRAW, PAY | {"fee_highest": estimate["fee_highest"]})
    assert (made.status_code, made.json()["internal"], made.json()["accepted"]) == (201, False, [])
    assert (await funded.alice.get("/v1/balances/USDC")).json()["held"] == estimate["total"]
    again = (await funded.alice.post(ESTIMATE, PAY)).json()
    assert again["notes"] == []

    alike = show_address(OUTSIDE[:6] + "5" * 32 + OUTSIDE[-4:])
    (warning,) = (await funded.alice.post(ESTIMATE, PAY | {"address": alike})).json()["warnings"]
    assert (warning["code"], warning["resembles"]) == ("looks_alike", OUTSIDE)
    refused = await funded.alice.post(WITHDRAW, PAY | {"address": alike}, key="alike")
    told = refused.json()
    assert (refused.status_code, told["code"], told["resembles"]) == (422, "recipient_looks_alike", OUTSIDE)
    assert told["warnings"] == ["looks_alike"]
    taken = await funded.alice.post(WITHDRAW, PAY | {"address": alike, "accept": ["looks_alike"]}, key="alike")
    assert (taken.status_code, taken.json()["accepted"]) == (201, ["looks_alike"])


async def test_a_user_here_is_paid_at_once_and_both_see_it_as_internal(funded: Stage, database: Database):
    alice, bob = funded.alice, funded.bob
    network, clock = funded.services.chains.registry.network("local"), funded.services.clock
    assert isinstance(clock, ManualClock)
    to = (await bob.post("/v1/deposit-addresses", {"network": "local"})).json()["address"]
    early = await alice.post(WITHDRAW, PAY | {"address": to})
    assert (early.status_code, early.json()["code"]) == (409, "not_creditable"), "nobody looked at the token yet"
    await ScriptedChain(database.engine(), network, clock).begin(**{USDC: 6})
    estimate = (await alice.post(ESTIMATE, PAY | {"address": to})).json()
    assert (estimate["internal"], estimate["fee_highest"], estimate["total"]) == (True, "0.00", "5.00")
    body = PAY | {"address": to, "fee_highest": estimate["fee_highest"]}
    first, again = [await alice.post(WITHDRAW, body, key="inside") for _ in range(2)]
    made = first.json()
    assert (first.status_code, made["state"], made["internal"], made["fee"]) == (201, "final", True, "0.00")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (made, "true")
    changed = await alice.post(WITHDRAW, body | {"amount": "6.00"}, key="inside")
    assert (changed.status_code, changed.json()["first"]) == (422, made["id"])
    assert [(await who.get("/v1/balances/USDC")).json()["available"] for who in (alice, bob)] == ["95.00", "5.00"]

    since: dict[str, Any] = {"from": "2025-01-01T00:00:00Z"}
    for who, kind, amount in ((alice, "withdrawal", "-5.00"), (bob, "deposit", "5.00")):
        (line,) = (await who.get("/v1/history", kind=kind)).json()["items"]
        assert (line["internal"], line["amount"], line["subject"]) == (True, amount, made["id"])
        receipt = (await who.get(f"/v1/receipts/{made['id']}")).json()
        assert (receipt["kind"], receipt["lines"][0]["internal"]) == (kind, True)
        statement = (await who.get("/v1/statements", asset="USDC", **since)).json()
        assert statement["lines"][-1]["kind"] == kind
        shown = json.dumps([line, receipt, statement["lines"][-1]])
        stranger = bob if who is alice else alice
        assert str(stranger.user) not in shown, "neither learns who the other is"
    assert (await bob.get(f"/v1/withdrawals/{made['id']}")).status_code == 404
    own = await bob.post(WITHDRAW, PAY | {"address": to})
    assert (own.status_code, own.json()["code"]) == (422, "own_deposit_address")
