"""What arrives at the house, and what the treasurer makes of it."""

import asyncio

import pytest

from base.errors import NotFound
from ledger.accounts import house_account, user_account
from ledger.errors import RefusedByBook, RequestConflict, UnknownAsset
from tests.wallet.conftest import ALICE, USDC, fund, key
from tests.wallet.scripted_chain import digest, paid
from treasury.errors import NotAdjustable, ReasonMissing, SuspenseShort
from treasury.records import InflowState

pytestmark = pytest.mark.slow

TX = digest("funding")
SUSPENSE = house_account("suspense", "USDC")
CUSTODY = house_account("custody:local:hot", "USDC")


async def test_what_the_house_gets_waits_in_suspense_once_it_is_final(treasury):
    house = treasury.house
    await house.chain.mine(paid(house.hot, 9_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(2)
    assert await treasury.inflows.step() == 0
    await house.chain.mine_empty(1)
    assert await treasury.inflows.step() == 1
    assert await treasury.inflows.step() == 0
    assert await house.balance(CUSTODY) == -9_000_000
    assert await house.balance(SUSPENSE) == 9_000_000
    (inflow,) = await treasury.inflows.recent()
    assert (inflow.amount, inflow.role, inflow.tx_hash) == (9_000_000, "hot", TX)


async def test_unknown_tokens_and_users_deposits_are_no_inflows(treasury):
    house = treasury.house
    to = (await house.addresses.issue(ALICE, "local")).address
    await house.chain.mine(
        paid(house.hot, 5, contract="0x" + "66" * 20, tx_hash=TX), paid(to, 5_000_000, contract=USDC, tx_hash=TX)
    )
    await house.chain.mine_empty(4)
    assert await treasury.inflows.step() == 0


async def test_f04_an_inflow_that_left_the_chain_is_taken_back_and_booked_anew(treasury):
    house = treasury.house
    await house.chain.mine(paid(house.hot, 9_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(3)
    await treasury.inflows.step()
    await house.chain.reorg(4)
    assert await treasury.inflows.step() == 1
    assert await house.balance(CUSTODY) == 0
    await house.chain.mine(paid(house.hot, 9_000_000, contract=USDC, tx_hash=TX))
    await house.chain.mine_empty(3)
    assert await treasury.inflows.step() == 1
    assert await house.balance(SUSPENSE) == 9_000_000
    assert [inflow.state for inflow in await treasury.inflows.recent()] == [InflowState.BOOKED, InflowState.REVERSED]


def move(treasury, name="m", **change):
    terms = {
        "source": "suspense",
        "target": "capital",
        "asset": "USDC",
        "amount": 4_000_000,
        "reason": "the operator's own funding",
    } | change
    return treasury.adjustments.move(key=key(name, terms), treasurer="usr_treasurer", **terms)


@pytest.fixture
async def funded(treasury):
    await fund(treasury.house.ledger, SUSPENSE, 10_000_000, name="suspense")
    return treasury


async def test_the_treasurer_assigns_what_waits(funded):
    done = await move(funded)
    assert (await move(funded)).replayed
    await funded.house.chain.mine_empty(1)  # a second later, so that it is the newest
    await move(funded, "stock", target="fx", amount=6_000_000)
    assert await funded.house.balance(SUSPENSE) == 0
    assert await funded.house.balance(house_account("fx", "USDC")) == 6_000_000
    newest, oldest = await funded.adjustments.recent()
    assert (newest.target, oldest) == (house_account("fx", "USDC"), done)
    with pytest.raises(RequestConflict):
        await move(funded, amount=1)


async def test_a_user_is_credited_out_of_suspense_by_evidence_only(funded):
    to = user_account(ALICE, "USDC")
    await funded.house.ledger.ensure_open(to)
    with pytest.raises(ReasonMissing):
        await move(funded, target=to)
    await move(funded, "2", target=to, evidence="inf_01")
    assert await funded.house.balance(to) == 4_000_000
    with pytest.raises(NotFound):
        await move(funded, "3", target=user_account("usr_alcie", "USDC"), evidence="inf_01")
    with pytest.raises(NotAdjustable):
        await move(funded, "4", source="capital", target=to, evidence="inf_01")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"amount": 10_000_001}, SuspenseShort),
        ({"reason": "  "}, ReasonMissing),
        ({"source": "custody:local:hot"}, NotAdjustable),
        ({"target": "bank:main"}, NotAdjustable),
        ({"target": "suspense"}, NotAdjustable),
        ({"source": user_account(ALICE, "USDC")}, NotAdjustable),
        ({"target": house_account("capital", "ETH")}, NotAdjustable),
        ({"asset": "DOGE"}, UnknownAsset),
        ({"source": "fx"}, RefusedByBook),
        ({"target": user_account(ALICE, "USDC"), "evidence": "lin_01"}, NotAdjustable),
        ({"target": user_account(ALICE, "USDC"), "evidence": "dep_01"}, NotAdjustable),
    ],
)
async def test_what_may_not_be_adjusted_is_refused(funded, change, error):
    with pytest.raises(error):
        await move(funded, **change)
    assert await funded.adjustments.recent() == []


async def test_concurrent_adjustments_cannot_take_more_out_of_suspense_than_is_there(funded):
    ledger = funded.house.ledger
    await ledger.ensure_open(user_account(ALICE, "USDC"))
    change = {"target": user_account(ALICE, "USDC"), "evidence": "inf_x", "amount": 10_000_000}
    answers = await asyncio.gather(*(move(funded, f"m{n}", **change) for n in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(SuspenseShort) == 4
    assert await funded.house.balance(user_account(ALICE, "USDC")) == 10_000_000
    assert await funded.house.balance(SUSPENSE) == 0
