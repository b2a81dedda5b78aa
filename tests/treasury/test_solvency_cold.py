"""Cold addresses' control, shown by signatures made elsewhere: a person's key, and a real Safe at a final block."""

import json

import pytest
import pytest_asyncio
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_defunct

from chain import local
from chain.evm.contract_signatures import is_signed, signed_call
from chain.evm.node import Node
from chain.evm.pool import Pool
from chain.evm.rpc import HttpRpc
from custody.derivation import Role
from tests.support.chain import start_local_chain
from tests.support.command import onebook
from tests.support.postgres import fresh_database
from tests.support.tokens import deploy_safe
from tests.treasury.solvency_world import (
    address,
    anchoring_policy,
    made,
    open_house,
    running_signer,
    shown,
    solvent_house,
)
from treasury.errors import ControlUnfit
from treasury.solvency_reading import Standing, check_published
from wiring.solvency import build_handed_controls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

COLD = Account.from_key("0x" + "c0" * 32)
STRANGER = Account.from_key("0x" + "5e" * 32)
OWNERS = sorted((Account.from_key("0x" + digit * 64) for digit in "ab"), key=lambda one: int(one.address, 16))
"""Of the Safe: both must sign, in the order of their addresses."""

YES_TO_ALL = "0x631626ba7e60e01b60005260206000f3"
"""A contract that returns ERC-1271's yes, whatever it's called with."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with start_local_chain(tmp_path_factory.mktemp("cold"), epoch_slots=2) as running:
        yield running


@pytest.fixture(scope="module")
def safe(chain):
    return deploy_safe(chain, [one.address for one in OWNERS], 2, signs=True)


@pytest.fixture(scope="module")
def cold():
    return COLD.address.lower()


@pytest.fixture(scope="module")
def signer(chain, tmp_path_factory):
    with running_signer(tmp_path_factory.mktemp("signer"), anchoring_policy(chain)) as running:
        yield running


@pytest.fixture(scope="module")
def hot(signer):
    return address(signer, Role.HOT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(chain, signer, safe, cold, postgres, tmp_path_factory):
    """Cold holds 7 USDC, the Safe 2 ETH. Nothing is anchored."""
    home, known = tmp_path_factory.mktemp("house"), {"cold_addresses": [cold, safe, "0x" + "ee" * 20]}
    async with (
        fresh_database(postgres) as database,
        solvent_house(chain, signer, database, home, solvency={}, network=known) as found,
    ):
        chain.faucet(cold, 7 * 10**6, "USDC")
        chain.faucet(safe, 2 * 10**18)
        await open_house(found, signer)
        yield found


@pytest.fixture(scope="module")
def handed(house):
    return build_handed_controls(house.parts, house.services.epochs)


def personal(account, text):
    """As a wallet's personal_sign."""
    return bytes(account.sign_message(encode_defunct(text=text)).signature)


def by_owners(chain, safe, digest, owners=OWNERS):
    """What the owners of a Safe sign so that it takes 32 bytes for signed."""
    call = local.encode_call("getMessageHash(bytes)", encode(["bytes32"], [digest]))
    hash = bytes.fromhex(chain.rpc("eth_call", {"to": safe, "data": "0x" + call.hex()}, "latest")[2:])
    return b"".join(bytes(one.unsafe_sign_hash(hash).signature) for one in owners)


async def by_place(house, number=None):
    return {one["place"].split(" ")[2]: one["standing"] for one in (await shown(house, number))["reserves"]}


def verified(folder, file, *options):
    path = folder / "file.json"
    path.write_text(json.dumps(file))
    return onebook("verify", "solvency", path, *options, cwd=folder)


async def test_a_cold_address_is_stated_until_its_own_key_has_signed_that_very_epoch(house, handed, cold, tmp_path):
    earlier = await made(house)
    epoch = await made(house)
    assert (await by_place(house))[cold] == "stated"
    known, to_sign = await handed.wanted("local", cold)
    assert known.row.number == epoch.row.number
    assert to_sign.text == (
        f"Onebook proves control of {COLD.address} on network {house.chain.chain_id}"
        f" for {epoch.row.number} {epoch.row.digest}"
    )
    _, before = await handed.wanted("local", cold, earlier.row.number)
    good = personal(COLD, to_sign.text)
    for wrong in (
        personal(STRANGER, to_sign.text),
        personal(COLD, before.text),
        personal(COLD, to_sign.text + " "),
        bytes(COLD.unsafe_sign_hash(bytes(32)).signature),
        good[:-1],
        good + b"\0",
        b"",
        b"\0" * 8_193,
    ):
        with pytest.raises(ControlUnfit):
            await handed.hand_in("local", cold, wrong)
    assert (await by_place(house))[cold] == "stated", "nothing of that is kept"

    as_devices_give_it = good[:-1] + bytes([good[-1] - 27])
    kept = await handed.hand_in("local", cold, as_devices_give_it, epoch.row.number)
    assert (kept.kind, kept.signature) == ("key", good.hex())
    with pytest.raises(ControlUnfit, match="has signed epoch"):
        await handed.hand_in("local", cold, good)
    assert (await by_place(house))[cold] == "proven"
    assert (await by_place(house, earlier.row.number))[cold] == "stated"
    assert {"network": "local", "address": cold, "signed": True, "refusal": None} in (await shown(house))["controls"]

    file = (await house.alice.get("/v1/solvency")).json()
    offline = verified(tmp_path, file, "--json")
    held = {one["asset"]: one for one in json.loads(offline.stdout)["epoch"]["held"]}
    assert held["USDC"]["proven"] == str(107 * 10**6), "hot and cold; the deposit address isn't named"
    (own,) = [one for one in file["epoch"]["controls"] if one["address"] == cold]
    others = [one for one in file["epoch"]["controls"] if one["address"] != cold]
    forged = file | {"epoch": file["epoch"] | {"controls": [*others, own | {"signature": "00" * 65}]}}
    assert verified(tmp_path, forged).returncode == 1


