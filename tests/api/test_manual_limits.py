"""What one treasurer does alone, of all assets by what it's worth: adjustments, reversals, credit lines together."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from base.clock import ManualClock
from tests.api.conftest import Caller, Stage, settings_for
from wiring.settings import Settings

pytestmark = pytest.mark.slow

ADJUSTMENTS, REVERSALS, LINES = (f"/v1/treasury/{name}" for name in ("adjustments", "reversals", "credit-lines"))
PROPOSALS = "/v1/treasury/proposals"
MOVE = {"asset": "USDC", "amount": "10.00", "debit": "suspense", "credit": "capital", "reason": "found its owner: us"}
LINE = {"account": "@alice", "asset": "USDC", "cap": "10.00", "reason": "known for years"}
SECOND = "second_person_needed"
WORTH = {"asset": "EUR", "per_entry": "50.00", "per_day": "80.00"}
"""1 EUR is 1.0842 USD and 1.0842 USDC, 1 ETH is 2500.50 USD."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, treasury={"manual_worth": WORTH, "time_zone": "Europe/Berlin"})


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    for account in ("house/suspense/USDC", "house/suspense/ETH", "house/suspense/EUR"):
        await stage.fund_account(account, "1000.00")
    await stage.fund(stage.alice, "500.00", "USDC")
    return stage


async def _sent(stage: Stage, amount: str) -> str:
    body = {"recipient": "@bob", "asset": "USDC", "amount": amount}
    return str((await stage.alice.post("/v1/transfers", body)).json()["id"])


ALONE = [
    # what is moved                        status  what is told (worth rounded up to the cent)
    ({"amount": "54.21"},                  201, {}),  # 50.00 EUR exactly
    ({"amount": "54.210001"},              422, {"code": SECOND, "asset": "EUR", "required": "50.01", "cap": "50.00"}),
    ({"asset": "EUR", "amount": "20.00"},  201, {}),
    ({"asset": "ETH", "amount": "0.005"},  422, {"code": SECOND, "required": "11.54", "used": "70.00"}),
    ({"asset": "ETH", "amount": "0.004"},  201, {}),  # 9.23 EUR
    ({"asset": "EUR", "amount": "0.78"},   422, {"code": SECOND, "used": "79.23", "cap": "80.00"}),
    ({"asset": "EUR", "amount": "0.77"},   201, {}),
]  # fmt: skip


async def test_what_one_moves_of_all_assets_is_limited_by_its_worth(funded: Stage, clock: ManualClock):
    for change, status, told in ALONE:
        answer = await funded.treasurer.post(ADJUSTMENTS, MOVE | change)
        assert answer.status_code == status, (change, answer.text)
        assert told.items() <= answer.json().items(), (change, answer.json())
    other = await funded.another_treasurer()
    assert (await other.post(ADJUSTMENTS, MOVE)).status_code == 201  # a day of their own
    clock.advance(timedelta(hours=23))  # midnight in Berlin, not yet in Greenwich
    assert (await funded.treasurer.post(ADJUSTMENTS, MOVE)).status_code == 201


async def test_what_nobody_knows_the_worth_of_needs_a_second_person_however_little_it_is(
    funded: Stage, clock: ManualClock
):
    clock.advance(timedelta(days=1, seconds=1))  # the rates are a day old at most
    alice = (await funded.alice.get("/v1/balances/USDC")).json()
    for path, body in (
        (ADJUSTMENTS, MOVE | {"amount": "0.000001"}),
        (REVERSALS, {"entry": await _sent(funded, "0.01"), "reason": "mistake"}),
        (LINES, LINE | {"cap": "0.000001"}),
    ):
        refused = (await funded.treasurer.post(path, body)).json()
        assert (refused["code"], refused["asset"], refused["because"]) == (SECOND, "USDC", "rates_too_old"), path
    assert (await funded.treasurer.post(ADJUSTMENTS, MOVE | {"asset": "EUR", "amount": "1.00"})).status_code == 201
    assert (await funded.alice.get("/v1/balances/USDC")).json()["available"] != alice["available"]  # it was sent


async def test_reversals_and_credit_lines_use_up_the_same_day(funded: Stage):
    entry = await _sent(funded, "43.368")  # 40 EUR
    assert (await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "mistake"})).status_code == 201
    line = await funded.treasurer.post(LINES, LINE | {"cap": "32.526"})  # 30 EUR
    assert line.status_code == 200, line.text
    for path, body, required in (
        (ADJUSTMENTS, MOVE | {"asset": "EUR", "amount": "10.01"}, "10.01"),
        (REVERSALS, {"entry": await _sent(funded, "10.85"), "reason": "mistake"}, "10.01"),
        (LINES, LINE | {"cap": "43.40"}, "10.03"),  # raised by 10.874
    ):
        refused = (await funded.treasurer.post(path, body)).json()
        told = {"code": SECOND, "asset": "EUR", "required": required, "used": "70.00", "cap": "80.00"}
        assert told.items() <= refused.items(), (path, refused)
    assert (await funded.treasurer.post(LINES, LINE | {"cap": "0"})).status_code == 200  # taking back uses nothing up
    assert (await funded.treasurer.post(ADJUSTMENTS, MOVE | {"asset": "EUR"})).status_code == 201


