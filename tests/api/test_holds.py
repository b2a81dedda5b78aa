"""Holds between users over HTTP: promised, paid in parts, closed, voided, expired; and whoever has no part in them."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from base.clock import ManualClock
from ledger.expiry import HoldExpiry
from tests.api.conftest import Caller, Stage
from wallet.holds import Holds
from wallet.transfers import Fees

pytestmark = pytest.mark.slow

SOON = "2026-01-02T00:00:00Z"
BODY: dict[str, Any] = {"recipient": "@bob", "asset": "USDC", "amount": "50.00", "expires_at": SOON, "memo": "bike"}


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    await stage.fund(stage.alice, "100.00", "USDC")
    return stage


@pytest.fixture
async def carol(funded: Stage) -> Caller:
    user = await funded.services.identity.create_user(handle="carol")
    key = await funded.services.identity.create_key(label="carol", scopes=["user"], user=user.id)
    return Caller(funded.api, key.secret, user.id)


async def _hold(stage: Stage, **change: Any) -> dict[str, Any]:
    answer = await stage.alice.post("/v1/holds", BODY | change)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def _has(caller: Caller) -> tuple[str, str, str]:
    told = (await caller.get("/v1/balances/USDC")).json()
    return told["balance"], told["held"], told["incoming"]


async def test_a_hold_sets_value_aside_and_both_its_users_see_it(funded: Stage):
    made = await _hold(funded)
    assert (made["sender"], made["recipient"]) == (funded.alice.user, funded.bob.user)
    assert (made["amount"], made["settled"], made["remaining"], made["fee"]) == ("50.00", "0.00", "50.00", "0.00")
    assert (made["state"], made["memo"], made["expires_at"]) == ("open", "bike", "2026-01-02T00:00:00.000000Z")
    assert (await _has(funded.alice), await _has(funded.bob)) == (
        ("100.00", "50.00", "0.00"),
        ("0.00", "0.00", "50.00"),
    )
    for caller in (funded.alice, funded.bob):
        assert (await caller.get(f"/v1/holds/{made['id']}")).json() == made
    (listed,) = (await funded.alice.get("/v1/holds")).json()["items"]
    assert (listed["id"], listed["kind"], listed["expires_at"]) == (made["id"], "hold", made["expires_at"])


async def test_it_is_paid_in_parts_and_its_recipient_closes_it(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    part = await funded.alice.post(f"{path}/settle", {"amount": "20.5"})
    assert part.json() | {"booked_at": ""} == {
        "hold": path.rpartition("/")[2], "asset": "USDC", "settled": "20.50", "fee": "0.00", "released": "0.00",
        "booked_at": "",
    }  # fmt: skip
    closed = (await funded.bob.post(f"{path}/settle", {"amount": "9.50", "close": True})).json()
    assert (closed["settled"], closed["released"]) == ("9.50", "20.00")
    ended = (await funded.alice.get(path)).json()
    assert (ended["state"], ended["settled"], ended["remaining"]) == ("settled", "30.00", "0.00")
    assert (await _has(funded.alice), await _has(funded.bob)) == (("70.00", "0.00", "0.00"), ("30.00", "0.00", "0.00"))
    receipt = (await funded.bob.get(f"/v1/receipts/{path.rpartition('/')[2]}")).json()
    assert [line["status"] for line in receipt["lines"]] == ["held", "posted", "posted", "released"]


async def test_without_an_amount_all_of_it_is_paid(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}/settle"
    assert (await funded.bob.post(path, {})).json()["settled"] == "50.00"
    again = await funded.bob.post(path, {})
    assert (again.status_code, again.json()["code"]) == (409, "hold_closed")


async def test_only_its_recipient_lets_go_of_it(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    tries = [(f"{path}/void", None), (f"{path}/settle", {"amount": "0.000001", "close": True})]
    for where, body in tries:
        refused = await funded.alice.post(where, body)
        assert (refused.status_code, refused.json()["code"]) == (409, "hold_promised")
    assert await _has(funded.alice) == ("100.00", "50.00", "0.00")
    void = (await funded.bob.post(f"{path}/void")).json()
    assert (void["settled"], void["released"]) == ("0.00", "50.00")
    assert (await funded.alice.get(path)).json()["state"] == "voided"
    assert await _has(funded.alice) == ("100.00", "0.00", "0.00")


async def test_to_everybody_else_there_is_no_such_hold(funded: Stage, carol: Caller):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    for answer in (
        await carol.get(path),
        await carol.post(f"{path}/settle", {"amount": "1.00"}),
        await carol.post(f"{path}/void"),
        await carol.get(f"/v1/receipts/{path.rpartition('/')[2]}"),
        await carol.get("/v1/holds/hld_none"),
        await carol.post("/v1/holds/hld_none/settle", {}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await carol.get("/v1/holds")).json()["items"] == []


async def test_scopes_say_who_may_read_and_who_may_pay(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    made = await funded.operator.post("/v1/api-keys", {"label": "r", "scopes": ["wallet:read"], "user": "@alice"})
    reader = Caller(funded.api, made.json()["secret"])
    assert (await reader.get(path)).status_code == 200
    for where, body in (("/v1/holds", BODY), (f"{path}/settle", {}), (f"{path}/void", None)):
        refused = await reader.post(where, body)
        assert (refused.status_code, refused.json()["needed"]) == (403, "transfers:write")
        assert (await funded.treasurer.post(where, body)).status_code == 403
        assert (await funded.nobody.post(where, body)).status_code == 401
    assert (await funded.treasurer.get(path)).json()["needed"] == "wallet:read"


async def test_each_repeat_is_marked_and_moves_nothing_and_another_body_names_the_first(funded: Stage):
    made = await funded.alice.post("/v1/holds", BODY, key="once")
    path = f"/v1/holds/{made.json()['id']}"
    part = await funded.alice.post(f"{path}/settle", {"amount": "20.00"}, key="once")
    void = await funded.bob.post(f"{path}/void", key="once")
    sent = [
        (funded.alice, "/v1/holds", BODY, made, BODY | {"amount": "50.0"}),
        (funded.alice, f"{path}/settle", {"amount": "20.00"}, part, {"amount": "20.00", "close": True}),
        (funded.bob, f"{path}/void", None, void, {}),
    ]
    for caller, where, body, first, other in sent:
        again = await caller.post(where, body, key="once")
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (again.status_code, again.content) == (first.status_code, first.content)
        if where.endswith("void"):
            continue  # it takes no body that could be another one
        conflict = await caller.post(where, other, key="once")
        assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_key_reused"), conflict.text
        assert conflict.json()["first"] == made.json()["id"]
    assert (await _has(funded.alice), await _has(funded.bob)) == (("80.00", "0.00", "0.00"), ("20.00", "0.00", "0.00"))


async def test_each_needs_an_idempotency_key(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    for where, body in (("/v1/holds", BODY), (f"{path}/settle", {}), (f"{path}/void", None)):
        answer = await funded.bob.post(where, body, key=None)
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")


WRONG: list[tuple[dict[str, Any], int, str | None, str | None]] = [
    # what is asked                                          status  code                 param
    ({"recipient": "@nobody"},                                  422, "unknown_recipient",  "recipient"),
    ({"recipient": "@alice"},                                   422, "self_transfer",      "recipient"),
    ({"asset": "XYZ"},                                          422, "unknown_asset",      "asset"),
    ({"amount": 1.5},                                           422, "amount_not_text",    "amount"),
    ({"amount": 1},                                             422, "amount_not_text",    "amount"),
    ({"amount": "NaN"},                                         422, "invalid_amount",     "amount"),
    ({"amount": "-1.00"},                                       422, "invalid_amount",     "amount"),
    ({"amount": "0"},                                           422, "invalid_amount",     "amount"),
    ({"amount": "1.0000001"},                                   422, "too_many_decimals",  "amount"),
    ({"amount": "1" + "0" * 72},                                422, "amount_too_large",   "amount"),
    ({"amount": "100.000001"},                                  422, "insufficient_funds", None),
    ({"memo": "x" * 201},                                       422, "memo_too_long",      "memo"),
    ({"memo": "x" * 1001},                                      422, "invalid_request",    "memo"),
    ({"expires_at": "2026-01-01T00:00:00Z"},                    422, "expires_in_past",    None),
    ({"expires_at": "2025-12-31T23:59:59Z"},                    422, "expires_in_past",    None),
    ({"expires_at": "2026-01-02T00:00:00+13:00"},               201, None,                 None),
    ({"expires_at": "2026-04-02T00:00:00Z"},                    422, "expires_too_late",   "expires_at"),
    ({"expires_at": "9999-12-31T23:59:59-14:00"},               422, "invalid_request",    "expires_at"),
    ({"expires_at": "0001-01-01T00:00:00+14:00"},               422, "invalid_request",    "expires_at"),
    ({"expires_at": "2026-01-02T00:00:00"},                     422, "invalid_request",    "expires_at"),
    ({"expires_at": "2026-01-02"},                              422, "invalid_request",    "expires_at"),
    ({"expires_at": "2026-02-30T00:00:00Z"},                    422, "invalid_request",    "expires_at"),
    ({"expires_at": 1767312000},                                422, "invalid_request",    "expires_at"),
    ({"expires_at": "1767312000"},                              422, "invalid_request",    "expires_at"),
    ({"expires_at": None},                                      422, "invalid_request",    "expires_at"),
    ({"colour": "red"},                                         422, "unknown_field",      "colour"),
]  # fmt: skip


async def test_what_cannot_be_promised_is_named(funded: Stage):
    surprises = []
    for change, status, code, param in WRONG:
        answer = await funded.alice.post("/v1/holds", BODY | change)
        told = (answer.status_code, answer.json().get("code"), answer.json().get("param"))
        if told != (status, code, param):
            surprises.append((change, told))
    assert not surprises, "\n".join(map(str, surprises))


async def test_refusals_tell_their_numbers_as_decimal_strings(funded: Stage):
    short = (await funded.alice.post("/v1/holds", BODY | {"amount": "100.5"})).json()
    assert (short["required"], short["available"], short["asset"]) == ("100.50", "100.00", "USDC")
    made = await _hold(funded)
    over = (await funded.alice.post(f"/v1/holds/{made['id']}/settle", {"amount": "50.000001"})).json()
    assert (over["code"], over["required"], over["remaining"]) == ("exceeds_remainder", "50.000001", "50.00")
    assert (over["asset"], over["hold"]) == ("USDC", made["id"])
    fine = (await funded.alice.post(f"/v1/holds/{made['id']}/settle", {"amount": "0.0000001"})).json()
    assert fine["code"] == "too_many_decimals"


async def test_from_its_end_on_it_is_paid_no_more_and_the_worker_gives_it_back(funded: Stage, clock: ManualClock):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    await funded.alice.post(f"{path}/settle", {"amount": "20.00"})
    clock.advance(timedelta(days=1))
    for answer in (await funded.bob.post(f"{path}/settle", {}), await funded.bob.post(f"{path}/void")):
        assert (answer.status_code, answer.json()["code"]) == (409, "hold_expired")
    assert await _has(funded.alice) == ("80.00", "30.00", "0.00")
    assert await HoldExpiry(funded.services.ledger).step() == 1
    ended = (await funded.bob.get(path)).json()
    assert (ended["state"], ended["settled"], ended["remaining"]) == ("expired", "20.00", "0.00")
    assert await _has(funded.alice) == ("80.00", "0.00", "0.00")
    late = await funded.bob.post(f"{path}/settle", {})
    assert (late.status_code, late.json()["code"]) == (409, "hold_closed")


async def test_many_small_parts_cost_the_fee_of_one_large_one(funded: Stage):
    services = funded.services
    priced = Holds(
        ledger=services.ledger,
        directory=services.identity,
        clock=services.clock,
        entropy=services.entropy,
        fees=Fees(10),
    )
    funded.app.state.services = replace(services, holds=priced)
    made = await _hold(funded, amount="0.010000")
    assert made["fee"] == "0.00001"
    path = f"/v1/holds/{made['id']}/settle"
    fees = [(await funded.bob.post(path, {"amount": "0.000999"})).json()["fee"] for _ in range(10)]
    assert fees[:3] == ["0.00", "0.000001", "0.000001"]
    last = (await funded.bob.post(path, {"close": True})).json()
    assert (last["settled"], last["fee"]) == ("0.00001", "0.000001")
    assert (await _has(funded.bob))[0] == "0.01"
    account = await services.ledger.account("house/fees/USDC")
    assert account is not None
    assert account.balance == 10


async def test_a_frozen_user_is_paid_out_of_no_hold(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}/settle"
    change = {"scope": "owner", "target": "@alice", "reason_code": "court_order", "reason": "17/26"}
    freeze = (await funded.treasurer.post("/v1/treasury/freezes", change)).json()["id"]
    stopped = await funded.bob.post(path, {}, key="pay")
    assert (stopped.status_code, stopped.json()["code"]) == (409, "frozen")
    await funded.treasurer.post(f"/v1/treasury/freezes/{freeze}/lift", {"reason": "withdrawn"})
    assert (await funded.bob.post(path, {}, key="pay")).status_code == 200


async def test_concurrent_payments_never_come_to_more_than_was_promised(funded: Stage):
    path = f"/v1/holds/{(await _hold(funded))['id']}"
    tries = [funded.alice.post(f"{path}/settle", {"amount": "9.00"}) for _ in range(8)]
    tries += [funded.bob.post(f"{path}/settle", {"amount": "9.00"}) for _ in range(8)]
    answers = await asyncio.gather(*tries)
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [422] * 11
    standing = (await funded.bob.get(path)).json()
    assert (standing["settled"], standing["remaining"], standing["state"]) == ("45.00", "5.00", "open")
    assert await _has(funded.bob) == ("45.00", "0.00", "5.00")
