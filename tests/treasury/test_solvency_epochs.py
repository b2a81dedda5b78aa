"""Epochs: kept whole or not at all, stated in the book, and believed only while files and row are what was written."""

import json
import os
import stat
import subprocess

import pytest
from sqlalchemy import select

from base.errors import ConfigError
from chain.networks import Registry
from db.engine import tx
from ledger.commands import alone
from ledger.outcomes import require_accepted
from ledger.tables import commands
from tests.treasury.test_solvency import ALICE, BOB, CAROL, WEI, fund, ledger  # noqa: F401 - a fixture
from treasury.errors import EpochFilesMissing, EpochUnfit, NoEpoch, NoLeaf, TreasuryCorrupt
from treasury.solvency_epochs import Epochs
from treasury.solvency_proofs import read_proof, verify
from treasury.solvency_reserves import Reserves
from treasury.tables import solvency_epochs

pytestmark = pytest.mark.slow


def over(ledger, database, folder, clock, entropy, **more):  # noqa: F811 - the fixture
    nothing = Registry([], [])
    return Epochs(
        database.engine(),
        ledger=ledger,
        registry=nothing,
        reserves=Reserves(registry=nothing, nodes={}, banks=[]),
        folder=folder,
        clock=clock,
        entropy=entropy,
        **more,
    )


@pytest.fixture
def epochs(ledger, database, clock, entropy, tmp_path):  # noqa: F811 - the fixture
    return over(ledger, database, tmp_path, clock, entropy)


def roots(epoch):
    return {one.asset: bytes.fromhex(one.root) for one in epoch.statement.lists}


async def test_an_epoch_is_read_again_as_it_was_made(epochs, clock, ledger):  # noqa: F811
    seq = await ledger.last_seq()
    epoch = await epochs.make()
    assert await epochs.epoch() == epoch
    told = epoch.statement
    assert (told.epoch, told.seq, told.booked_at) == ("main/1", seq, clock.now().isoformat())
    assert [(one.asset, one.users, int(one.total)) for one in told.lists] == [("ETH", 3, 3 * WEI), ("USD", 3, 107)]
    assert [(one.asset, one.owed, one.held, one.ratio, one.receivable) for one in told.coverage] == [
        ("ETH", str(3 * WEI), "0", "0.000000", str(WEI)),
        ("USD", "107", "0", "0.000000", "0"),
    ]


async def test_the_book_states_an_epochs_hash_and_every_root_in_one_command_with_its_row(epochs, ledger, database):  # noqa: F811
    epoch = await epochs.make()
    (outcome,) = await ledger.outcomes(epoch.row.command)
    assert (outcome.seq, outcome.subject, outcome.lines) == (epoch.statement.seq + 1, "epoch/1", ())
    async with tx(database.engine()) as connection:
        query = select(commands.c.detail).where(commands.c.seq == outcome.seq)
        detail = (await connection.execute(query)).scalar_one()
    facts = {"epoch": "main/1", "digest": epoch.row.digest}
    facts |= {f"root:{asset}": root.hex() for asset, root in roots(epoch).items()}
    assert json.loads(detail)["terms"] == {"facts": facts}


async def test_every_user_is_proven_by_an_earlier_epoch_although_the_book_went_on(epochs, ledger):  # noqa: F811
    first = await epochs.make()
    require_accepted((await ledger.submit(alone(fund(BOB, "USD", 5, "later"))))[0])
    second = await epochs.make()
    assert [one.row.number for one in await epochs.recent()] == [2, 1]
    for epoch, owed in ((first, {ALICE: 100, BOB: 7, CAROL: 0}), (second, {ALICE: 100, BOB: 12, CAROL: 0})):
        for who, amount in owed.items():
            proof = read_proof(epochs.prove(await epochs.epoch(epoch.row.number), who, "USD"))
            verify(proof, owner=who, epoch=epoch.statement.epoch, asset="USD", root=roots(epoch)["USD"])
            assert (proof.amount, proof.terms.seq) == (amount, epoch.statement.seq)
        assert len(epochs.prove_all(epoch, ALICE)) == 2
    assert epochs.prove_all(second, "usr_eve") == []


async def test_two_epochs_of_one_book_share_no_salt_and_no_root(epochs):
    first, second = await epochs.make(), await epochs.make()
    assert len({*roots(first).values(), *roots(second).values()}) == 4
    assert len({read_proof(epochs.prove(epoch, ALICE, "USD")).salt for epoch in (first, second)}) == 2


