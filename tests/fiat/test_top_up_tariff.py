"""What top-ups cost and use up of limits: from when they're asked for until they have ended, however that comes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from base.errors import OnebookError
from exchange.errors import RatesTooOld
from fiat.rails.protocol import Capturing
from fiat.rails.sandbox import fee_of
from fiat.rails.top_up_states import TopUpState
from ledger.accounts import house_account
from ledger.errors import RefusedByBook
from ledger.money import Asset, AssetKind
from tariff.desk import Desk as TariffDesk
from tariff.errors import FeeAboveAccepted, FeeTakesAll, LimitExceeded, LimitUnvalued
from tariff.limits import Period
from tariff.schedule import Sum
from tests.fiat.rail_world import ADA, World, make_world
from tests.tariff.samples import HEAD, read

S = TopUpState

TARIFF = read(
    HEAD
    + 'limits.top_up = { operation = "150.00", day = "200.00", month = "1000.00" }\n'
    + 'limits.out = { day = "1.00" }\n'
    + '[[fees]]\noperation = "top_up"\nasset = "EUR"\nflat = "0.25"\npercent = "1"\n'
    + '[[fees]]\noperation = "top_up"\nasset = "EUR"\nrail = "stripe"\npercent = "50"\n'
)
SERVICE_FEE = 125


class NoRates:
    """Nobody knows what anything is worth."""

    async def of(self, asset: Asset, amount: int, reference: Asset) -> int:
        raise RatesTooOld("the rates are from yesterday")


def world_of(database, ledger, clock, entropy, tariff=TARIFF) -> World:
    desk = TariffDesk(tariff, ledger=ledger, worth=NoRates(), clock=clock)
    return make_world(database.engine(), ledger, clock, entropy, tariff=desk)


@pytest.fixture
async def dear(database, ledger, clock, entropy) -> AsyncIterator[World]:
    """A provider's top-ups cost 0.25 and a percent, and 200.00 a day are allowed."""
    world = world_of(database, ledger, clock, entropy)
    yield world
    await world.rails.inbox.aclose()


def terms(world: World) -> TariffDesk:
    return world.rails.top_ups._desk.tariff


async def used(world: World) -> int:
    """What counts in today's limit."""
    of_day = [one for one in await terms(world).limits(ADA) if (one.sum, one.period) == (Sum.TOP_UP, Period.DAY)]
    return of_day[0].used


async def houses(world: World) -> int:
    return await world.balance(house_account("fees", "EUR"))


async def test_the_fee_is_told_before_and_taken_off_what_arrives(dear: World):
    move = await dear.rails.top_ups.move(ADA, rail="sandbox", asset="EUR", amount=10_000)
    told = await terms(dear).preview(move)
    assert (told.price.fee, [one.used for one in told.limits]) == (SERVICE_FEE, [0, 0, 0])
    with pytest.raises(FeeAboveAccepted):
        await dear.top_up(fee_accepted=SERVICE_FEE - 1)
    made = await dear.top_up(fee_accepted=SERVICE_FEE)
    assert (made.state, made.captured, made.service_fee, made.fee) == (S.FINAL, 10_000, SERVICE_FEE, fee_of(10_000))
    assert (await dear.has(), await houses(dear)) == (10_000 - SERVICE_FEE, SERVICE_FEE)
    assert await dear.rails.top_ups.kept(made) == 10_000 - SERVICE_FEE
    assert await dear.at_provider() == 10_000 - fee_of(10_000) == await dear.acts.balance("EUR")
    settled, paid = await dear.ledger.outcomes(f"wrk:top-up:{made.id}:final:1", f"wrk:top-up:{made.id}:costs:1")
    assert paid.seq == settled.seq + 1, "all of it is one entry's group"


