"""Deposit addresses swept on a real chain by the real signer: with gas that was brought, and by authorisation."""

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, update

from base.clock import SystemClock
from chain import foreign_store, local
from chain import tables as chain_tables
from chain.evm.addresses import show_address
from chain.foreign import Finding, Kind
from custody.derivation import Role
from db.engine import tx
from tests.api.conftest import RATES, Caller
from tests.support.chain import RunningChain, start_local_chain
from tests.support.eip3009 import AUTHORIZATION_USED, used
from tests.support.postgres import fresh_database
from tests.support.signer import RunningSigner, generous_policy, start_signer
from tests.support.tokens import Token, quirky
from tests.support.whole_house import WholeHouse, whole_house
from treasury.tables import moves, sweeps

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ETHER = 10**18
DOLLAR = 10**6
STRANGER = 7
LISTED = 2
"""Development accounts: one that carries what isn't its own, and one on the list of senders."""

ASSETS = [
    {"code": "USDC", "kind": "stablecoin", "scale": 6},
    {"code": "DAI", "kind": "stablecoin", "scale": 18},
    {"code": "TAX", "kind": "crypto", "scale": 6},
    {"code": "ETH", "kind": "crypto", "scale": 18},
]
BLOCKS_MAX = 25
_names = count(1)


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Iterator[RunningChain]:
    with start_local_chain(tmp_path_factory.mktemp("sweeps")) as running:
        yield running


@pytest.fixture(scope="module")
def circle(chain) -> str:
    """Circle's own USDC, whose owner is the faucet; account 1 has a million of it."""
    token = local.deploy_circle_usdc(chain.url).address
    mint = local.encode_call("mint(address,uint256)", chain.accounts[1], 10**6 * DOLLAR)
    local.send(chain.url, to=token, call=mint)
    return token


@pytest.fixture(scope="module")
def taxed(chain) -> Token:
    """A token that keeps a hundredth of each transfer."""
    return quirky(chain, "FeeToken")


@pytest.fixture(scope="module")
def signer(tmp_path_factory, chain, circle, taxed) -> Iterator[RunningSigner]:
    usdc = circle.lower()
    tokens = (usdc, chain.token("DAI").lower(), taxed.address)
    policy = generous_policy(chain.chain_id, *tokens, domains={usdc: ("USD Coin", "2")})
    running = start_signer(tmp_path_factory.mktemp("signer"), policy)
    yield running
    running.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(chain, circle, taxed, signer, postgres, tmp_path_factory) -> AsyncIterator[WholeHouse]:
    """One for the module. Its USDC is Circle's, and swept by authorisation; DAI and ETH by transactions.

    What the house's own addresses have is assigned; account 2 is on the list of senders.
    """
    home = tmp_path_factory.mktemp("house")
    today = RATES.replace("2026-01-01T00:00:00Z", SystemClock().now().isoformat())
    (home / "more-rates.toml").write_text(today + '\n[[pairs]]\nbase = "TAX"\nquote = "USD"\nrate = "1"\n')
    (home / "listed.txt").write_text(f"{chain.accounts[LISTED]}   # a letter\n")
    async with (
        fresh_database(postgres) as database,
        whole_house(
            chain,
            database,
            home,
            signer=signer,
            network={"spendable_depth": 1, "final_depth": 2},
            assets=ASSETS,
            bank_accounts=[],
            usdc={
                "contract": circle,
                "authorisation": {"name": "USD Coin", "version": "2"},
                "sweep_threshold": "100",
            },
            tokens=[
                {"asset": "DAI", "contract": chain.token("DAI"), "decimals": 18, "sweep_threshold": "100"},
                {
                    "asset": "TAX",
                    "contract": taxed.address,
                    "decimals": 6,
                    "sweep_threshold": "100",
                    "quirks": ["fee_on_transfer"],
                },
            ],
            screening_list=home / "listed.txt",
            rates=home / "more-rates.toml",
            sweeps={"gas_price_max_gwei": 500, "tries": 2},
        ) as made,
    ):
        await made.work()
        for role in (Role.HOT, Role.GAS):
            chain.faucet("0x" + signer.address(role).hex(), ETHER)
        await made.work(blocks=2)
        yield made


