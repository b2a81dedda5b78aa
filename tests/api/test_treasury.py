"""The treasurer over HTTP: statements in, adjustments, freezes, reconciliation."""

import pytest

from ledger.accounts import user_account
from tests.api.conftest import Stage
from tests.fiat.statements import Entry, camt053

pytestmark = pytest.mark.slow

XML = {"Content-Type": "application/xml"}


async def _upload(stage: Stage, text: str | bytes, name: str = "day.xml"):
    return await stage.treasurer.post(
        "/v1/treasury/statements",
        content=text if isinstance(text, bytes) else text.encode(),
        headers=XML,
        params={"filename": name},
    )


async def test_statement_credits_by_reference_and_suspends_the_rest(stage: Stage):
    told = (await stage.alice.post("/v1/top-ups/instructions")).json()
    text = camt053(Entry(50_000, f"rent {told['reference_shown']}"), Entry(1_234, "thanks for lunch"))
    receipt = (await _upload(stage, text)).json()
    assert (receipt["credited"], receipt["suspended"], receipt["replayed"]) == (1, 1, False)
    assert (await stage.alice.get("/v1/balances/EUR")).json()["available"] == "500.00"
    (top_up,) = (await stage.alice.get("/v1/top-ups")).json()["items"]
    assert (top_up["amount"], top_up["asset"], top_up["state"]) == ("500.00", "EUR", "final")
    receipt = (await stage.alice.get(f"/v1/receipts/{top_up['id']}")).json()
    assert receipt["lines"][0]["evidence"]["kind"] == "bank"

    again = await _upload(stage, text)
    assert (again.json()["replayed"], again.headers["Idempotent-Replayed"]) == (True, "true")
    (waiting,) = (await stage.treasurer.get("/v1/treasury/statement-lines", state="suspended")).json()["items"]
    assert (waiting["amount"], waiting["asset"], waiting["reason"]) == ("12.34", "EUR", "no_reference")

    path = f"/v1/treasury/statement-lines/{waiting['id']}/match"
    matched = await stage.treasurer.post(path, {"user": "@bob"}, key="match-1")
    assert (matched.status_code, matched.json()["amount"]) == (201, "12.34")
    repeat = await stage.treasurer.post(path, {"user": "@bob"}, key="match-1")
    assert (repeat.content, repeat.headers["Idempotent-Replayed"]) == (matched.content, "true")
    twice = await stage.treasurer.post(path, {"user": "@alice"})
    assert (twice.status_code, twice.json()["code"]) == (409, "line_not_waiting")


async def test_broken_statement_names_file_and_line_and_books_nothing(stage: Stage):
    answer = await _upload(stage, camt053(Entry(100), closing=5), "bad.xml")
    assert (answer.status_code, answer.json()["code"]) == (422, "statement_disagrees")
    assert "bad.xml" in answer.json()["detail"]
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    assert (await _upload(stage, bomb)).json()["code"] == "statement_unsafe"
    wrong = await stage.treasurer.post("/v1/treasury/statements", {"a": 1})
    assert (wrong.status_code, wrong.json()["code"]) == (415, "wrong_content_type")
    assert (await stage.treasurer.get("/v1/treasury/trial-balance")).json()["accounts"] == []


async def test_adjustment_moves_once_and_keeps_its_reason(stage: Stage):
    await stage.fund_account("house/suspense/USDC", "100.00")
    body = {"asset": "USDC", "amount": "60.00", "debit": "suspense", "credit": "fx", "reason": "opening stock"}
    first, again = [await stage.treasurer.post("/v1/treasury/adjustments", body, key="adj-1") for _ in range(2)]
    assert (first.status_code, first.json()["debit"]) == (201, "house/suspense/USDC")
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    (listed,) = (await stage.treasurer.get("/v1/treasury/adjustments")).json()["items"]
    assert listed.items() < first.json().items()
    short = await stage.treasurer.post("/v1/treasury/adjustments", body)
    assert (short.json()["code"], short.json()["required"], short.json()["available"]) == (
        "insufficient_funds",
        "60.00",
        "40.00",
    )
    denied = await stage.treasurer.post("/v1/treasury/adjustments", body | {"debit": "custody:local:hot"})
    assert (denied.status_code, denied.json()["code"], denied.json()["param"]) == (422, "not_adjustable", "debit")


