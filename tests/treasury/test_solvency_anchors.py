"""An epoch's hash on a real chain by the real signer: once, watched to its end, its gas booked, whatever goes wrong."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from chain.transaction_states import Kind
from custody.derivation import Role
from db.engine import tx
from tests.support.chain import start_local_chain
from tests.support.command import onebook
from tests.support.postgres import fresh_database
from tests.treasury.solvency_world import (
    ANCHOR,
    ETHER,
    address,
    anchoring_policy,
    made,
    open_house,
    running_signer,
    shown,
    solvent_house,
    unanchored,
    written,
)
from treasury.errors import AnchorUnfit, ChainUnsettled, NoEpoch
from treasury.solvency_reading import check_published
from wallet.tables import own_gas
from wiring.solvency import build_anchors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with start_local_chain(tmp_path_factory.mktemp("anchors"), epoch_slots=2) as running:
        yield running


@pytest.fixture(scope="module")
def signer(chain, tmp_path_factory):
    with running_signer(tmp_path_factory.mktemp("signer"), anchoring_policy(chain)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(chain, signer, postgres, tmp_path_factory):
    """One for the module."""
    home = tmp_path_factory.mktemp("house")
    async with fresh_database(postgres) as database, solvent_house(chain, signer, database, home) as found:
        await open_house(found, signer)
        yield found


async def gas_rows(house):
    async with tx(house.parts.engine) as connection:
        rows = await connection.execute(own_gas.select().order_by(own_gas.c.transaction_id))
        return [(row.kind, row.fee_wei) for row in rows]


async def all_written(house):
    return [one async for one in written(house)]


async def test_no_epoch_is_written_before_a_seal_covers_it(house):
    await house.work()
    epoch = await house.services.epochs.make()
    number = epoch.row.number
    assert await house.steps["solvency-anchors"]() == 0
    with pytest.raises(AnchorUnfit, match=f"no seal covers epoch {number} yet"):
        await build_anchors(house.parts).ask(number)
    with pytest.raises(NoEpoch, match="book main has no epoch 777"):
        await build_anchors(house.parts).ask(777)
    assert (await shown(house, number))["anchor"] is None


async def test_a_sealed_epoch_is_written_once_its_gas_is_booked_once_and_everybody_is_shown_it(house, chain, signer):
    await house.work(blocks=5)
    before, rows = await house.house("network-fees", "ETH"), len(await gas_rows(house))
    epoch = await made(house)
    number = epoch.row.number
    assert epoch.anchor is None
    anchors = build_anchors(house.parts)
    assert await anchors.step() == 1
    assert await anchors.step() == 0
    with pytest.raises(AnchorUnfit, match=f"epoch {number} is being written on local already"):
        await anchors.ask()
    await house.work()
    told = (await shown(house))["anchor"]
    assert (told["network"], told["state"], told["to"], told["sender"]) == (
        *("local", "mined", ANCHOR),
        address(signer, Role.GAS),
    )
    on_chain = chain.rpc("eth_getTransactionByHash", told["tx"])
    assert (on_chain["input"], on_chain["value"]) == ("0x" + epoch.row.digest, "0x0")
    assert (int(on_chain["blockNumber"], 16), on_chain["blockHash"]) == (told["block_number"], told["block_hash"])
    with pytest.raises(AnchorUnfit, match="is being written"):
        await anchors.ask(number)

    await house.work(blocks=5)
    final = (await shown(house))["anchor"]
    assert final == told | {"state": "final"}
    with pytest.raises(AnchorUnfit, match=f"epoch {number} is written on local already"):
        await anchors.ask(number)
    assert (await all_written(house)).count("0x" + epoch.row.digest) == 1
    receipt = chain.receipt(told["tx"])
    fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    assert fee > 0
    assert (await gas_rows(house))[rows:] == [(Kind.ANCHOR, fee)]
    assert before - await house.house("network-fees", "ETH") == fee
    await house.require_agreement()

    listed = (await house.items(house.alice, "/v1/solvency/epochs"))[0]
    assert listed["anchor"] == final
    published = (await house.api.get(f"/v1/solvency/epochs/{number}")).json()
    assert published["anchor"] == final
    own = (await house.alice.get("/v1/solvency")).json()
    assert (own["format"], own["epoch"]["anchor"]) == ("onebook-solvency-file-3", final)
    check_published((await house.services.epochs.epoch()).published)


async def test_of_epochs_before_the_last_that_was_written_none_is_by_itself_but_by_hand(house):
    anchors, known = build_anchors(house.parts), len(await all_written(house))
    first, second, third = [await unanchored(house) for _ in range(3)]
    await anchors.ask(third.row.number)
    assert await anchors.step() == 0, "older ones are a person's affair"
    await anchors.ask(first.row.number)
    fourth, fifth = await unanchored(house), await unanchored(house)
    assert await anchors.step() == 2
    await house.work(blocks=1)
    assert (await all_written(house))[known:] == [f"0x{one.row.digest}" for one in (third, first, fourth, fifth)]
    assert (await shown(house, second.row.number))["anchor"] is None


async def test_of_two_who_ask_at_once_one_is_refused_and_it_is_written_once(house):
    epoch = await unanchored(house)
    one, other = build_anchors(house.parts), build_anchors(house.parts)
    asked = await asyncio.gather(one.ask(), other.ask(), return_exceptions=True)
    assert sorted(str(type(said).__name__) for said in asked) == ["AnchorUnfit", "int"], asked
    await house.work(blocks=1)
    assert (await all_written(house)).count("0x" + epoch.row.digest) == 1


async def test_a_reorganisation_takes_it_back_and_the_same_bytes_are_sent_again(house, chain):
    await house.work(blocks=5)
    rows = len(await gas_rows(house))
    epoch = await made(house)
    await house.work()
    before = (await shown(house))["anchor"]
    assert before["state"] == "mined"
    chain.set_automine(False)
    chain.reorg(chain.height() - before["block_number"] + 1, longer=1)
    await house.work(only="follow")
    await house.work(only="broadcast")
    back = (await shown(house))["anchor"]
    assert (back["state"], back["tx"], back["block_number"]) == ("pending", None, None)
    assert (await house.services.epochs.epoch()).published.anchor is None
    chain.set_automine(True)
    await house.work(blocks=1)
    await house.work(blocks=5)
    again = (await shown(house))["anchor"]
    assert (again["state"], again["tx"]) == ("final", before["tx"])
    assert again["block_hash"] != before["block_hash"]
    assert (await all_written(house)).count("0x" + epoch.row.digest) == 1
    assert len(await gas_rows(house)) == rows + 1
    await house.require_agreement()


async def test_whoever_has_a_node_of_their_own_checks_that_the_hash_is_on_its_chain(house, chain, tmp_path):
    epoch = await made(house)
    await house.work(blocks=1)
    young = (await house.alice.get("/v1/solvency")).json()
    assert young["epoch"]["anchor"]["state"] == "mined"
    refused(tmp_path, young, chain.url, "final: ask again later")
    await house.work(blocks=8)
    file = (await house.alice.get("/v1/solvency")).json()

    offline = verified(tmp_path, file)
    assert offline.returncode == 0
    assert "anchored, not checked: the house says that the hash is on local" in offline.stdout
    told = json.loads(verified(tmp_path, file, "--json").stdout)["epoch"]["anchor"]
    assert (told["checked"], told["written_at"], told["tx"]) == (False, None, file["epoch"]["anchor"]["tx"])

    checked = verified(tmp_path, file, "--rpc", chain.url)
    assert (checked.returncode, "as the node that you named shows" in checked.stdout) == (0, True), checked.stderr
    told = json.loads(verified(tmp_path, file, "--rpc", chain.url, "--json").stdout)["epoch"]["anchor"]
    block = chain.rpc("eth_getBlockByNumber", hex(told["block_number"]), False)
    at = datetime.fromtimestamp(int(block["timestamp"], 16), UTC)
    assert (told["checked"], told["written_at"]) == (True, at.isoformat())
    assert chain.rpc("eth_getTransactionByHash", told["tx"])["input"] == "0x" + epoch.row.digest
    assert verified(tmp_path, young, "--rpc", chain.url).returncode == 0, "it's final by now, whatever the file knew"


async def test_a_node_that_shows_something_else_than_the_file_says_is_believed(house, chain, tmp_path):
    first = await made(house)
    await house.work(blocks=1)
    other = (await shown(house, first.row.number))["anchor"]
    await made(house)
    await house.work(blocks=1)
    await house.work(blocks=8)
    file = (await house.alice.get("/v1/solvency")).json()
    paid = chain.faucet(ANCHOR, 1)
    chain.mine(8)
    anchor, digest = file["epoch"]["anchor"], file["epoch"]["digest"]
    for change, words in (
        ({"tx": paid}, "for from: not"),
        ({"tx": "0x" + "12" * 32}, "knows no transaction"),
        ({name: other[name] for name in ("tx", "block_number", "block_hash")}, f"for input: not 0x{digest}"),
        ({"sender": "0x" + "5e" * 20}, "for from: not"),
        ({"to": "0x" + "5e" * 20}, "for to: not"),
        ({"block_number": anchor["block_number"] + 1}, "not in the block that is told"),
        ({"block_hash": "0x" + "12" * 32}, "not in the block that is told"),
    ):
        forged = file | {"epoch": file["epoch"] | {"anchor": anchor | change}}
        assert verified(tmp_path, forged).returncode == 0, "nobody can tell without a node"
        refused(tmp_path, forged, chain.url, words)
    nothing = file | {"epoch": file["epoch"] | {"anchor": None}}
    refused(tmp_path, nothing, chain.url, "nothing in it says")
    refused(tmp_path, file["proofs"][0], chain.url, "a lone proof doesn't say")
    away = verified(tmp_path, file, "--rpc", "http://127.0.0.1:9")
    assert (away.returncode, "doesn't answer" in away.stderr) == (3, True), away.stderr


async def test_a_node_of_another_chain_shows_nothing_of_it(house, tmp_path):
    await made(house)
    await house.work(blocks=1)
    await house.work(blocks=8)
    file = (await house.alice.get("/v1/solvency")).json()
    with start_local_chain(tmp_path) as other:
        assert other.chain_id != house.chain.chain_id
        refused(tmp_path, file, other.url, "the node serves chain")


def verified(folder, file, *options):
    path = folder / "file.json"
    path.write_text(json.dumps(file))
    return onebook("verify", "solvency", path, *options, cwd=folder)


def refused(folder, file, url, words):
    """A node that is asked about it proves it wrong, for this reason."""
    ended = verified(folder, file, "--rpc", url)
    assert ended.returncode == 1, ended.stdout
    assert words in ended.stderr, ended.stderr


async def test_a_signer_whose_policy_has_no_rule_for_it_refuses_and_nothing_is_claimed(postgres, tmp_path):
    with (
        start_local_chain(tmp_path) as chain,
        running_signer(tmp_path, anchoring_policy(chain, anchors=False)) as signer,
    ):
        async with (
            fresh_database(postgres) as database,
            solvent_house(chain, signer, database, tmp_path / "house") as house,
        ):
            await open_house(house, signer)
            epoch = await made(house)
            await house.work(blocks=1)
            told = await shown(house)
            assert (told["anchor"]["state"], told["anchor"]["tx"]) == ("refused", None)
            assert told["anchor_reason"]
            assert (await house.services.epochs.epoch()).published.anchor is None
            assert await house.steps["solvency-anchors"]() == 0, "it's asked for again by a person alone"
            await build_anchors(house.parts).ask(epoch.row.number)
            await house.work(blocks=1)
            assert (await shown(house))["anchor"]["state"] == "refused"
            assert await all_written(house) == []
            await house.work(blocks=5)
            await house.require_agreement()


async def test_without_gas_it_waits_and_tells_and_on_a_halted_network_nothing_is_reserved(postgres, tmp_path):
    with start_local_chain(tmp_path) as chain, running_signer(tmp_path, anchoring_policy(chain)) as signer:
        async with (
            fresh_database(postgres) as database,
            solvent_house(chain, signer, database, tmp_path / "house") as house,
        ):
            await open_house(house, signer, gas=0)
            epoch = await made(house)
            await house.work()
            told = await shown(house)
            assert (told["anchor"]["state"], told["anchor_waiting_for"]) == ("pending", "gas")
            assert "wei free for gas" in told["anchor_reason"]
            assert "payments_wait" in await house.alerts()
            chain.faucet(address(signer, Role.GAS), ETHER)
            await house.work(blocks=5)
            await house.work(blocks=5)
            assert (await shown(house))["anchor"]["state"] == "final"
            assert await all_written(house) == ["0x" + epoch.row.digest]
            await house.require_agreement()

            later = await unanchored(house)
            chain.reorg(6, longer=3)
            await house.work(only="follow")
            assert (await house.network())["halted"] == "reorg_below_final"
            assert await house.steps["solvency-anchors"]() == 0
            with pytest.raises(ChainUnsettled, match="network local is halted"):
                await build_anchors(house.parts).ask(later.row.number)
            assert (await shown(house))["anchor"] is None