# What the tests do to it


async def person(house: WholeHouse) -> tuple[Caller, str]:
    """Somebody new, and their deposit address."""
    identity = house.services.identity
    user = await identity.create_user(handle=f"person{next(_names)}")
    key = await identity.create_key(label="key", scopes=["user"], user=user.id)
    who = Caller(house.api, key.secret, user.id)
    return who, await house.address(who)


def give(house: WholeHouse, to: str, dollars: int) -> None:
    """Circle's USDC, of account 1."""
    call = local.encode_call("transfer(address,uint256)", to, dollars * DOLLAR)
    local.send(house.chain.url, to=usdc(house), call=call, sender=1)


def usdc(house: WholeHouse) -> str:
    (deployment,) = [one for one in house.parts.registry.deployments if one.asset == "USDC"]
    return str(deployment.contract)


def held(house: WholeHouse, owner: str) -> int:
    call = {"to": usdc(house), "data": "0x" + local.encode_call("balanceOf(address)", owner).hex()}
    return int(house.chain.rpc("eth_call", call, "latest"), 16)


async def sweeps_at(house: WholeHouse, address: str) -> list[dict[str, Any]]:
    """Sweeps of this address, the newest first."""
    found = await house.items(house.treasurer, "/v1/treasury/sweeps")
    return [one for one in found if one["address"].lower() == address]


async def until(house: WholeHouse, address: str, state: str, *, agreeing: bool = False) -> dict[str, Any]:
    """Mine and work until the newest sweep there is in that state; `agreeing`: without a break at any block."""
    for _ in range(BLOCKS_MAX):
        found = await sweeps_at(house, address)
        if found and found[0]["state"] == state:
            return found[0]
        await house.work(blocks=1 if agreeing or state != "final" else 4)
        if agreeing:
            run = await house.services.reconciler.run()
            assert run.breaks == (), run.breaks
    raise AssertionError(f"no sweep became {state}: {found}; {house.trouble}")


