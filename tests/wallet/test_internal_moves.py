"""Our own moves between our own addresses, signed by the real signer and mined: told by hash, never by who sent."""

from collections.abc import Iterator

import pytest
from eth_account import Account
from sqlalchemy import select

from base.ids import new_id
from chain import addresses, tables, transactions
from chain.evm.addresses import show_address
from chain.signing import OwnAddress, OwnKey, Role
from chain.transaction_states import Kind, State
from chain.transactions import Payment
from custody.derivation import AccountKeys
from custody.derivation import Role as CustodyRole
from db.engine import tx
from tests.api.conftest import SEED
from tests.support.chain import RunningChain, start_local_chain
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.support.whole_house import WholeHouse, whole_house

pytestmark = pytest.mark.slow

ETHER = 10**18


@pytest.fixture
def chain(tmp_path) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path) as running:
        yield running


@pytest.fixture
def signer(tmp_path, chain) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path / "signer", generous_policy(chain.chain_id, chain.token("USDC").lower()))
    yield running
    running.stop()


@pytest.fixture
async def house(chain, signer, database, tmp_path):
    async with whole_house(chain, database, tmp_path, signer=signer) as made:
        await made.work()
        yield made


async def own(house: WholeHouse, role: Role) -> OwnAddress:
    """The house's address of this role; of deposit the one that is Alice's."""
    async with tx(house.parts.engine) as connection:
        if role is not Role.DEPOSIT:
            found = await addresses.house(connection, key=OwnKey(role, 0))
            assert found is not None
            return found
        (alices,) = await addresses.of_owner(connection, book=house.services.ledger.book, owner=house.alice.user or "")
        return alices


async def move(
    house: WholeHouse,
    kind: Kind,
    sender: OwnAddress,
    to: OwnAddress | str,
    amount: int,
    *,
    contract: str | None = None,
) -> None:
    """An own move, reserved as whoever makes such will, then signed, sent, mined and followed until it's final."""
    payment = Payment(
        network="local",
        kind=kind,
        book=house.services.ledger.book,
        subject=new_id(kind[:3], house.parts.clock, house.parts.entropy),
        sender=sender,
        contract=contract,
        to=to,
        amount=amount,
        gas_limit=100_000,
        fee_wei_max=ETHER // 10,
    )
    async with tx(house.parts.engine) as connection:
        await transactions.reserve(connection, payment, clock=house.parts.clock, entropy=house.parts.entropy)
    await house.work()
    await house.work(blocks=5)
    async with tx(house.parts.engine) as connection:
        done = await transactions.find(connection, book=payment.book, subject=payment.subject)
        own = tables.transactions.c
        asked = select(own.state, own.refusal).where(own.subject == payment.subject)
        told = list(await connection.execute(asked))
    assert done is not None, (told, house.trouble)
    assert done.state is State.FINAL, done


async def seen(house: WholeHouse) -> list[tuple[str, str | None]]:
    """Alice's deposits, in the order of the chain."""
    return [(deposit["asset"], deposit["amount"]) for deposit in reversed(await house.deposits(house.alice))]


@pytest.mark.long
async def test_f26_our_own_sweep_top_up_and_refill_are_internal_and_a_withdrawal_to_a_deposit_address_is_not(house):
    chain, usdc = house.chain, house.chain.token("USDC").lower()
    alice = await house.address(house.alice)
    deposit, hot, gas = [await own(house, role) for role in (Role.DEPOSIT, Role.HOT, Role.GAS)]
    assert deposit.address == alice
    for place in (hot, gas):
        chain.faucet(place.address, 10 * ETHER)
    chain.transfer("USDC", alice, 50_000_000)
    await house.work(blocks=4)
    in_suspense = await house.house("suspense", "ETH")
    assert in_suspense == 20 * ETHER  # what strangers sent to the house's own addresses

    await move(house, Kind.GAS_TOPUP, gas, deposit, ETHER // 100)
    assert chain.balance("ETH", alice) == ETHER // 100
    await move(house, Kind.SWEEP, deposit, hot, 50_000_000, contract=usdc)
    assert (chain.balance("USDC", alice), chain.balance("USDC", hot.address)) == (0, 50_000_000)
    await move(house, Kind.REFILL, hot, gas, ETHER)
    assert chain.balance("ETH", gas.address) > 10 * ETHER
    assert await seen(house) == [("USDC", "50.00")]
    assert (await house.house("suspense", "ETH"), await house.house("suspense")) == (in_suspense, 0)

    bob = await house.address(house.bob)
    sent = chain.rpc("eth_getTransactionCount", hot.address, "latest")
    body = {"asset": "USDC", "network": "local", "address": bob, "amount": "20.00"}
    inside = (await house.alice.post("/v1/withdrawals", body)).json()
    assert (inside["state"], inside["internal"], inside["tx_hash"]) == ("final", True, None)
    assert chain.rpc("eth_getTransactionCount", hot.address, "latest") == sent, "settled in the book"
    assert (await house.balance(house.bob), await house.deposits(house.bob)) == ("20.00", [])

    # One that was on its way over the chain before the address was anybody's here.
    await move(house, Kind.WITHDRAWAL, hot, bob, 20_000_000, contract=usdc)
    (arrived,) = await house.deposits(house.bob)
    assert (arrived["state"], arrived["amount"]) == ("final", "20.00")
    assert arrived["sender"].lower() == hot.address
    assert await house.balance(house.bob) == "40.00"


async def test_f26_what_our_hot_address_sends_without_us_is_a_deposit_like_any_other(chain, database, tmp_path):
    thief = Account.from_key(AccountKeys(CustodyRole.HOT, SEED).private_key(0))
    async with whole_house(chain, database, tmp_path) as house:
        alice = await house.address(house.alice)
        await house.work()
        hot = await own(house, Role.HOT)
        assert thief.address.lower() == hot.address
        chain.faucet(hot.address, ETHER)
        paying = {"chainId": chain.chain_id, "nonce": 0, "to": show_address(alice), "value": ETHER // 4, "gas": 21_000}
        signed = thief.sign_transaction({**paying, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**8})
        chain.receipt(chain.rpc("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex()))
        await house.work(blocks=4)
        assert await seen(house) == [("ETH", "0.25")]
        assert await house.balance(house.alice, "ETH") == "0.25"
