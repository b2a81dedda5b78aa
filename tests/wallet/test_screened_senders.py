"""Deposits of listed senders, on a real chain with a real oracle and list: in quarantine, never a user's by itself."""

import pytest
from pydantic import SecretStr

from base.errors import ConfigError
from chain import local
from chain.errors import SilentOracle
from chain.evm.addresses import show_address
from tests.api.conftest import settings_for
from tests.support.chain import start_local_chain
from tests.support.contracts import create
from tests.support.tokens import PAYER, Token
from tests.support.whole_house import whole_house
from wiring.parts import open_parts
from wiring.screening import refuse_silent_oracles

pytestmark = pytest.mark.slow

OTHER = 2
"""A development account that isn't listed."""


@pytest.fixture
def chain(tmp_path):
    with start_local_chain(tmp_path) as running:
        yield running


@pytest.fixture
def oracle(chain):
    return Token(chain, create(chain, "SanctionsList"))


@pytest.fixture
async def house(chain, oracle, database, tmp_path):
    async with whole_house(chain, database, tmp_path, network={"sanctions_oracle": oracle.address}) as made:
        yield made


def put(oracle: Token, who: int, listed: bool = True) -> None:
    """A development account is on the oracle's list from now on, or isn't."""
    oracle.send("set(address,bool)", oracle.chain.accounts[who], listed, sender=0)


async def kept(house):
    """What must stay at its address."""
    return await house.services.deposit_reviews.kept_back("local")


async def test_f25_a_listed_sender_s_deposit_is_in_quarantine_and_its_user_reads_neutral_words(house, oracle):
    to = await house.address(house.alice)
    put(oracle, PAYER)
    house.chain.transfer("USDC", to, 5_000_000)
    house.chain.transfer("USDC", to, 2_000_000, sender=OTHER)
    await house.work()
    assert (await house.items(house.alice, "/v1/balances"))[0]["incoming"] == "2.00"  # the other one's alone
    await house.work(blocks=4)
    honest, listed = await house.deposits(house.alice)
    assert (honest["state"], honest["amount"], listed["state"]) == ("final", "2.00", "under_review")
    assert "objection" not in listed
    assert "list" not in str(listed)
    assert (await house.balance(house.alice), await house.house("quarantine")) == ("2.00", 5_000_000)
    contract = house.chain.token("USDC").lower()
    assert await kept(house) == {(to, contract): 5_000_000}  # of 7 that are there
    await house.require_agreement()
    (doubtful,) = await house.items(house.treasurer, "/v1/treasury/deposits")
    assert (doubtful["id"], doubtful["state"], doubtful["owner"]) == (listed["id"], "sender_listed", house.alice.user)
    payer = house.chain.accounts[PAYER].lower()
    assert doubtful["objection"] == f"{payer}: the sanctions oracle {oracle.address}"


async def test_f25_the_treasurer_credits_it_once_and_then_it_may_be_swept(house, oracle):
    to = await house.address(house.alice)
    put(oracle, PAYER)
    house.chain.transfer("USDC", to, 5_000_000)
    await house.work()
    (doubtful,) = await house.items(house.treasurer, "/v1/treasury/deposits")
    path = f"/v1/treasury/deposits/{doubtful['id']}/credit"
    early = await house.treasurer.post(path, {"reason": "licence 12 of the authority"})
    assert (early.status_code, early.json()["code"]) == (422, "deposit_not_creditable")
    await house.work(blocks=4)
    put(oracle, PAYER, listed=False)  # what was asked once stays, until a person decides
    await house.work(blocks=4)
    assert (await house.balance(house.alice), len(await kept(house))) == ("0", 1)
    for status in (200, 422):
        done = await house.treasurer.post(path, {"reason": "licence 12 of the authority"})
        assert done.status_code == status
    (shown,) = await house.deposits(house.alice)
    assert (shown["state"], shown["amount"], await house.balance(house.alice)) == ("final", "5.00", "5.00")
    assert (await house.house("quarantine"), await kept(house)) == (0, {})
    assert await house.items(house.treasurer, "/v1/treasury/deposits") == []
    await house.require_agreement()


async def test_f25_it_is_asked_at_the_deposit_s_own_block(house, oracle):
    to = await house.address(house.alice)
    house.chain.transfer("USDC", to, 1_000_000)
    put(oracle, PAYER)
    house.chain.transfer("USDC", to, 2_000_000)
    put(oracle, PAYER, listed=False)
    await house.work(blocks=4)
    listed, honest = await house.deposits(house.alice)
    assert (honest["state"], honest["amount"], listed["state"]) == ("final", "1.00", "under_review")


async def test_f25_a_deposit_waits_while_the_oracle_does_not_answer(house, oracle):
    to = await house.address(house.alice)
    oracle.send("beSilent(bool)", True, sender=0)
    for asset, amount in (("USDC", 5_000_000), ("ETH", 10**18)):
        house.chain.transfer(asset, to, amount)
    await house.work(blocks=6)
    assert "neither yes nor no" in house.trouble["screening:local"].message
    assert {deposit["state"] for deposit in await house.deposits(house.alice)} == {"under_review"}
    assert (await house.balance(house.alice), await house.balance(house.alice, "ETH")) == ("0", "0")
    assert set(await kept(house)) == {(to, house.chain.token("USDC").lower()), (to, None)}
    (one, other) = await house.items(house.treasurer, "/v1/treasury/deposits")
    for deposit in (one, other):
        refused = await house.treasurer.post(f"/v1/treasury/deposits/{deposit['id']}/credit", {"reason": "impatient"})
        assert "its sender asked about yet" in refused.json()["detail"]
    oracle.send("beSilent(bool)", False, sender=0)
    for _ in range(33):  # nobody keeps the state of the blocks that it was silent in
        house.chain.mine(4)
    await house.work()
    assert house.trouble == {}
    assert {deposit["state"] for deposit in await house.deposits(house.alice)} == {"final"}
    assert (await house.balance(house.alice), await kept(house)) == ("5.00", {})
    await house.require_agreement()