async def test_a_part_of_an_entry_uses_up_that_part(funded: Stage):
    entry = await _sent(funded, "200.00")
    whole = (await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "mistake"})).json()
    assert (whole["code"], whole["required"], whole["cap"]) == (SECOND, "184.47", "50.00")
    part = {"entry": entry, "reason": "mistake", "lines": [{"line": 0, "amount": "54.21"}]}
    assert (await funded.treasurer.post(REVERSALS, part)).status_code == 201


async def test_the_day_reached_by_many_acts_at_once_is_never_passed(funded: Stage):
    entries = [await _sent(funded, "32.526") for _ in range(4)]  # 30 EUR each
    tries = [funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "mistake"}) for entry in entries]
    tries += [funded.treasurer.post(ADJUSTMENTS, MOVE | {"asset": "EUR", "amount": "30.00"}) for _ in range(4)]
    told = sorted(answer.status_code for answer in await asyncio.gather(*tries))
    assert told == [201] * 2 + [422] * 6


async def test_a_refused_act_sent_again_is_refused_with_the_same_words(funded: Stage):
    entry = await _sent(funded, "54.21")
    for _ in range(2):
        spend = await funded.treasurer.post(ADJUSTMENTS, MOVE | {"asset": "EUR", "amount": "40.00"})
        assert spend.status_code == 201
    first, again = [
        (await funded.treasurer.post(REVERSALS, {"entry": entry, "reason": "mistake"}, key="once")).json()
        for _ in range(2)
    ]
    assert (first["code"], first["used"], again["used"]) == (SECOND, "80.00", "80.00")


async def _proposed(stage: Stage, path: str, body: dict[str, Any]) -> dict[str, Any]:
    made = await stage.treasurer.post(f"{PROPOSALS}/{path}", body)
    assert made.status_code == 201, made.text
    shown: dict[str, Any] = made.json()
    return shown


async def _confirmed(other: Caller, proposal: dict[str, Any]) -> dict[str, Any]:
    done = await other.post(f"{PROPOSALS}/{proposal['id']}/confirm")
    assert done.status_code == 200, done.text
    shown: dict[str, Any] = done.json()
    return shown


async def test_what_two_want_is_done_once_and_uses_up_nothing(funded: Stage):
    other, entry = await funded.another_treasurer(), await _sent(funded, "200.00")
    lines = [{"line": 0, "amount": "150.00"}]
    proposed = await _proposed(funded, "reversals", {"entry": entry, "reason": "mistake", "lines": lines})
    assert (proposed["kind"], proposed["lines"]) == ("reversal", lines)
    assert (await funded.alice.get("/v1/balances/USDC")).json()["balance"] == "300.00"
    mine = await funded.treasurer.post(f"{PROPOSALS}/{proposed['id']}/confirm")
    assert (mine.status_code, mine.json()["code"]) == (403, "same_person")
    done = await _confirmed(other, proposed)
    assert (done["state"], done["became"][:4]) == ("confirmed", "rev_")
    assert (await funded.alice.get("/v1/balances/USDC")).json()["balance"] == "450.00"
    (back,) = await funded.services.ledger.history(subject=done["became"])
    assert back.metadata == {"reason": "mistake", "by": done["made_by"], "confirmed_by": done["closed_by"]}

    line = await _proposed(funded, "credit-lines", LINE | {"cap": "900.00"})
    assert (line["kind"], line["asset"], line["amount"]) == ("credit_line", "USDC", "900.00")
    account = f"{funded.alice.user}/wallet/USDC"
    assert (await _confirmed(other, line))["became"] == account
    known = await funded.services.ledger.account(account)
    assert known is not None
    assert known.credit_line == 900_000_000
    again = await other.post(f"{PROPOSALS}/{line['id']}/confirm")
    assert (again.status_code, again.json()["code"]) == (409, "proposal_closed")
    for who in (funded.treasurer, other):  # neither has used up anything
        for amount in ("50.00", "30.00"):
            assert (await who.post(ADJUSTMENTS, MOVE | {"asset": "EUR", "amount": amount})).status_code == 201
    assert await funded.services.audit_log.differences() == []


async def test_two_who_confirm_at_once_take_an_entry_back_once(funded: Stage):
    others = [await funded.another_treasurer() for _ in range(2)]
    proposed = await _proposed(funded, "reversals", {"entry": await _sent(funded, "200.00"), "reason": "mistake"})
    answers = await asyncio.gather(*(one.post(f"{PROPOSALS}/{proposed['id']}/confirm") for one in others))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert (await funded.alice.get("/v1/balances/USDC")).json()["balance"] == "500.00"


async def test_what_could_never_be_done_is_not_proposed(funded: Stage):
    for path, body, code in (
        ("reversals", {"entry": "trf_none", "reason": "mistake"}, "unknown_entry"),
        ("credit-lines", LINE | {"account": "@nobody"}, "unknown_user"),
        ("credit-lines", LINE | {"reason": " "}, "reason_missing"),
        ("periods", {"period": "2026-02", "reason": "over"}, "period_unfit"),
    ):
        assert (await funded.treasurer.post(f"{PROPOSALS}/{path}", body)).json()["code"] == code, path
    assert (await funded.treasurer.get(PROPOSALS)).json()["items"] == []
