"""F47 with anchors: a database put back from before them learns from journal and chain that they're written."""

import pytest

from chain.transaction_states import Kind
from db.engine import tx
from tests.support.backups import name_in, put_back, take_dump
from tests.support.chain import start_local_chain
from tests.support.recovery import Killed, look, recover
from tests.treasury.solvency_world import (
    anchoring_policy,
    made,
    open_house,
    running_signer,
    shown,
    solvent_house,
    unanchored,
    written,
)
from wallet.tables import own_gas
from wiring.recovery_items import Part

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def test_f47_anchors_since_the_backup_are_known_again_and_not_written_twice(database, postgres, tmp_path):
    with start_local_chain(tmp_path) as chain, running_signer(tmp_path, anchoring_policy(chain)) as signer:
        async with solvent_house(chain, signer, database, tmp_path / "house") as before:
            await open_house(before, signer)
            known = await unanchored(before)
            take_dump(postgres, name_in(database.app_url), tmp_path / "dump")
            await before.work(blocks=1)
            forgotten = await made(before)
            await before.work(blocks=1)
            hashes = [f"0x{one.row.digest}" for one in (known, forgotten)]
            assert [one async for one in written(before)] == hashes
            placed = (await shown(before, known.row.number))["anchor"]

        await put_back(postgres, name_in(database.app_url), tmp_path / "dump")
        afresh = {"seals": tmp_path / "later-seals"}  # seals from after the backup belong to no book any more
        async with solvent_house(chain, signer, database, tmp_path / "house", again=before, **afresh) as house:
            await house.work()
            await house.parts.gate.look()
            assert (await shown(house))["anchor"] is None
            found = await look(house, signer)
            assert [(one.part, one.subject.split("-")[0]) for one in found.items] == [
                (Part.TRANSACTION, "anc_1"),
                (Part.TRANSACTION, "anc_2"),
            ]
            for part in ("sender", "transactions"):
                with pytest.raises(Killed):
                    await recover(house, signer, killed_after=part)
            done = await recover(house, signer)
            assert (done.left, await house.parts.gate.look()) == ((), None)
            await house.work()
            await house.work(blocks=5)
            assert (await shown(house))["anchor"] == placed | {"state": "final"}
            async with tx(house.parts.engine) as connection:
                booked = [row.kind for row in await connection.execute(own_gas.select())]
            assert booked == [Kind.ANCHOR] * 2, "the gas of one whose epoch nobody here knows is ours as well"
            await house.require_agreement()

            another = await made(house)
            assert (another.row.number, another.row.digest == forgotten.row.digest) == (forgotten.row.number, False)
            await house.work(blocks=1)
            assert [one async for one in written(house)] == [*hashes, "0x" + another.row.digest]