async def test_a_safe_is_asked_at_a_final_block_and_a_reader_at_a_node_of_their_own(
    house, handed, chain, safe, hot, tmp_path
):
    epoch = await made(house)
    _, to_sign = await handed.wanted("local", safe)
    good = by_owners(chain, safe, to_sign.digest)
    for wrong in (
        by_owners(chain, safe, to_sign.digest, OWNERS[:1]),
        by_owners(chain, safe, to_sign.digest, [OWNERS[0], STRANGER]),
        by_owners(chain, safe, bytes(32)),
        personal(OWNERS[0], to_sign.text),
        b"",
    ):
        with pytest.raises(ControlUnfit, match="no contract there takes it as its own at block"):
            await handed.hand_in("local", safe, wrong)
    kept = await handed.hand_in("local", safe, good)
    (network,) = await house.items(house.alice, "/v1/networks")
    assert (kept.kind, kept.block_number) == ("contract", network["final_height"])
    assert kept.block_hash == chain.block_hash(kept.block_number)
    assert (await by_place(house))[safe] == "proven"

    file = (await house.alice.get("/v1/solvency")).json()
    published = (await house.services.epochs.epoch(epoch.row.number)).published
    ether = {one.asset: one.by_standing for one in check_published(published)}["ETH"]
    assert ether[Standing.STATED] == 2 * 10**18, "without a node nobody can tell"
    offline = verified(tmp_path, file)
    assert (offline.returncode, f"not checked: the house says that the contract {safe}" in offline.stdout) == (0, True)
    chain.mine(8)
    at_node = verified(tmp_path, file, "--rpc", chain.url, "--json")
    assert at_node.returncode == 0, at_node.stderr
    held = {one["asset"]: one for one in json.loads(at_node.stdout)["epoch"]["held"]}
    assert held["ETH"] == {"asset": "ETH", "proven": str(3 * 10**18)}

    (own,) = [one for one in file["epoch"]["controls"] if one["kind"] == "contract"]
    others = [one for one in file["epoch"]["controls"] if one["kind"] == "key"]
    for change, words in (
        ({"signature": by_owners(chain, safe, bytes(32)).hex()}, "doesn't take the signature"),
        ({"block_hash": "0x" + "12" * 32}, "has another hash at this node"),
        ({"block_number": 10**6}, "has another hash at this node"),
        ({"address": hot}, "two signatures"),
        ({"block_number": 0}, "no block is told"),
        ({"kind": "key"}, "isn't by its key"),
    ):
        forged = file | {"epoch": file["epoch"] | {"controls": [*others, own | change]}}
        ended = verified(tmp_path, forged, "--rpc", chain.url)
        assert (ended.returncode, words in ended.stderr) == (1, True), ended.stderr


async def test_of_two_nodes_both_must_say_that_a_contract_took_it(house, handed, chain, safe, tmp_path):
    await made(house)
    _, to_sign = await handed.wanted("local", safe)
    good, block = by_owners(chain, safe, to_sign.digest), chain.block_hash(chain.height())
    network = house.parts.registry.network("local")
    with start_local_chain(tmp_path, chain_id=chain.chain_id) as other:

        async def said(urls, signature):
            rpcs = [HttpRpc(url) for url in urls]
            pool = Pool(network, [Node(network, rpc) for rpc in rpcs])
            try:
                return await pool.signature_witnessed(safe, to_sign.digest, signature, block=block)
            finally:
                for rpc in rpcs:
                    await rpc.close()

        assert [await said([chain.url, chain.url], one) for one in (good, good[:-1])] == [True, False]
        assert await said([chain.url, other.url], good) is None, "the other doesn't know the block"
        assert await said([other.url], good) is None


async def test_a_contract_that_takes_whatever_it_is_asked_about_shows_nothing(house, handed, chain, safe):
    await made(house)
    _, to_sign = await handed.wanted("local", safe)
    good, pliable = by_owners(chain, safe, to_sign.digest), "0x" + "ab" * 20
    chain.rpc("hardhat_setCode", pliable, YES_TO_ALL)
    chain.mine(1)
    block, rpc = chain.block_hash(chain.height()), HttpRpc(chain.url)
    try:
        asked = {"to": pliable, "data": "0x" + signed_call(to_sign.digest, b"").hex()}
        assert (await rpc.call("eth_call", asked, {"blockHash": block}))[:10] == "0x1626ba7e", "it says yes"
        for contract, signature, takes in ((pliable, b"", False), (pliable, good, False), (safe, good, True)):
            assert await is_signed(rpc, contract, to_sign.digest, signature, block_hash=block) is takes
    finally:
        await rpc.close()


async def test_nobody_signs_for_what_the_epoch_does_not_name(house, handed, hot):
    await made(house)
    with pytest.raises(ControlUnfit, match="names no address"):
        await handed.wanted("local", "0x" + "ee" * 20)
    with pytest.raises(ControlUnfit, match="names no address"):
        await handed.wanted("elsewhere", COLD.address.lower())
    with pytest.raises(ControlUnfit, match="has signed epoch"):
        await handed.wanted("local", hot)