async def rest(house: WholeHouse) -> None:
    """All of ours is final and booked, and what our addresses hold is what the book says."""
    for _ in range(BLOCKS_MAX // 4):
        await house.work(blocks=4)
        async with tx(house.parts.engine) as connection:
            waiting = (await connection.execute(select(moves.c.id).where(moves.c.state == "under_way"))).all()
        if not waiting:
            break
    await house.require_agreement()


async def books(house: WholeHouse, *assets: str) -> dict[str, int]:
    """The house's accounts that aren't at zero, of these assets."""
    accounts = await house.services.ledger.accounts(owner="house")
    return {f"{one.purpose} {one.asset}": one.balance for one in accounts if one.asset in assets and one.balance}


def moved(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {
        name: after.get(name, 0) - before.get(name, 0) for name in before | after if after.get(name) != before.get(name)
    }


async def spent(house: WholeHouse, subjects: Sequence[str]) -> int:
    """The gas in wei of these own transactions."""
    own = chain_tables.transactions.c
    async with tx(house.parts.engine) as connection:
        rows = (await connection.execute(select(own.subject, own.fee_wei).where(own.subject.in_(subjects)))).all()
    assert len(rows) == len(subjects)
    return sum(row.fee_wei for row in rows)


def subjects(sweep: dict[str, Any], *prefixes: str) -> list[str]:
    return [f"{prefix}_{sweep['id'].partition('_')[2]}" for prefix in prefixes]


# Tests


async def test_a_sweep_brings_its_gas_first_and_takes_no_listed_sender_s_money(house, signer):
    chain, hot = house.chain, "0x" + signer.address(Role.HOT).hex()
    alice, address = await person(house)
    before = await books(house, "DAI", "ETH")
    chain.transfer("DAI", address, 120 * ETHER)
    chain.transfer("DAI", address, 30 * ETHER, sender=LISTED)
    swept = await until(house, address, "final", agreeing=True)
    assert (swept["amount"], swept["method"], swept["asset"]) == ("120.00", "transfer", "DAI")
    assert chain.balance("DAI", address) == 30 * ETHER
    assert chain.balance("DAI", hot) == 120 * ETHER
    await rest(house)
    gas_left = chain.balance("ETH", address)
    top_up, sweep = subjects(swept, "gtu", "swp")
    gas = await spent(house, [top_up, sweep])
    by_gas_address = await spent(house, [top_up])
    assert 0 < by_gas_address < gas
    assert moved(before, await books(house, "DAI", "ETH")) == {
        "custody:local:hot DAI": -120 * ETHER,
        "custody:local:deposit DAI": -30 * ETHER,
        "quarantine DAI": 30 * ETHER,
        "network-fees ETH": -gas,
        "custody:local:deposit ETH": -gas_left,
        "custody:local:gas ETH": gas_left + gas,
    }
    assert [one["asset"] for one in await house.deposits(alice)] == ["DAI", "DAI"]  # the gas is nobody's deposit
    assert await sweeps_at(house, address) == [await read(house, swept["id"])]


async def read(house: WholeHouse, sweep: str) -> dict[str, Any]:
    found: dict[str, Any] = (await house.treasurer.get(f"/v1/treasury/sweeps/{sweep}")).json()
    return found


async def test_an_authorised_sweep_needs_no_gas_at_its_address(house, signer):
    hot = "0x" + signer.address(Role.HOT).hex()
    _, address = await person(house)
    before, at_hot = await books(house, "USDC", "ETH"), held(house, hot)
    give(house, address, 250)
    swept = await until(house, address, "final")
    assert (swept["amount"], swept["method"]) == ("250.00", "authorisation")
    assert (held(house, address), held(house, hot) - at_hot) == (0, 250 * DOLLAR)
    assert house.chain.balance("ETH", address) == 0
    receipt = house.chain.receipt(swept["tx_hash"])
    assert [owner for owner, _ in used(receipt, usdc(house))] == [address]
    await rest(house)
    gas = await spent(house, subjects(swept, "rly"))
    assert moved(before, await books(house, "USDC", "ETH")) == {
        "custody:local:hot USDC": -250 * DOLLAR,
        "network-fees ETH": -gas,
        "custody:local:gas ETH": gas,
    }


async def test_f78_what_a_stranger_relays_first_is_one_sweep_and_our_own_relay_s_gas_is_booked(house, signer):
    chain, hot = house.chain, "0x" + signer.address(Role.HOT).hex()
    _, address = await person(house)
    before, at_hot = await books(house, "USDC", "ETH"), held(house, hot)
    give(house, address, 300)
    chain.set_automine(False)
    try:
        await house.work(blocks=2)
        (sent,) = await sweeps_at(house, address)
        assert (sent["state"], sent["method"]) == ("broadcast", "authorisation")
        ours = chain.rpc("eth_getTransactionByHash", sent["tx_hash"])
        first = {
            "from": chain.accounts[STRANGER],
            "to": usdc(house),
            "data": ours["input"],
            "gas": hex(300_000),
            "maxFeePerGas": hex(10**12),
            "maxPriorityFeePerGas": hex(10**11),
        }
        theirs = chain.rpc("eth_sendTransaction", first)
        chain.mine()
    finally:
        chain.set_automine(True)
    assert [chain.receipt(one)["status"] for one in (theirs, sent["tx_hash"])] == ["0x1", "0x0"]
    swept = await until(house, address, "final", agreeing=True)
    assert (swept["id"], swept["tx_hash"]) == (sent["id"], theirs)
    assert (held(house, address), held(house, hot) - at_hot) == (0, 300 * DOLLAR)
    await rest(house)
    gas = await spent(house, subjects(swept, "rly"))
    assert moved(before, await books(house, "USDC", "ETH")) == {
        "custody:local:hot USDC": -300 * DOLLAR,  # and nothing in suspense: it's no stranger's gift either
        "network-fees ETH": -gas,
        "custody:local:gas ETH": gas,
    }
    assert len(await sweeps_at(house, address)) == 1
    assert "sender_halted" not in await house.alerts(), "our own signature allowed what left there"
    logs = {"address": usdc(house), "fromBlock": "0x0", "topics": [AUTHORIZATION_USED, f"0x{address[2:]:0>64}"]}
    assert len(chain.rpc("eth_getLogs", logs)) == 1


async def test_f20_of_a_token_that_keeps_a_part_of_each_transfer_what_leaves_and_what_arrives_are_booked(
    house, signer, taxed
):
    hot = "0x" + signer.address(Role.HOT).hex()
    alice, address = await person(house)
    before = await books(house, "TAX")
    taxed.pay(address, 1000 * DOLLAR)
    swept = await until(house, address, "final", agreeing=True)
    assert swept["amount"] == "990.00"
    assert (taxed.balance(address), taxed.balance(hot)) == (0, 980_100_000)
    await rest(house)
    at_hot = {"custody:local:hot TAX": -980_100_000, "suspense TAX": -9_900_000}
    assert moved(before, await books(house, "TAX")) == at_hot

    to = "0x" + "4e" * 20
    asked = {"asset": "TAX", "network": "local", "address": show_address(to), "amount": "500"}
    withdrawal = (await alice.post("/v1/withdrawals", asked, key="taxed")).json()
    for _ in range(BLOCKS_MAX // 4):
        await house.work(blocks=4)
        if (await alice.get(f"/v1/withdrawals/{withdrawal['id']}")).json()["state"] == "final":
            break
    await rest(house)
    assert (taxed.balance(to), taxed.balance(hot)) == (495_000_000, 480_100_000)
    fee = (await alice.get(f"/v1/withdrawals/{withdrawal['id']}")).json()["fee"]
    after = moved(before, await books(house, "TAX"))
    assert after.pop("custody:local:hot TAX") == -480_100_000
    assert after.pop("suspense TAX") == -9_900_000
    assert set(after) <= {"fees TAX"}, (after, fee)


async def test_f27_a_blacklisted_address_is_unsweepable_and_swept_by_itself_once_that_is_lifted(house):
    chain = house.chain
    _, address = await person(house)
    give(house, address, 200)
    local.send(chain.url, to=usdc(house), call=local.encode_call("blacklist(address)", address))
    refused = await until(house, address, "unsweepable")
    assert refused["reason"].startswith("the token refuses: ")
    local.send(chain.url, to=usdc(house), call=local.encode_call("unBlacklist(address)", address))
    await let_time_pass(house, refused["id"])
    assert (await until(house, address, "final"))["id"] == refused["id"]


async def test_f27_while_its_token_is_paused_a_sweep_is_tried_as_often_as_told_and_holds_nothing_else_up(house):
    chain = house.chain
    _, address = await person(house)
    give(house, address, 400)
    local.send(chain.url, to=usdc(house), call=local.encode_call("pause()"))
    _, other = await person(house)
    chain.transfer("DAI", other, 100 * ETHER)
    refused = await until(house, address, "unsweepable")
    assert refused["reason"].startswith("the token refuses: ")
    assert (refused["tries"], refused["tx_hash"]) == (1, None)
    assert refused["next_try_at"] > refused["updated_at"]
    alert = (await house.alerts())["sweep_refused"]
    assert (alert["subject"], alert["severity"]) == ("USDC on local", "warning")
    assert refused["reason"] in alert["text"]
    assert (await until(house, other, "final"))["amount"] == "100.00"  # nothing else is held up

    await let_time_pass(house, refused["id"])
    await house.work()
    refused = await read(house, refused["id"])
    assert (refused["state"], refused["tries"], refused["next_try_at"]) == ("unsweepable", 2, None)  # as often as told
    await house.work(blocks=2)
    assert len(await sweeps_at(house, address)) == 1
    assert (await read(house, refused["id"]))["updated_at"] == refused["updated_at"]

    local.send(chain.url, to=usdc(house), call=local.encode_call("unpause()"))
    assert (await house.treasurer.post(f"/v1/treasury/sweeps/{refused['id']}/retry")).status_code == 200
    assert (await until(house, address, "final"))["id"] == refused["id"]
    assert held(house, address) == 0
    assert "sweep_refused" not in await house.alerts()
    await rest(house)


async def let_time_pass(house: WholeHouse, sweep: str) -> None:
    """The next try of this one is due now."""
    async with tx(house.parts.engine) as connection:
        due = update(sweeps).where(sweeps.c.id == sweep).values(next_try_at=house.parts.clock.now())
        await connection.execute(due)


async def test_ether_is_swept_by_hand_once_and_its_dust_stays(house, signer):
    chain, hot = house.chain, "0x" + signer.address(Role.HOT).hex()
    _, address = await person(house)
    before = [one["id"] for one in await house.items(house.treasurer, "/v1/treasury/sweeps")]
    asked = {"asset": "ETH", "network": "local", "address": address}
    nothing = await house.treasurer.post("/v1/treasury/sweeps", asked)
    assert (nothing.status_code, nothing.json()["code"]) == (422, "nothing_to_sweep")
    chain.faucet(address, ETHER)
    await house.work(blocks=2)
    assert await sweeps_at(house, address) == []  # ether has no threshold here
    made = await house.treasurer.post("/v1/treasury/sweeps", asked, key="now")
    assert (made.status_code, made.json()["state"], made.json()["amount"]) == (201, "planned", None)
    again = await house.treasurer.post("/v1/treasury/sweeps", asked, key="now")
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (made.json()["id"], "true")
    other = await house.treasurer.post("/v1/treasury/sweeps", {**asked, "asset": "DAI"}, key="now")
    assert (other.status_code, other.json()["first"]) == (422, made.json()["id"])
    second = await house.treasurer.post("/v1/treasury/sweeps", asked)
    assert (second.status_code, second.json()["sweep"]) == (422, made.json()["id"])
    stranger = await house.treasurer.post("/v1/treasury/sweeps", {**asked, "address": hot})
    assert stranger.status_code == 404

    at_hot = chain.balance("ETH", hot)
    swept = await until(house, address, "final")
    assert swept["asked_by"] is not None
    amount = chain.balance("ETH", hot) - at_hot
    dust = chain.balance("ETH", address)
    assert ETHER * 99 // 100 < amount < ETHER
    assert 0 < dust == ETHER - amount - await spent(house, [swept["id"]])
    await rest(house)
    found = await house.treasurer.get("/v1/treasury/sweeps", state="final", limit=1)
    assert [one["id"] for one in found.json()["items"]] == [swept["id"]]
    older = await house.treasurer.get("/v1/treasury/sweeps", limit=1, starting_after=swept["id"])
    assert [one["id"] for one in older.json()["items"]] == before[:1]
    assert (await house.treasurer.get("/v1/treasury/sweeps", state="nonsense")).status_code == 422
    late = await house.treasurer.post(f"/v1/treasury/sweeps/{swept['id']}/retry")
    assert (late.status_code, late.json()["code"]) == (422, "sweep_unfit")


async def test_f48_nothing_is_brought_to_an_address_that_acted_without_us(house, signer):
    """Whoever has its key would get the deposits, and the gas."""
    hot = "0x" + signer.address(Role.HOT).hex()
    _, address = await person(house)
    words = "a transaction of others"
    finding = Finding(address=hot, kind=Kind.TRANSACTION, what="0xf0", words=words, block_number=1, block_hash="0xb1")
    async with tx(house.parts.engine) as connection:
        assert await foreign_store.add_findings(connection, "local", [finding], now=house.services.clock.now()) == 1
    try:
        give(house, address, 200)
        await house.work(blocks=4)
        await house.work(blocks=2)
        (waits,) = await sweeps_at(house, address)
        assert (waits["state"], waits["waiting_for"]) == ("planned", "approval")
        assert waits["reason"] == f"{hot} did something without us: a transaction of others"
        assert held(house, address) == 200 * DOLLAR
    finally:
        (open_,) = await house.items(house.treasurer, "/v1/treasury/halted-senders")
        lifted = await house.treasurer.post(
            f"/v1/treasury/senders/local/{hot}/acceptances", {"state": open_["state"], "reason": "a drill"}
        )
        assert lifted.status_code in (200, 201), lifted.text
    await until(house, address, "final", agreeing=True)
    assert held(house, address) == 0
