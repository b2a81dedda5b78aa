"""What a treasurer may move alone, and what needs a second one; each by its own key, also at once."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from base.clock import ManualClock
from tests.api.conftest import Caller, Stage, settings_for
from wiring.settings import Settings

pytestmark = pytest.mark.slow

ADJUSTMENTS, PROPOSALS = "/v1/treasury/adjustments", "/v1/treasury/proposals"
MOVE = {"asset": "USDC", "amount": "60.00", "debit": "suspense", "credit": "capital", "reason": "found its owner: us"}
LIMITS = {
    "manual": [{"asset": "USDC", "per_entry": "50.00", "per_day": "80.00"}, {"asset": "EUR", "per_day": "10"}],
    "proposal_hours": 24,
    "time_zone": "Europe/Berlin",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, treasury=LIMITS)


@pytest.fixture
async def funded(stage: Stage) -> Stage:
    for account in ("house/suspense/USDC", "house/suspense/ETH", "house/suspense/EUR"):
        await stage.fund_account(account, "1000.00")
    return stage


@pytest.fixture
async def other(funded: Stage) -> Caller:
    made = await funded.operator.post("/v1/api-keys", {"label": "the other treasurer", "scopes": ["treasury"]})
    return Caller(funded.api, made.json()["secret"])


async def _proposed(stage: Stage, **change: str) -> str:
    made = await stage.treasurer.post(PROPOSALS, MOVE | change)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def _suspense(stage: Stage, asset: str = "USDC") -> int:
    account = await stage.services.ledger.account(f"house/suspense/{asset}")
    assert account is not None
    return account.balance


SECOND = "second_person_needed"
ALONE = [
    # what is moved                        status  what is told
    ({"amount": "50.00"},                  201, {}),
    ({"amount": "50.000001"},              422, {"code": SECOND, "required": "50.000001", "cap": "50.00"}),
    ({"amount": "30.00"},                  201, {}),
    ({"amount": "0.000001"},               422, {"code": SECOND, "used": "80.00", "cap": "80.00"}),
    ({"asset": "EUR", "amount": "10.00"},  201, {}),
    ({"asset": "EUR", "amount": "0.01"},   422, {"code": SECOND, "used": "10.00", "cap": "10.00"}),
    ({"asset": "ETH", "amount": "0.01"},   422, {"code": SECOND, "cap": "0.00"}),
]  # fmt: skip


async def test_one_treasurer_moves_so_much_an_entry_and_a_day_and_then_needs_another(
    funded: Stage, other: Caller, clock: ManualClock
):
    for change, status, told in ALONE:
        answer = await funded.treasurer.post(ADJUSTMENTS, MOVE | change)
        assert answer.status_code == status, answer.text
        assert told.items() <= answer.json().items(), change
    assert (await other.post(ADJUSTMENTS, MOVE | {"amount": "50.00"})).status_code == 201  # a day of their own
    clock.advance(timedelta(hours=23))  # midnight in Berlin, not yet in Greenwich
    assert (await funded.treasurer.post(ADJUSTMENTS, MOVE | {"amount": "50.00"})).status_code == 201


async def test_the_limit_of_a_day_reached_by_many_at_once_is_never_passed(funded: Stage):
    tries = [funded.treasurer.post(ADJUSTMENTS, MOVE | {"amount": "30.00"}) for _ in range(10)]
    told = sorted([answer.status_code for answer in await asyncio.gather(*tries)])
    assert told == [201] * 2 + [422] * 8
    assert await _suspense(funded) == 940_000_000


async def test_nothing_is_booked_before_another_treasurer_has_confirmed(funded: Stage, other: Caller):
    proposal = await _proposed(funded)
    assert await _suspense(funded) == 1_000_000_000
    mine = await funded.treasurer.post(f"{PROPOSALS}/{proposal}/confirm")
    assert (mine.status_code, mine.json()["code"]) == (403, "same_person")
    done = (await other.post(f"{PROPOSALS}/{proposal}/confirm")).json()
    assert (done["state"], await _suspense(funded)) == ("confirmed", 940_000_000)
    (adjustment,) = (await funded.treasurer.get(ADJUSTMENTS)).json()["items"]
    assert (adjustment["id"], adjustment["made_by"]) == (done["became"], done["made_by"])
    assert done["closed_by"] != done["made_by"]
    log = (await funded.treasurer.get("/v1/treasury/audit-log", subject=proposal)).json()["items"]
    assert sorted((one["action"], one["outcome"]) for one in log) == [
        ("proposal.confirm", "done"), ("proposal.confirm", "refused"), ("proposal.create", "done"),
    ]  # fmt: skip
    assert await funded.services.audit_log.differences() == []


async def test_two_who_confirm_at_once_book_it_once(funded: Stage, other: Caller):
    made = await funded.operator.post("/v1/api-keys", {"label": "a third", "scopes": ["treasury"]})
    third = Caller(funded.api, made.json()["secret"])
    for number in range(1, 6):
        path = f"{PROPOSALS}/{await _proposed(funded, reason=f'number {number}')}"
        tries = [who.post(f"{path}/confirm") for who in (other, third)] + [funded.treasurer.post(f"{path}/withdraw")]
        told = [(answer.status_code, answer.json()["state"]) for answer in await asyncio.gather(*tries)]
        (done,) = [state for status, state in told if status == 200]
        assert [answer for answer in told if answer[0] != 200] == [(409, done)] * 2
        shown = (await funded.treasurer.get(path)).json()
        assert shown["state"] == done
        assert (shown["became"] is not None) == (done == "confirmed")
    adjustments = (await funded.treasurer.get(ADJUSTMENTS)).json()["items"]
    assert await _suspense(funded) == 1_000_000_000 - 60_000_000 * len(adjustments)
    assert await funded.services.audit_log.differences() == []


async def test_a_confirmation_sent_again_gives_the_first_answer(funded: Stage, other: Caller):
    path = f"{PROPOSALS}/{await _proposed(funded)}/confirm"
    first, again = [await other.post(path, key="once") for _ in range(2)]
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert await _suspense(funded) == 940_000_000


async def test_what_waited_too_long_or_was_withdrawn_is_confirmed_by_nobody(
    funded: Stage, other: Caller, clock: ManualClock
):
    late, withdrawn = await _proposed(funded), await _proposed(funded)
    assert (await funded.treasurer.post(f"{PROPOSALS}/{withdrawn}/withdraw")).json()["state"] == "withdrawn"
    open_ones = (await other.get(PROPOSALS, open="true")).json()["items"]
    assert [one["id"] for one in open_ones] == [late]
    clock.advance(timedelta(hours=24))
    for proposal, state in ((late, "expired"), (withdrawn, "withdrawn")):
        refused = await other.post(f"{PROPOSALS}/{proposal}/confirm")
        assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (409, "proposal_closed", state)
    assert (await other.get(PROPOSALS, open="true")).json()["items"] == []
    assert await _suspense(funded) == 1_000_000_000


async def test_what_could_never_be_moved_is_not_proposed(funded: Stage):
    for change, code in (({"debit": "custody:local:hot"}, "not_adjustable"), ({"reason": " "}, "reason_missing")):
        assert (await funded.treasurer.post(PROPOSALS, MOVE | change)).json()["code"] == code
    assert (await funded.treasurer.get(PROPOSALS)).json()["items"] == []
