"""What odd tokens do to deposits, on a real node with the real follower and book.

After each: the book agrees with itself and the chain, and the user sees what became of it.
"""

import pytest

from chain import local
from chain.errors import NodeRefused
from chain.local import NodeKind
from chain.token_watch import STATE_BLOCKS
from chain.tokens import Quirk
from ledger.errors import RefusedByBook
from tests.support.chain import start_local_chain
from tests.support.contracts import create
from tests.support.tokens import PAYER, Token, deploy_weth, named, quirky
from tests.wallet.conftest import ALICE, key
from tests.wallet.token_world import UNIT, TokenWorld, token_world
from wallet.errors import DepositNotCreditable
from wallet.resources import DepositState

pytestmark = pytest.mark.slow

_S = DepositState


@pytest.fixture(params=list(NodeKind))
async def world(request, tmp_path, database, clock, entropy):
    with start_local_chain(tmp_path, request.param) as chain:
        made = await token_world(chain, database.engine(), clock, entropy)
        yield made
        await made.follower.close()


async def credit(world: TokenWorld, deposit: str, name: str = "c", **more):
    return await world.deposit_reviews.credit(
        key=key(name, more), treasurer="usr_treasurer", deposit=deposit, reason="looked at", **more
    )


async def test_f18_what_failed_or_was_taken_back_credits_nothing(world):
    usdc, moves = Token(world.chain, world.chain.token("USDC").lower()), create(world.chain, "Moves")
    assert world.chain.receipt(world.chain.transfer("USDC", world.to, 10**18, gas=100_000))["status"] == "0x0"
    usdc.send("approve(address,uint256)", moves, 1000)
    in_vain = local.encode_call("inVain(address,address,uint256)", usdc.address, world.to, 1000)
    receipt = world.chain.receipt(local.send(world.chain.url, to=moves, call=in_vain, sender=PAYER))
    assert receipt["status"] == "0x1"
    await world.settle()
    assert (await world.shown(), await world.alice("USDC"), usdc.balance(world.to)) == ([], 0, 0)
    await world.require_agreement()


async def test_f19_false_without_an_event_credits_nothing(world):
    token = quirky(world.chain, "FalseToken")
    world.know(token.address, decimals=18)
    token.send("transfer(address,uint256)", world.to, 500, sender=2)  # who has none of it
    await world.settle()
    assert (await world.shown(), await world.alice(), token.balance(world.to)) == ([], 0, 0)
    token.pay(world.to, 500)
    await world.settle()
    assert (await world.states(), await world.alice()) == ([_S.FINAL], 500)
    await world.require_agreement()


async def test_f19_a_look_alike_is_recorded_and_credits_nothing(world):
    fake = named(world.chain, "Local USD Coin", "USDC")
    fake.pay(world.to, 5_000_000)
    world.chain.transfer("USDC", world.to, 3_000_000)
    await world.settle()
    fake_one, true_one = await world.shown()
    assert (fake_one.state, fake_one.asset, fake_one.amount, fake_one.contract) == (
        _S.UNKNOWN_TOKEN,
        None,
        None,
        fake.address,
    )
    assert (true_one.state, true_one.amount) == (_S.FINAL, 3_000_000)
    assert await world.alice("USDC") == 3_000_000
    await world.require_agreement()


async def test_f19_events_that_lie_credit_nothing(world):
    token = quirky(world.chain, "LyingToken")
    world.know(token.address)
    token.pay(world.to, 5_000_000)
    await world.settle()
    (deposit,) = await world.shown()
    assert (deposit.state, deposit.amount, token.balance(world.to)) == (_S.NOT_RECEIVED, 0, 0)
    assert (await world.alice(), await world.suspense()) == (0, 0)
    with pytest.raises(DepositNotCreditable, match="nothing arrived"):
        await credit(world, deposit.id)
    await world.require_agreement()


@pytest.mark.parametrize("name", ["FeeToken", "BoastingToken"])
async def test_f20_of_a_fee_token_what_arrived_is_credited(world, name):
    token = quirky(world.chain, name)
    world.know(token.address, quirks=frozenset({Quirk.FEE_ON_TRANSFER}))
    token.pay(world.to, 1_000_000)
    await world.settle()
    (deposit,) = await world.shown()
    assert (deposit.state, deposit.amount) == (_S.FINAL, 990_000 * UNIT)
    assert (await world.alice(), token.balance(world.to)) == (990_000 * UNIT, 990_000)
    await world.require_agreement()