async def test_what_waits_isnt_spendable_and_not_yet_charged(dear: World):
    made = await dear.top_up(method=None)
    account = await dear.ledger.account(f"{ADA}/wallet/EUR")
    assert account is not None
    assert (made.service_fee, account.available, account.credits_pending) == (SERVICE_FEE, 0, 10_000)
    assert (await houses(dear), await used(dear)) == (0, 10_000)


async def test_over_the_limit_nobody_is_asked_for_a_payment_and_the_numbers_are_told(dear: World):
    await dear.top_up()
    await dear.top_up()
    asked = len(dear.line.calls)

    async def refused(amount: int, name: str) -> dict[str, Any]:
        with pytest.raises(LimitExceeded) as error:
            await dear.top_up(amount, key=dear.key(name))
        return error.value.facts

    day = await refused(100, "day")
    assert (day["limit"], day["sum"], day["cap"], day["used"], day["available"]) == ("day", "top_up", 20_000, 20_000, 0)
    assert day["frees_at"] is not None
    assert await refused(100, "day") == day, "a repeat is told the same"
    one = await refused(15_001, "operation")
    assert (one["limit"], one["cap"], one["required"]) == ("operation", 15_000, 15_001)
    assert len(dear.line.calls) == asked
    dear.clock.advance(timedelta(days=1))
    assert (await dear.top_up()).state is S.FINAL


async def test_of_many_at_once_only_what_fits_is_charged_by_the_provider(dear: World):
    found = await asyncio.gather(*(dear.top_up(5_000) for _ in range(10)), return_exceptions=True)
    assert {one.code for one in found if isinstance(one, OnebookError)} == {"limit_exceeded"}
    assert len([one for one in found if not isinstance(one, BaseException)]) == 4
    assert (await used(dear), await dear.has()) == (20_000, 20_000 - 4 * 75)


@pytest.mark.parametrize("end", ["declined", "cancelled", "abandoned", "fails_later", "never_arrived"])
async def test_what_came_to_nothing_gives_its_share_back(dear: World, end):
    methods = {"declined": "tok_declined", "cancelled": None, "abandoned": None, "fails_later": "tok_delayed_failed"}
    if end == "never_arrived":
        dear.line.faults.append("before")
    made = await dear.top_up(method=methods.get(end, "tok_visa"))
    if end == "cancelled":
        made = await dear.rails.top_ups.cancel(key=dear.key(), owner=ADA, top_up=made.id)
    elif end == "never_arrived":
        dear.clock.advance(timedelta(hours=25))
        await dear.work()
    elif end != "declined":
        await dear.until_quiet()
    ended = await dear.again(made)
    assert ended.state in (S.FAILED, S.CANCELLED)
    month = next(one for one in await terms(dear).limits(ADA) if one.period is Period.MONTH)
    assert (month.used, await dear.has(), await houses(dear)) == (0, 0, 0)
    account = await dear.ledger.account(f"{ADA}/wallet/EUR")
    assert account is not None
    assert account.credits_pending == 0


async def test_what_nobody_knows_of_counts_until_somebody_does(dear: World):
    dear.line.faults.append("after")
    made = await dear.top_up(15_000)
    assert (made.state, await used(dear)) == (S.UNKNOWN, 15_000)
    with pytest.raises(LimitExceeded):
        await dear.top_up(5_001)
    dear.clock.advance(timedelta(minutes=1))
    await dear.work()
    assert ((await dear.again(made)).state, await used(dear)) == (S.FINAL, 15_000)
    assert await dear.has() == 15_000 - 175


async def test_a_part_costs_its_part_of_the_fee(dear: World):
    made = await dear.top_up(capturing=Capturing.MANUAL)
    done = await dear.rails.top_ups.capture(key=dear.key(), owner=ADA, top_up=made.id, amount=3_333)
    assert (done.captured, done.service_fee) == (3_333, 41)  # 125 * 3,333 / 10,000, rounded down
    assert (await dear.has(), await houses(dear), await used(dear)) == (3_292, 41, 10_000)
    account = await dear.ledger.account(f"{ADA}/wallet/EUR")
    assert account is not None
    assert account.credits_pending == 0, "the rest isn't waited for"


