"""An epoch's hash on a real chain by the real signer: once, watched to its end, its gas booked, whatever goes wrong."""

import pytest
import pytest_asyncio

from chain.transaction_states import Kind
from custody.derivation import Role
from db.engine import tx
from tests.support.chain import start_local_chain
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
    written,
)
from treasury.errors import AnchorUnfit, ChainUnsettled, NoEpoch
from treasury.solvency_reading import check_published
from wallet.tables import own_gas
from wiring.solvency import build_anchors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with start_local_chain(tmp_path_factory.mktemp("anchors")) as running:
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
    first, second, third = [await _unwritten(house) for _ in range(3)]
    await anchors.ask(third.row.number)
    assert await anchors.step() == 0, "older ones are a person's affair"
    await anchors.ask(first.row.number)
    fourth, fifth = await _unwritten(house), await _unwritten(house)
    assert await anchors.step() == 2
    await house.work(blocks=1)
    assert (await all_written(house))[known:] == [f"0x{one.row.digest}" for one in (third, first, fourth, fifth)]
    assert (await shown(house, second.row.number))["anchor"] is None


async def _unwritten(house):
    """A sealed epoch, while the step that would write its hash doesn't run."""
    steps = dict(house.steps)
    house.steps = {name: step for name, step in steps.items() if name != "solvency-anchors"}
    try:
        return await made(house)
    finally:
        house.steps = steps


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

            later = await _unwritten(house)
            chain.reorg(6, longer=3)
            await house.work(only="follow")
            assert (await house.network())["halted"] == "reorg_below_final"
            assert await house.steps["solvency-anchors"]() == 0
            with pytest.raises(ChainUnsettled, match="network local is halted"):
                await build_anchors(house.parts).ask(later.row.number)
            assert (await shown(house))["anchor"] is None