async def test_files_name_nobody_and_only_their_owner_reads_them(epochs, tmp_path):
    await epochs.make()
    place = tmp_path / "main" / "1"
    assert sorted(path.name for path in place.iterdir()) == ["ETH.tree", "USD.tree", "epoch.key"]
    assert not any(ALICE.encode() in path.read_bytes() for path in place.iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("USD.tree", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        ("USD.tree", lambda content: content[:-64]),
        ("USD.tree", lambda content: b""),
        ("epoch.key", lambda content: content[2:]),
        ("epoch.key", lambda content: bytes([content[0] ^ 1]) + content[1:]),
    ],
)
async def test_files_that_are_not_what_was_published_prove_nothing(epochs, tmp_path, name, change):
    epoch = await epochs.make()
    path = tmp_path / "main" / "1" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TreasuryCorrupt):
        epochs.prove(epoch, ALICE, "USD")


async def test_a_row_that_is_not_what_its_hash_is_over_is_no_epoch(epochs, database):
    await epochs.make()
    async with tx(database.engine(admin=True)) as connection:
        changed = solvency_epochs.update().values(statement=solvency_epochs.c.statement.op("||")(" ").op("||")(""))
        await connection.execute(changed)
    assert (await epochs.epoch()).row.number == 1, "blanks mean nothing"
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(solvency_epochs.update().values(digest="ab" * 32))
    with pytest.raises(TreasuryCorrupt, match="isn't what its hash is over"):
        await epochs.epoch()


async def test_what_is_not_there_is_named(epochs, tmp_path):
    with pytest.raises(NoEpoch, match="no epoch yet: make one with `onebook solvency new`"):
        await epochs.epoch()
    epoch = await epochs.make()
    with pytest.raises(NoEpoch, match="has no epoch 2"):
        await epochs.epoch(2)
    with pytest.raises(NoLeaf, match="usr_eve has no USD account"):
        epochs.prove(epoch, "usr_eve", "USD")
    with pytest.raises(NoLeaf, match="no user has a CNY account in epoch main/1"):
        epochs.prove(epoch, ALICE, "CNY")
    (tmp_path / "main").rename(tmp_path / "elsewhere")
    with pytest.raises(EpochFilesMissing, match="this process needs the folder that the epoch was made in"):
        epochs.prove(epoch, ALICE, "USD")


async def test_of_two_that_are_made_at_once_one_is_refused(epochs, ledger, database, clock, entropy, tmp_path):  # noqa: F811
    other = over(ledger, database, tmp_path, clock, entropy)
    async with other._alone():
        with pytest.raises(EpochUnfit, match="is being made now: try again"):
            await epochs.make()
    assert (await epochs.make()).row.number == 1


async def test_a_failed_epoch_leaves_nothing_behind(epochs, tmp_path):
    def broken(*_):
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        await epochs.make(told=broken)
    assert os.listdir(tmp_path / "main") == []
    with pytest.raises(NoEpoch):
        await epochs.epoch()
    assert (await epochs.make()).row.number == 1


async def test_files_of_an_epoch_that_the_book_never_heard_of_are_put_aside(epochs, tmp_path, database):
    """Killed between the files and the command: the number is free, and the next epoch takes it."""
    place = tmp_path / "main" / "1"
    place.mkdir(parents=True)
    (place / "epoch.key").write_text("of an epoch that nobody knows")
    epoch = await epochs.make()
    assert epoch.row.number == 1
    verify(read_proof(epochs.prove(epoch, ALICE, "USD")), root=roots(epoch)["USD"])
    (aside,) = (tmp_path / "main").glob(".unrecorded-1-*/epoch/epoch.key")
    assert aside.read_text() == "of an epoch that nobody knows"


async def test_what_a_killed_process_left_is_cleared_away_and_a_living_ones_draft_is_not(epochs, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = (tmp_path / "main" / f".draft-{pid}-x" for pid in (ended.pid, os.getpid()))
    for draft in (dead, alive):
        draft.mkdir(parents=True)
        (draft / "epoch.key").write_text("secret")
    await epochs.make()
    assert sorted(os.listdir(tmp_path / "main")) == [alive.name, "1"]


async def test_a_folder_that_cannot_be_made_is_named(epochs, tmp_path):
    (tmp_path / "main").write_text("a file in the way")
    with pytest.raises(ConfigError, match="no epoch can be kept in"):
        await epochs.make()


async def test_progress_ends_at_what_was_announced(epochs):
    heard: list[tuple[str, int, int]] = []
    await epochs.make(told=lambda *words: heard.append(words))
    assert list(dict.fromkeys(about for about, _, _ in heard)) == [
        "reading what is owed",
        "hashing what is owed in ETH",
        "hashing what is owed in USD",
        "stating it in the book",
    ]
    for asset in ("ETH", "USD"):
        hashing = [(step, total) for about, step, total in heard if about == f"hashing what is owed in {asset}"]
        assert {total for _, total in hashing} == {6}
        assert sum(step for step, _ in hashing) == 6
