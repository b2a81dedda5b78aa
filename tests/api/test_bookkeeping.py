"""What the treasurer does to the book itself, over HTTP: credit lines, reversals, the end of periods."""

from datetime import timedelta
from typing import Any

import pytest

from base.clock import ManualClock
from ledger.accounts import house_account, user_account
from ledger.commands import Post, Posting, alone
from ledger.outcomes import require_accepted
from tests.api.conftest import Caller, Stage

pytestmark = pytest.mark.slow

LINES, REVERSALS, PERIODS = "/v1/treasury/credit-lines", "/v1/treasury/reversals", "/v1/treasury/periods"
LINE = {"account": "@alice", "asset": "USDC", "cap": "25.00", "reason": "known for years"}
SEND = {"recipient": "@bob", "asset": "USDC", "amount": "60.00"}
PERIOD = {"until": "2026-01-01T00:00:00Z", "reason": "year's end"}


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund(stage.alice, "100.00", "USDC")
    return stage


async def _sent(stage: Stage, **change: str) -> str:
    return str((await stage.alice.post("/v1/transfers", SEND | change)).json()["id"])


async def _has(caller: Caller, asset: str = "USDC") -> str:
    return str((await caller.get(f"/v1/balances/{asset}")).json()["balance"])


DENIED = [
    # method  path       body
    ("POST", LINES,     LINE),
    ("POST", REVERSALS, {"entry": "trf_x", "reason": "mistake"}),
    ("POST", PERIODS,   PERIOD),
    ("GET",  PERIODS,   None),
]  # fmt: skip


async def test_only_the_treasurer_may(stage: Stage):
    made = await stage.operator.post("/v1/api-keys", {"label": "reader", "scopes": ["treasury:read"]})
    reader = Caller(stage.api, made.json()["secret"])
    for method, path, body in DENIED:
        for caller, status in ((stage.alice, 403), (stage.nobody, 401), (reader, 200 if method == "GET" else 403)):
            answer = await (caller.get(path) if method == "GET" else caller.post(path, body))
            assert answer.status_code == status, (path, answer.text)
            if status == 403:
                assert answer.json()["needed"] == ("treasury:read" if method == "GET" else "treasury:write")


async def test_each_repeat_is_marked_and_another_body_is_a_conflict(funded: Stage):
    entry = await _sent(funded)
    await funded.treasurer.post("/v1/treasury/reconciliations")
    for path, body, other in (
        (LINES, LINE, LINE | {"cap": "26.00"}),
        (REVERSALS, {"entry": entry, "reason": "mistake"}, {"entry": entry, "reason": "another"}),
        (PERIODS, PERIOD, PERIOD | {"reason": "another"}),
    ):
        assert (await funded.treasurer.post(path, body, key=None)).json()["code"] == "idempotency_key_missing"
        first, again = [await funded.treasurer.post(path, body, key="once") for _ in range(2)]
        assert first.status_code in (200, 201), first.text
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (again.status_code, again.content) == (first.status_code, first.content)
        conflict = await funded.treasurer.post(path, other, key="once")
        assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_key_reused")
        assert conflict.json()["first"]
    assert (await _has(funded.alice), await _has(funded.bob)) == ("100.00", "0.00")


async def test_each_needs_a_reason(funded: Stage):
    entry = await _sent(funded)
    for path, body in ((LINES, LINE), (REVERSALS, {"entry": entry}), (PERIODS, PERIOD)):
        for reason in ("", "  ", "x" * 501):
            answer = await funded.treasurer.post(path, {**body, "reason": reason})
            assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (
                422,
                "reason_missing",
                "reason",
            )
        missing = {name: value for name, value in body.items() if name != "reason"}
        assert (await funded.treasurer.post(path, missing)).json()["code"] == "missing_field"
    assert (await funded.treasurer.get(PERIODS)).json() == {"closed_until": None, "items": [], "has_more": False}


# Credit lines