async def test_positions_and_reconciliation_agree_on_a_sound_book(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    positions = {row["asset"]: row for row in (await stage.treasurer.get("/v1/treasury/positions")).json()["items"]}
    assert positions["USDC"]["owed"] == "100.00"
    run = (await stage.treasurer.post("/v1/treasury/reconciliations")).json()
    assert (run["breaks"], run["open_breaks"]) == ([], 0)
    assert run["networks"] == [
        {"network": "local", "block_number": None, "block_hash": None, "skipped": "it was never followed"}
    ]
    assert [row["id"] for row in (await stage.treasurer.get("/v1/treasury/reconciliations")).json()["items"]] == [
        run["id"]
    ]
    assert (await stage.treasurer.get("/v1/treasury/breaks")).json()["items"] == []


async def test_positions_tell_every_figure_at_any_moment(stage: Stage):
    before = (await stage.treasurer.get("/v1/treasury/positions")).json()
    assert (before["seq"], before["block"], before["valuation"]) == (before["seq"], None, None)
    await stage.fund(stage.alice, "100.00", "USDC")
    told = (await stage.treasurer.get("/v1/treasury/positions", reference="EUR")).json()
    usdc = next(row for row in told["items"] if row["asset"] == "USDC")
    assert usdc["coverage"] == {"part": "0", "whole": "100000000", "ratio": "0.000000"}
    assert (usdc["covered"], usdc["balanced"], usdc["equity"]) == (False, True, "-100.00")
    assert told["hot"][0]["share"] == {"part": "0", "whole": "0", "ratio": None}
    assert told["gas"] == [
        {
            "network": "local",
            "asset": "ETH",
            "coins": "0.00",
            "spent": "0.00",
            "span_seconds": 7 * 86400,
            "days": None,
            "unknown": "nothing was spent in 7 days",
        }
    ]
    valued = told["valuation"]
    assert (valued["reference"], valued["totals"]["owed"], valued["unvalued"]) == ("EUR", "92.23", [])
    assert (valued["rates"], valued["rates_age_seconds"]) == (valued["rates"], 0)
    then = (await stage.treasurer.get("/v1/treasury/positions", at=told["as_of"])).json()
    assert (then["items"], then["seq"]) == (told["items"], told["seq"])


@pytest.mark.parametrize(
    ("moment", "status", "code", "param"),
    [
        ({"at": "2999-01-01T00:00:00Z"}, 422, "moment_unfit", "at"),
        ({"at": "2001-01-01T00:00:00Z"}, 422, "moment_unfit", "at"),
        ({"at": "yesterday"}, 422, "invalid_request", "at"),
        ({"block": "local"}, 422, "invalid_request", "block"),
        ({"block": "local:1"}, 422, "moment_unfit", "block"),
        ({"block": "elsewhere:1"}, 422, "unknown_network", "network"),
        ({"reference": "DOGE"}, 422, "unknown_asset", "reference"),
    ],
)
async def test_positions_of_an_unknown_moment_are_a_clear_error(stage: Stage, moment, status, code, param):
    await stage.fund(stage.alice, "100.00", "USDC")
    refused = await stage.treasurer.get("/v1/treasury/positions", **moment)
    assert (refused.status_code, refused.json()["code"], refused.json().get("param")) == (status, code, param)


async def test_f57_drift_of_one_unit_is_a_break_that_names_the_account(stage: Stage, database):
    await stage.fund(stage.alice, "100.00", "USDC")
    assert stage.alice.user is not None
    account = user_account(stage.alice.user, "USDC")
    async with database.engine(owner=True).begin() as connection:
        await connection.exec_driver_sql(
            f"UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE name = '{account}'"
        )
    run = (await stage.treasurer.post("/v1/treasury/reconciliations")).json()
    drift = next(row for row in run["breaks"] if row["reason"] == "counter_drift")
    assert (drift["account"], drift["expected"], drift["found"]) == (account, "100.00", "100.000001")
    listed = (await stage.treasurer.get("/v1/treasury/breaks")).json()["items"]
    assert {row["id"] for row in listed} == {row["id"] for row in run["breaks"]}


async def test_holds_show_what_is_set_aside(stage: Stage):
    await stage.fund(stage.alice, "100.00", "USDC")
    body = {
        "asset": "USDC",
        "network": "local",
        "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "amount": "40.00",
    }
    made = (await stage.alice.post("/v1/withdrawals", body)).json()
    (hold,) = (await stage.alice.get("/v1/holds")).json()["items"]
    assert (hold["kind"], hold["subject"]) == ("withdrawal", made["id"])
    assert [row["remaining"] for row in hold["postings"]] == ["40.00", made["fee_highest"]]
    assert (await stage.bob.get("/v1/holds")).json()["items"] == []
    await stage.alice.post(f"/v1/withdrawals/{made['id']}/cancel")
    assert (await stage.alice.get("/v1/holds")).json()["items"] == []
