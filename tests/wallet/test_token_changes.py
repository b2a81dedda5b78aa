"""Tokens whose contract changes under our feet: stopped at once, for a treasurer to look at."""

import pytest

from chain.evm.token_reader import TokenReader
from chain.follower import Did
from chain.local import deploy_circle_usdc, encode_call, send
from chain.token_watch import TokenWatch
from tests.support.chain import start_local_chain
from tests.support.tokens import Token, behind_proxy, implementation, make_beacon, named
from tests.wallet.token_world import UNIT, TokenWorld, token_world
from treasury.errors import TokenChanged, TokenUnfit
from wallet.resources import DepositState
from wallet.withdrawal_states import WaitingFor, WithdrawalState

pytestmark = pytest.mark.slow

_S = DepositState


@pytest.fixture
async def world(tmp_path, database, clock, entropy):
    with start_local_chain(tmp_path) as chain:
        made = await token_world(chain, database.engine(), clock, entropy)
        yield made
        await made.follower.close()


async def why(world: TokenWorld, token: Token) -> str | None:
    return (await world.reviews.get("local", token.address)).known.doubt


async def accept(world: TokenWorld, token: Token, state: str | None = None):
    if state is None:
        finding = (await world.reviews.get("local", token.address)).known.finding
        assert finding is not None
        state = finding.found.fingerprint
    return await world.reviews.accept(
        treasurer="usr_treasurer",
        network="local",
        contract=token.address,
        state=state,
        reason="announced, and reviewed",
    )


async def known(world: TokenWorld, token: Token, **more) -> None:
    """The token is configured, seen and accepted, and Alice has 5 of it."""
    world.know(token.address, **more)
    token.pay(world.to, 5_000_000)
    await world.settle()
    assert (await why(world, token), await world.alice()) == (None, 5_000_000 * UNIT)


async def require_stopped_until_accepted(world: TokenWorld, token: Token, words: str) -> None:
    """What has just been done to the token stops deposits and withdrawals of it, until it is accepted."""
    token.pay(world.to, 2_000_000)
    await world.settle()
    assert words in (await why(world, token) or "")
    assert await world.states() == [_S.FINAL, _S.UNDER_REVIEW]
    assert ((await world.shown())[-1].amount, await world.alice()) == (None, 5_000_000 * UNIT)
    withdrawal = await world.withdraw(1_000_000 * UNIT)
    for _ in range(4):
        await world.withdrawals.step()
    waiting = await world.withdrawals.get(withdrawal.owner, withdrawal.id)
    assert (waiting.state, waiting.waiting_for) == (WithdrawalState.APPROVED, WaitingFor.APPROVAL)
    assert words in (waiting.reason or "")
    _, replayed = await accept(world, token)
    assert not replayed
    await world.settle()
    assert await why(world, token) is None
    assert (await world.states(), token.balance(world.to)) == ([_S.FINAL, _S.FINAL], 7_000_000)
    await world.withdrawals.step()
    waiting = await world.withdrawals.get(withdrawal.owner, withdrawal.id)  # by now for what no hot address has
    assert (waiting.state, waiting.waiting_for) == (WithdrawalState.APPROVED, WaitingFor.FUNDS)
    await world.require_agreement()


async def test_f28_an_upgrade_by_the_eip_1967_slot_stops_the_token(world):
    token = behind_proxy(world.chain)
    await known(world, token)
    token.send("upgradeToAndCall(address,bytes)", implementation(world.chain, 2), b"")
    await require_stopped_until_accepted(world, token, "the implementation slot (EIP-1967) changed")


async def test_f28_an_upgrade_of_the_beacon_stops_the_token(world):
    beacon = make_beacon(world.chain)
    token = behind_proxy(world.chain, beacon=beacon.address)
    await known(world, token)
    beacon.send("upgradeTo(address)", implementation(world.chain, 2), sender=0)
    await require_stopped_until_accepted(world, token, "its implementation changed")


async def test_f28_an_upgrade_of_circle_s_proxy_in_the_older_slot_stops_the_token(world):
    usdc = Token(world.chain, deploy_circle_usdc(world.chain.url).address.lower())
    usdc.send("mint(address,uint256)", world.chain.accounts[1], 10**9, sender=0)
    await known(world, usdc)
    slot = "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3"
    old = "0x" + world.chain.rpc("eth_getStorageAt", usdc.address, slot, "latest")[-40:]
    copied = world.chain.rpc("eth_getCode", old, "latest")
    second = "0x" + "99" * 20
    world.chain.rpc("anvil_setCode", second, copied)  # the same code at another place
    send(world.chain.url, to=usdc.address, call=encode_call("upgradeTo(address)", second), sender=9)
    await require_stopped_until_accepted(world, usdc, "the implementation slot (zos) changed")


async def test_f28_other_code_at_the_same_place_stops_the_token(world):
    token = named(world.chain, "Plain", "PLN")
    await known(world, token)
    other = named(world.chain, "Plain", "PLN2")
    code = world.chain.rpc("eth_getCode", other.address, "latest")
    world.chain.rpc("anvil_setCode", token.address, code)
    world.chain.mine(1)
    await require_stopped_until_accepted(world, token, "its code changed")