async def test_a_credit_line_lets_its_user_go_so_far_below_zero(funded: Stage):
    line = (await funded.treasurer.post(LINES, LINE)).json()
    assert (line["account"], line["asset"], line["cap"]) == (f"{funded.alice.user}/wallet/USDC", "USDC", "25.00")
    assert (await funded.alice.get("/v1/balances/USDC")).json()["available"] == "125.00"
    await _sent(funded, amount="120.00")
    assert await _has(funded.alice) == "-20.00"
    short = (await funded.alice.post("/v1/transfers", SEND | {"amount": "5.000001"})).json()
    assert (short["required"], short["available"]) == ("5.000001", "5.00")


async def test_a_line_is_not_lowered_below_what_is_used_of_it(funded: Stage):
    await funded.treasurer.post(LINES, LINE)
    await _sent(funded, amount="120.00")
    refused = await funded.treasurer.post(LINES, LINE | {"cap": "19.999999"})
    shown = refused.json()
    assert (refused.status_code, shown["code"]) == (409, "credit_line_in_use")
    assert (shown["in_use"], shown["cap"], shown["asset"]) == ("20.00", "19.999999", "USDC")
    assert (await funded.treasurer.post(LINES, LINE | {"cap": "20"})).json()["cap"] == "20.00"


WRONG_LINES: list[tuple[dict[str, Any], int, str, str | None]] = [
    # what is asked                status  code                 param
    ({"account": "@nobody"},          404, "unknown_user",      "account"),
    ({"account": "suspense"},         404, "unknown_user",      "account"),
    ({"account": "x/wallet/USDC"},    404, "unknown_user",      "account"),
    ({"asset": "XYZ"},                422, "unknown_asset",     "asset"),
    ({"cap": 25},                     422, "amount_not_text",   "cap"),
    ({"cap": "-1"},                   422, "invalid_amount",    "cap"),
    ({"cap": "0.0000001"},            422, "too_many_decimals", "cap"),
    ({"account": "fx"},               404, "unknown_account",   None),
]  # fmt: skip


async def test_a_line_that_cannot_be_meant_is_named(funded: Stage):
    for change, status, code, param in WRONG_LINES:
        answer = await funded.treasurer.post(LINES, LINE | change)
        assert (answer.status_code, answer.json()["code"], answer.json().get("param")) == (status, code, param), change


async def test_the_exchanges_stock_may_have_a_line_too(stage: Stage):
    await stage.fund_account("house/fx/USDC", "1.00")
    line = (await stage.treasurer.post(LINES, LINE | {"account": "fx"})).json()
    assert (line["account"], line["cap"]) == ("house/fx/USDC", "25.00")


# Reversals


async def test_a_transfer_is_taken_back_and_both_see_why_not_who(funded: Stage):
    entry = await _sent(funded)
    made = await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "paid twice"})
    shown = made.json()
    assert (made.status_code, shown["reason"]) == (201, "paid twice")
    assert shown["lines"] == [
        {
            "debit": f"{funded.bob.user}/wallet/USDC",
            "credit": f"{funded.alice.user}/wallet/USDC",
            "asset": "USDC",
            "amount": "60.00",
        }
    ]
    assert (await _has(funded.alice), await _has(funded.bob)) == ("100.00", "0.00")
    line = (await funded.bob.get("/v1/history", kind="reversal")).json()["items"][0]
    assert (line["subject"], line["amount"], line["memo"]) == (shown["id"], "-60.00", None)
    assert "paid twice" not in (await funded.bob.get(f"/v1/receipts/{shown['id']}")).text


async def test_a_part_is_taken_back_and_never_more_than_was_moved(funded: Stage):
    entry = await _sent(funded)
    part = {"entry": entry, "lines": [{"line": 0, "amount": "40.00"}], "reason": "too much"}
    assert (await funded.treasurer.post(REVERSALS, part)).json()["lines"][0]["amount"] == "40.00"
    over = await funded.treasurer.post(REVERSALS, part)
    shown = over.json()
    assert (over.status_code, shown["code"]) == (422, "exceeds_remainder")
    assert (shown["required"], shown["remaining"], shown["asset"]) == ("40.00", "20.00", "USDC")
    rest = await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "all of it"})
    assert rest.json()["lines"][0]["amount"] == "20.00"
    none = await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "again"})
    assert (none.json()["code"], none.json()["remaining"]) == ("exceeds_remainder", "0.00")
    assert (await _has(funded.alice), await _has(funded.bob)) == ("100.00", "0.00")