async def test_f20_less_than_told_of_any_other_token_waits_in_suspense_and_is_credited_once(world):
    token = quirky(world.chain, "BoastingToken")
    world.know(token.address)
    token.pay(world.to, 1_000_000)
    await world.settle()
    (deposit,) = await world.shown()
    assert (deposit.state, deposit.amount) == (_S.QUARANTINED, 990_000 * UNIT)
    assert (await world.alice(), await world.suspense()) == (0, 990_000 * UNIT)
    await world.require_agreement()
    assert [found.id for found in await world.deposit_reviews.recent()] == [deposit.id]
    with pytest.raises(DepositNotCreditable, match="leave the amount out"):
        await credit(world, deposit.id, "more", amount=1_000_000 * UNIT)
    done, _ = await credit(world, deposit.id)
    assert (done.state, done.amount) == (_S.FINAL, 990_000 * UNIT)
    assert await credit(world, deposit.id) == (done, True)
    with pytest.raises(DepositNotCreditable):
        await credit(world, deposit.id, "again")
    assert (await world.alice(), await world.suspense()) == (990_000 * UNIT, 0)
    await world.require_agreement()


async def test_f20_a_rebasing_token_waits_in_suspense_and_its_rebase_is_a_break(world):
    token = quirky(world.chain, "RebasingToken")
    world.know(token.address, quirks=frozenset({Quirk.REBASING}))
    token.pay(world.to, 1_000_000)
    await world.settle()
    (deposit,) = await world.shown()
    assert (deposit.state, deposit.amount, await world.suspense()) == (
        _S.QUARANTINED,
        1_000_000 * UNIT,
        1_000_000 * UNIT,
    )
    await world.require_agreement()
    token.send("rebase(uint256)", 90)
    await world.settle()
    assert (await world.alice(), token.balance(world.to)) == (0, 900_000)
    (gone,) = (await world.reconciler.run()).breaks
    assert (gone.expected, gone.found) == (1_000_000 * UNIT, 900_000 * UNIT)


async def test_f20_what_a_rebase_hides_is_not_credited(world):
    token = quirky(world.chain, "RebasingToken")
    world.know(token.address)  # nobody knew
    token.pay(world.to, 1_000_000)
    await world.settle()
    assert await world.alice() == 1_000_000 * UNIT
    world.chain.set_automine(False)
    shrink = local.encode_call("rebase(uint256)", 50)
    local.send(world.chain.url, to=token.address, call=shrink, gas=100_000, seconds=None, sender=2)
    paying = local.encode_call("transfer(address,uint256)", world.to, 300_000)
    local.send(world.chain.url, to=token.address, call=paying, gas=100_000, seconds=None, sender=PAYER)
    world.chain.mine(1)
    world.chain.set_automine(True)
    await world.settle()
    assert await world.states() == [_S.FINAL, _S.NOT_RECEIVED]  # it holds less after the block than before
    assert await world.alice() == 1_000_000 * UNIT
    (gone,) = (await world.reconciler.run()).breaks
    assert (gone.expected, gone.found) == (1_000_000 * UNIT, token.balance(world.to) * UNIT)


async def test_f20_tokens_that_answer_nothing_and_wrapped_ether_are_credited_as_told(world):
    token = quirky(world.chain, "NoReturnToken")
    world.know(token.address, quirks=frozenset({Quirk.NO_RETURN_VALUE}))
    token.pay(world.to, 1_000_000)
    await world.settle()
    assert (await world.states(), await world.alice()) == ([_S.FINAL], 1_000_000 * UNIT)
    await world.require_agreement()
    weth = deploy_weth(world.chain)
    world.know(weth.address, decimals=18)
    local.send(world.chain.url, to=weth.address, value=10**18, call=local.encode_call("deposit()"), sender=PAYER)
    weth.pay(world.to, 10**17)
    await world.settle()
    assert (await world.shown())[-1].amount == 10**17