async def test_f25_a_listed_sender_of_the_network_s_own_coin_and_of_too_little_is_in_quarantine(house, oracle):
    to = await house.address(house.alice)
    put(oracle, PAYER)
    house.chain.transfer("ETH", to, 10**17)
    house.chain.transfer("ETH", to, 10**16, sender=OTHER)
    await house.work(blocks=4)
    assert (await house.house("quarantine", "ETH"), await kept(house)) == (10**17, {(to, None): 10**17})
    assert await house.balance(house.alice, "ETH") == "0.01"
    await house.require_agreement()


@pytest.mark.parametrize("depth", [3, 6])
async def test_f25_what_leaves_the_chain_leaves_quarantine_too(house, oracle, depth):
    to = await house.address(house.alice)
    await house.work()
    put(oracle, PAYER)
    house.chain.transfer("USDC", to, 5_000_000)
    await house.work(blocks=depth - 1)
    assert await house.house("quarantine") == (5_000_000 if depth > 4 else 0)
    house.chain.reorg(depth + 1, longer=2)
    await house.work()
    (gone,) = await house.deposits(house.alice)
    assert gone["state"] == ("reversed" if depth > 4 else "orphaned")
    assert (await house.house("quarantine"), await kept(house)) == (0, {})


async def test_f25_a_list_is_read_again_and_a_broken_one_lets_nothing_pass(chain, database, tmp_path):
    path = tmp_path / "listed.txt"
    path.write_text("# nobody yet\n")
    async with whole_house(chain, database, tmp_path, screening_list=path) as house:
        to = await house.address(house.alice)
        chain.transfer("USDC", to, 1_000_000)
        await house.work(blocks=4)
        assert await house.balance(house.alice) == "1.00"
        path.write_text(f"{show_address(chain.accounts[PAYER])} # listed since May\n")
        chain.transfer("USDC", to, 2_000_000)
        await house.work(blocks=4)
        (doubtful,) = await house.items(house.treasurer, "/v1/treasury/deposits")
        assert "listed.txt:1 (listed since May)" in doubtful["objection"]
        path.write_text("0x12\n")
        chain.transfer("USDC", to, 4_000_000, sender=OTHER)
        await house.work(blocks=4)
        assert "listed.txt:1: '0x12'" in house.trouble["screening:local"].message
        assert await house.balance(house.alice) == "1.00"
        path.write_text("# nobody any more\n")
        await house.work()
        assert await house.balance(house.alice) == "5.00"  # the one that was listed then stays where it is
        assert await house.house("quarantine") == 2_000_000


async def test_without_its_list_the_service_refuses_to_start(chain, database, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.txt can't be read: No such file"):
        async with whole_house(chain, database, tmp_path, screening_list=tmp_path / "nowhere.txt"):
            pass


async def test_a_contract_that_is_no_oracle_is_refused_when_the_worker_starts(chain, oracle, tmp_path):
    def settings(address: str):
        network = {"name": "local", "chain_id": chain.chain_id, "rpc_urls": [chain.url], "native_asset": "ETH"}
        return settings_for(
            tmp_path,
            database_url=SecretStr("postgresql://nobody@127.0.0.1:9/none"),
            networks=[network | {"sanctions_oracle": address}],
        )

    for address in (chain.token("USDC"), "0x" + "77" * 20):
        async with open_parts(settings(address), name="test") as parts:
            with pytest.raises(SilentOracle, match=r"networks\.0\.sanctions_oracle: no contract there answers"):
                await refuse_silent_oracles(parts.settings, parts.nodes)
    async with open_parts(settings(oracle.address), name="test") as parts:
        assert await refuse_silent_oracles(parts.settings, parts.nodes) is None
    with pytest.raises(ValueError, match="an address is 0x and 40 hexadecimal digits"):
        settings("0x12")


async def test_f25_of_ether_that_a_contract_pays_the_transaction_s_sender_is_known_too(house):
    to = await house.address(house.alice)
    sent = local.send(house.chain.url, to=to, value=5, sender=PAYER)
    unknown = "0x" + "ee" * 32
    told = await house.parts.nodes["local"].senders([sent, unknown])
    assert told == {sent: house.chain.accounts[PAYER].lower(), unknown: None}


async def test_f25_what_a_trace_tells_of_an_older_block_is_screened_too(house, oracle):
    to, payer = await house.address(house.alice), create(house.chain, "Payer")
    pay = local.encode_call("pay(address)", to)
    await house.work(blocks=6)
    local.send(house.chain.url, to=payer, call=pay, value=5, sender=PAYER)
    house.chain.mine(6)
    for name in ("follow", "screening", "coins", ""):  # its block is done with before anything tells of it
        await house.work(only=name)
    assert [one["state"] for one in await house.deposits(house.alice)] == ["final"]
    assert await house.balance(house.alice, "ETH") == "0.000000000000000005"