async def test_what_is_taken_after_it_had_ended_is_credited_whatever_the_limit_says(dear: World):
    made = await dear.top_up(method=None)
    assert await dear.rails.top_ups.steps._rows.set(made, S.FAILED, code="as the provider said")
    await dear.top_up()
    await dear.top_up()
    await dear.acts.pay(str(made.source), "tok_visa")
    await dear.rails.top_ups.steps.hear("sandbox", str(made.source), None)
    done = await dear.again(made)
    assert (done.state, done.captured, done.service_fee) == (S.FINAL, 10_000, SERVICE_FEE)
    assert (await dear.has(), await houses(dear)) == (3 * (10_000 - SERVICE_FEE), 3 * SERVICE_FEE)
    assert await used(dear) == 20_000, "its share was given back when it ended"


@pytest.mark.parametrize("method", ["tok_delayed", "tok_delayed_failed"])
async def test_what_an_older_version_asked_for_ends_as_it_would_have(dear: World, method):
    made = await dear.top_up(method=method)
    await dear.older(made)
    await dear.until_quiet()
    ended, paid = await dear.again(made), method == "tok_delayed"
    assert (ended.state, ended.service_fee) == (S.FINAL if paid else S.FAILED, 0)
    assert (await dear.has(), await houses(dear)) == (10_000 if paid else 0, 0)


async def test_a_refund_is_of_what_was_paid_and_the_fee_stays(dear: World):
    made = await dear.top_up()
    with pytest.raises(RefusedByBook, match="insufficient_funds"):
        await dear.rails.refunds.request(key=dear.key(), owner=ADA, top_up=made.id)
    await dear.rails.refunds.request(key=dear.key(), owner=ADA, top_up=made.id, amount=10_000 - SERVICE_FEE)
    assert (await dear.has(), await houses(dear)) == (0, SERVICE_FEE)
    assert await dear.rails.top_ups.kept(await dear.again(made)) == 0
    assert await dear.at_provider() == await dear.acts.balance("EUR")


async def test_a_dispute_takes_what_was_paid_and_the_fee_is_owed(dear: World):
    made = await dear.top_up()
    await dear.rails.disputes.hear("sandbox", await dear.acts.dispute(str(made.source)))
    assert (await dear.has(), await dear.owes(), await houses(dear)) == (0, SERVICE_FEE, SERVICE_FEE)
    assert await dear.at_provider() == await dear.acts.balance("EUR")


async def test_what_the_fee_would_leave_nothing_of_is_refused(dear: World):
    with pytest.raises(FeeTakesAll) as refused:
        await dear.top_up(26)
    assert (refused.value.facts["fee"], refused.value.facts["amount"], dear.line.calls) == (26, 26, [])
    assert (await dear.top_up(27)).service_fee == 26
    assert await dear.has() == 1


async def test_an_allowance_makes_the_first_ones_free(database, ledger, clock, entropy):
    text = HEAD + 'free.top_up = { operations = 1 }\n[[fees]]\noperation = "top_up"\npercent = "1"\n'
    world = world_of(database, ledger, clock, entropy, read(text))
    fees = [(await world.top_up(method=method)).service_fee for method in ("tok_declined", "tok_visa", "tok_visa")]
    assert fees == [0, 0, 100], "one that was declined gave its turn back"
    assert await world.has() == 20_000 - 100
    await world.rails.inbox.aclose()


async def test_without_a_rate_what_is_limited_in_another_asset_isnt_asked_for(dear: World):
    await dear.ledger.register_asset(Asset("USD", AssetKind.FIAT, 2))
    with pytest.raises(LimitUnvalued):
        await dear.rails.top_ups.request(
            key=dear.key(), owner=ADA, rail="sandbox", asset="USD", amount=1_000, method="tok_visa"
        )
    assert dear.line.calls == []