async def test_f28_an_upgrade_that_was_taken_back_is_told_by_its_event(world):
    token = behind_proxy(world.chain)
    await known(world, token)
    before = (await world.reviews.get("local", token.address)).known.accepted
    assert before is not None
    token.send("upgradeToAndCall(address,bytes)", implementation(world.chain, 2), b"")
    token.send("upgradeToAndCall(address,bytes)", before.implementation, b"")
    await require_stopped_until_accepted(world, token, "it told of an upgrade in block")
    await world.settle(blocks=8)
    assert await why(world, token) is None  # accepted once, not told again


async def test_f28_changed_decimals_stop_the_token_until_the_configuration_follows(world):
    token = behind_proxy(world.chain)
    await known(world, token)
    token.send("setDecimals(uint8)", 8)
    token.pay(world.to, 200_000_000)
    await world.settle()
    assert "its decimals changed: 6 -> 8" in (await why(world, token) or "")
    with pytest.raises(TokenUnfit, match="has 8 decimals, configured are 6"):
        await accept(world, token)
    assert (await world.states(), await world.alice()) == ([_S.FINAL, _S.UNDER_REVIEW], 5_000_000 * UNIT)
    world.know(token.address, decimals=8)
    await world.settle()
    assert await world.states() == [_S.FINAL, _S.UNDER_REVIEW]  # not by the configuration alone
    await accept(world, token)
    await world.settle()
    assert (await world.shown())[-1].amount == 2 * 10**18  # at the new decimals


async def test_f28_what_was_held_already_is_not_credited_while_the_token_is_stopped(world):
    token = behind_proxy(world.chain)
    await known(world, token)
    token.pay(world.to, 1_000_000)
    await world.settle(blocks=0)
    assert (await world.states())[-1] is _S.PENDING
    token.send("upgradeToAndCall(address,bytes)", implementation(world.chain, 2), b"")
    await world.settle()
    assert (await world.states())[-1] is _S.PENDING
    assert await world.alice() == 5_000_000 * UNIT
    await accept(world, token)
    await world.settle(blocks=0)
    assert ((await world.states())[-1], await world.alice()) == (_S.FINAL, 6_000_000 * UNIT)


async def test_f28_only_the_state_that_was_looked_at_is_accepted(world):
    token = behind_proxy(world.chain)
    await known(world, token)
    with pytest.raises(TokenChanged):
        await accept(world, token, "00" * 32)
    token.send("upgradeToAndCall(address,bytes)", implementation(world.chain, 2), b"")
    await world.settle()
    looked_at = (await world.reviews.get("local", token.address)).known.finding.found.fingerprint
    token.send("upgradeToAndCall(address,bytes)", implementation(world.chain, 3), b"")
    await world.settle()
    with pytest.raises(TokenChanged):
        await accept(world, token, looked_at)
    standing, _ = await accept(world, token)
    assert await accept(world, token, standing.known.accepted.fingerprint) == (standing, True)


async def test_f28_an_upgrade_whose_block_left_the_chain_stops_nothing_any_more(world):
    token = behind_proxy(world.chain)
    await known(world, token)
    second = implementation(world.chain, 2)
    await world.settle()
    token.send("upgradeToAndCall(address,bytes)", second, b"")
    await world.settle(blocks=0)
    assert "changed" in (await why(world, token) or "")
    world.chain.reorg(1, longer=2)
    await world.settle(blocks=0)
    assert await why(world, token) is None


async def test_a_token_that_never_was_what_is_configured_is_stopped_from_the_start(world):
    token = named(world.chain, "Plain", "PLN", decimals=8)
    world.know(token.address)
    token.pay(world.to, 1_000_000)
    await world.settle()
    assert await why(world, token) == "the contract has 8 decimals, configured are 6"
    assert await world.states() == [_S.UNDER_REVIEW]
    world.know(token.address, decimals=8)
    await world.settle()
    assert (await why(world, token), await world.states()) == (None, [_S.FINAL])
    assert await world.alice() == 10**16
    world.know("0x" + "77" * 20)
    await world.settle()
    assert (await world.reviews.all())[-1].known.doubt == "there is no contract at this address"


class Slow(TokenReader):
    """Has its answer, and is overtaken before anybody hears it."""

    def __init__(self, rpc, meanwhile) -> None:
        super().__init__(rpc)
        self._meanwhile = meanwhile

    async def states(self, contracts, *, block):
        found = await super().states(contracts, block=block)
        if self._meanwhile is not None:
            doing, self._meanwhile = self._meanwhile, None
            await doing()
        return found


async def test_of_two_workers_the_one_that_looked_at_an_older_block_stops_nothing(world):
    chain = world.chain
    before = chain.rpc("evm_snapshot")
    place = named(chain, "Token", "TOK").address
    chain.rpc("evm_revert", before)
    world.know(place)

    async def it_comes_and_the_other_accepts_it():
        assert named(chain, "Token", "TOK").address == place
        chain.mine(2)
        await world.follow()

    slow = TokenWatch(
        world.engine,
        network=world.network,
        tokens=world.registry.tokens("local"),
        reader=Slow(world.rpc, it_comes_and_the_other_accepts_it),
        clock=world.common["clock"],
    )
    chain.mine(2)
    for _ in range(10):
        if (await world.follower.step()).did is not Did.ADVANCED:
            break
    await slow.step()
    assert (await world.reviews.get("local", place)).known.trusted
    chain.mine(1)
    await world.follow()
    await slow.step()
    assert (await world.reviews.get("local", place)).known.trusted