async def test_f20_where_no_node_knows_the_balances_any_more_only_plain_tokens_are_credited(world):
    def forgetful(answer, call, _at):
        forgotten = call["data"].startswith("0x70a08231")  # balanceOf(address)
        return NodeRefused("header not found") if forgotten else answer

    world.rpc.bends["eth_call"] = forgetful
    token = quirky(world.chain, "FeeToken")
    world.know(token.address, quirks=frozenset({Quirk.FEE_ON_TRANSFER}))
    token.pay(world.to, 1_000_000)
    world.chain.transfer("USDC", world.to, 3_000_000)
    await world.settle()
    assert await world.states() == [_S.UNDER_REVIEW] * 2  # a node may only lag
    for _ in range(STATE_BLOCKS // 4):
        world.chain.mine(4)  # what Hardhat mines in long stretches isn't connected
    await world.settle()
    fee, usdc = await world.shown()
    assert (usdc.state, usdc.amount, await world.alice("USDC")) == (_S.FINAL, 3_000_000, 3_000_000)
    assert (fee.state, fee.amount, await world.alice()) == (_S.UNDER_REVIEW, None, 0)
    for name, amount in (("none", None), ("too much", 1_000_001 * UNIT)):
        with pytest.raises(DepositNotCreditable, match="say what arrived"):
            await credit(world, fee.id, name, amount=amount)
    await credit(world, fee.id, amount=token.balance(world.to) * UNIT)
    assert await world.alice() == 990_000 * UNIT
    await world.require_agreement()


async def test_f23_several_in_one_transaction_count_each_once_and_nothing_is_ignored(world):
    usdc, moves = Token(world.chain, world.chain.token("USDC").lower()), create(world.chain, "Moves")
    usdc.send("approve(address,uint256)", moves, 1000)
    many = local.encode_call(
        "many(address,address[],uint256[])", usdc.address, [world.to] * 4 + [moves], [100, 200, 0, 300, 50]
    )
    local.send(world.chain.url, to=moves, call=many, sender=PAYER)
    await world.settle()
    assert [deposit.amount for deposit in await world.shown()] == [100, 200, 300]
    assert await world.states() == [_S.FINAL] * 3
    assert (await world.alice("USDC"), usdc.balance(world.to)) == (600, 600)
    await world.require_agreement()


async def test_f23_shares_of_several_sum_to_what_came(world):
    token = quirky(world.chain, "BoastingToken")
    world.know(token.address, quirks=frozenset({Quirk.FEE_ON_TRANSFER}))
    world.chain.set_automine(False)
    for amount in (333_333, 777_777, 101):
        paying = local.encode_call("transfer(address,uint256)", world.to, amount)
        local.send(world.chain.url, to=token.address, call=paying, gas=100_000, seconds=None, sender=PAYER)
    world.chain.mine(1)
    world.chain.set_automine(True)
    await world.settle()
    assert await world.alice() == token.balance(world.to) * UNIT
    assert await world.states() == [_S.FINAL] * 3
    await world.require_agreement()


async def test_f24_too_little_waits_in_suspense_and_the_treasurer_credits_it_once(world):
    token = named(world.chain, "Plain", "PLN")
    world.know(token.address, deposit_minimum=1_000_000 * UNIT)
    token.pay(world.to, 999_999)
    await world.settle(blocks=0)
    (deposit,) = await world.shown()
    assert deposit.state is _S.BELOW_MINIMUM
    with pytest.raises(DepositNotCreditable, match="isn't final"):
        await credit(world, deposit.id, "early")
    await world.settle()
    assert (await world.alice(), await world.suspense()) == (0, 999_999 * UNIT)
    await world.require_agreement()
    await credit(world, deposit.id)
    with pytest.raises((DepositNotCreditable, RefusedByBook)):
        await credit(world, deposit.id, "again")
    assert (await world.states(), await world.alice(), await world.suspense()) == ([_S.FINAL], 999_999 * UNIT, 0)
    await world.require_agreement()


async def test_f24_an_unknown_token_is_creditable_once_it_is_configured(world):
    token = named(world.chain, "Plain", "PLN")
    token.pay(world.to, 7_000_000)
    await world.settle()
    (deposit,) = await world.shown()
    assert (deposit.state, deposit.chain_amount, deposit.amount) == (_S.UNKNOWN_TOKEN, 7_000_000, None)
    with pytest.raises(DepositNotCreditable, match="configure it first"):
        await credit(world, deposit.id, "early")
    await world.require_agreement()
    world.know(token.address)
    await world.settle()
    assert (await world.states(), await world.alice()) == ([_S.UNKNOWN_TOKEN], 0)  # not by itself
    done, replayed = await credit(world, deposit.id)
    assert (done.state, done.asset, done.amount, replayed) == (_S.FINAL, "TOK", 7_000_000 * UNIT, False)
    assert (await credit(world, deposit.id))[1]
    with pytest.raises(DepositNotCreditable, match="needs no help"):
        await credit(world, deposit.id, "again")
    assert await world.alice() == 7_000_000 * UNIT
    assert [found.id for found in await world.deposits.list_for(ALICE)] == [deposit.id]
    await world.require_agreement()