async def test_what_is_spent_is_not_taken_back(funded: Stage):
    entry = await _sent(funded)
    await funded.bob.post("/v1/transfers", SEND | {"recipient": "@alice", "amount": "59.00"})
    refused = await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "mistake"}, key="r")
    shown = refused.json()
    assert (refused.status_code, shown["code"]) == (422, "insufficient_funds")
    assert (shown["required"], shown["available"], shown["asset"]) == ("60.00", "1.00", "USDC")
    await _sent(funded, amount="59.00")
    again = await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "mistake"}, key="r")
    assert again.json()["code"] == "insufficient_funds"  # remembered


async def test_a_conversions_numbers_are_in_the_asset_of_their_line(stage: Stage):
    await stage.fund(stage.alice, "100.00", "EUR")
    await stage.fund_account("house/fx/USDC", "1000.00")
    quote = (await stage.alice.post("/v1/quotes", {"sell": "EUR", "buy": "USDC", "sell_amount": "100.00"})).json()
    done = (await stage.alice.post("/v1/conversions", {"quote": quote["id"]})).json()
    lines = (await stage.alice.get(f"/v1/receipts/{done['id']}")).json()["lines"]
    for number, line in enumerate(lines):
        amount, asset = line["amount"].lstrip("-"), line["asset"]
        over = "1000.00"
        asked = {"entry": done["id"], "lines": [{"line": number, "amount": over}], "reason": "r"}
        shown = (await stage.treasurer.post(REVERSALS, asked)).json()
        assert shown["code"] in ("exceeds_remainder", "insufficient_funds")
        if shown["code"] == "exceeds_remainder":
            assert (shown["required"], shown["remaining"], shown["asset"]) == (over, amount, asset)
    assert {line["asset"] for line in lines} == {"EUR", "USDC"}


async def test_what_the_world_caused_is_not_taken_back_by_hand(stage: Stage):
    account, bank = user_account(str(stage.alice.user), "EUR"), house_account("bank:main", "EUR")
    await stage.services.ledger.ensure_open(account, bank)
    post = Post(id="test:bank", subject="top_x", postings=(Posting(bank, account, "EUR", 100),))
    require_accepted((await stage.services.ledger.submit(alone(post)))[0])
    for name in ("test:bank", "top_x"):
        refused = await stage.treasurer.post(REVERSALS, {"entry": name, "reason": "mistake"})
        shown = refused.json()
        assert (refused.status_code, shown["code"], shown["param"]) == (422, "not_adjustable", "entry")


async def test_entries_that_cannot_be_reversed_are_named(funded: Stage):
    entry = await _sent(funded)
    hold = {"recipient": "@bob", "asset": "USDC", "amount": "10.00", "expires_at": "2026-01-02T00:00:00Z"}
    held = (await funded.alice.post("/v1/holds", hold)).json()["id"]
    refused = await funded.treasurer.post(REVERSALS, {"entry": held, "reason": "r"})
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_entry")
    for _ in range(2):
        await funded.alice.post(f"/v1/holds/{held}/settle", {"amount": "1.00"})
    two = (await funded.treasurer.post(REVERSALS, {"entry": held, "reason": "r"})).json()
    assert (two["code"], len(two["entries"])) == ("ambiguous_entry", 2)
    one = await funded.treasurer.post(REVERSALS, {"entry": two["entries"][0], "reason": "r"})
    assert one.json()["lines"][0]["amount"] == "1.00"
    not_one = await funded.treasurer.post(REVERSALS, {"entry": await _command_of(funded, held), "reason": "r"})
    assert (not_one.status_code, not_one.json()["code"]) == (409, "not_reversible")
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"entry": "trf_none"}, "unknown_entry", "entry"),
        ({"entry": ""}, "invalid_request", "entry"),
        ({"lines": []}, "invalid_request", "lines"),
        ({"lines": [{"line": 1, "amount": "1.00"}]}, "unknown_posting", "lines"),
        ({"lines": [{"line": -1, "amount": "1.00"}]}, "invalid_request", "lines[0].line"),
        ({"lines": [{"line": 0, "amount": 1}]}, "amount_not_text", "lines[0].amount"),
        ({"lines": [{"line": 0, "amount": "0"}]}, "invalid_amount", "lines"),
        ({"lines": [{"line": 0, "amount": "1.0000001"}]}, "too_many_decimals", "lines"),
    ]
    for change, code, param in wrong:
        shown = (await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "r"} | change)).json()
        assert (shown["code"], shown.get("param")) == (code, param), change


async def _command_of(stage: Stage, hold: str) -> str:
    """The id of the command that made a hold, as its receipt names it."""
    lines = (await stage.alice.get(f"/v1/receipts/{hold}")).json()["lines"]
    return next(str(line["entry"]) for line in lines if line["status"] == "held")


# Periods


async def test_a_closed_period_stays_closed_and_only_grows(stage: Stage, clock: ManualClock):
    assert (await stage.treasurer.get(PERIODS)).json() == {"closed_until": None, "items": [], "has_more": False}
    clock.advance(timedelta(days=40))
    await stage.treasurer.post("/v1/treasury/reconciliations")
    until = {"until": "2026-02-01T01:00:00+01:00", "reason": "January is reported"}
    closed = (await stage.treasurer.post(PERIODS, until)).json()
    assert closed["closed_until"] == "2026-02-01T00:00:00.000000Z"
    assert (await stage.treasurer.get(PERIODS)).json() == {
        "closed_until": closed["closed_until"],
        "items": [closed],
        "has_more": False,
    }
    for earlier in ("2026-01-15T00:00:00Z", "2026-02-01T00:00:00Z"):
        refused = await stage.treasurer.post(PERIODS, until | {"until": earlier})
        assert (refused.status_code, refused.json()["code"]) == (409, "period_closed")
        assert refused.json()["closed_until"].startswith("2026-02-01T00:00:00")
    future = await stage.treasurer.post(PERIODS, until | {"until": "2026-02-10T00:00:00.000001Z"})
    assert (future.status_code, future.json()["code"]) == (422, "effective_in_future")
    for wrong in ("2026-02-05", "2026-02-05T00:00:00", 1770000000, "0001-01-01T00:00:00+14:00"):
        shown = (await stage.treasurer.post(PERIODS, until | {"until": wrong})).json()
        assert (shown["code"], shown["param"]) == ("invalid_request", "until")


async def test_what_comes_later_with_an_earlier_date_takes_effect_when_the_period_has_ended(
    stage: Stage, clock: ManualClock
):
    clock.advance(timedelta(days=40))
    await stage.treasurer.post("/v1/treasury/reconciliations")
    await stage.treasurer.post(PERIODS, {"until": "2026-02-01T00:00:00Z", "reason": "January is reported"})
    account, source = user_account(str(stage.alice.user), "USDC"), house_account("capital", "USDC")
    await stage.services.ledger.ensure_open(account, source)
    late = Post(
        id="test:late",
        postings=(Posting(source, account, "USDC", 1_000_000),),
        effective_at=clock.now() - timedelta(days=30),
    )
    require_accepted((await stage.services.ledger.submit(alone(late)))[0])
    (line,) = (await stage.alice.get("/v1/history")).json()["items"]
    assert line["effective_at"] == "2026-02-01T00:00:00.000000Z"
    assert line["effective_at_requested"] == "2026-01-11T00:00:00.000000Z"
    january: dict[str, Any] = {"asset": "USDC", "by": "effective", "from": "2026-01-01T00:00:00Z"}
    told = await stage.alice.get("/v1/statements", **january)
    assert [one["effective_at_requested"] for one in told.json()["lines"]] == ["2026-01-11T00:00:00.000000Z"]
