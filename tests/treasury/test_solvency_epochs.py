"""Epochs as folders: made whole or not at all, and believed only while they give what was published."""

import json
import os
import stat
import subprocess
import sys

import pytest

from base.errors import ConfigError
from ledger.commands import alone
from ledger.outcomes import require_accepted
from tests.treasury.test_solvency import ALICE, BOB, CAROL, WEI, fund, ledger  # noqa: F401 - a fixture
from treasury.errors import EpochUnfit, NoEpoch, NoLeaf, TreasuryCorrupt
from treasury.solvency_epochs import epoch_numbers, make_epoch, prove, read_epoch
from treasury.solvency_proofs import read_proof, verify

pytestmark = pytest.mark.slow


@pytest.fixture
def make(ledger, database, entropy, tmp_path):  # noqa: F811 - the fixture
    engine = database.engine()

    async def make(**more):
        return await make_epoch(engine, "main", tmp_path, entropy=entropy, **more)

    return make


def roots(epoch):
    return {one.asset: one.root for one in epoch.lists}


async def test_an_epoch_is_read_again_as_it_was_made(make, tmp_path, clock):
    epoch = await make()
    assert (epoch.number, epoch.booked_at) == (1, clock.now())
    assert read_epoch(tmp_path, "main") == epoch
    assert [(one.asset, one.users, one.total, one.receivable) for one in epoch.lists] == [
        ("ETH", 3, 3 * WEI, WEI),
        ("USD", 3, 107, 0),
    ]


async def test_every_user_is_proven_by_an_earlier_epoch_although_the_book_went_on(make, ledger, tmp_path):  # noqa: F811
    first = await make()
    require_accepted((await ledger.submit(alone(fund(BOB, "USD", 5, "later"))))[0])
    second = await make()
    assert epoch_numbers(tmp_path, "main") == [1, 2]
    for epoch, owed in ((first, {ALICE: 100, BOB: 7, CAROL: 0}), (second, {ALICE: 100, BOB: 12, CAROL: 0})):
        for who, amount in owed.items():
            proof = read_proof(prove(tmp_path, read_epoch(tmp_path, "main", epoch.number), who, "USD"))
            verify(proof, owner=who, epoch=f"main/{epoch.number}", asset="USD", root=roots(epoch)["USD"])
            assert (proof.amount, proof.terms.seq) == (amount, epoch.seq)


async def test_two_epochs_of_one_book_share_no_salt_and_no_root(make, tmp_path):
    first, second = await make(), await make()
    assert first.seq == second.seq
    assert len({*roots(first).values(), *roots(second).values()}) == 4
    salts = {read_proof(prove(tmp_path, epoch, ALICE, "USD")).salt for epoch in (first, second)}
    assert len(salts) == 2


async def test_only_what_is_published_names_nobody(make, tmp_path):
    await make()
    place = tmp_path / "main" / "1"
    assert sorted(path.name for path in place.iterdir()) == ["epoch.json", "epoch.key", "owed"]
    assert ALICE not in (place / "epoch.json").read_text()
    assert (place / "epoch.key").read_text().strip() not in (place / "epoch.json").read_text()
    assert [stat.S_IMODE((place / name).stat().st_mode) for name in ("epoch.key", "owed")] == [0o600, 0o600]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("owed", lambda content: content.replace(b"usr_bob\t7\n", b"usr_bob\t6\n")),
        ("owed", lambda content: content.replace(b"usr_bob\t7\n", b"usr_eve\t7\n")),
        ("owed", lambda content: content[:-4]),
        ("owed", lambda content: content.replace(b"\t7\n", b"\tx\n")),
        ("epoch.key", lambda content: bytes([content[0] ^ 1]) + content[1:]),
        ("epoch.key", lambda content: content[2:]),
        ("epoch.json", lambda content: content.replace(b'"seq": ', b'"seq": 1')),
    ],
)
async def test_files_that_are_not_what_was_published_prove_nothing(make, tmp_path, name, change):
    await make()
    path = tmp_path / "main" / "1" / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(TreasuryCorrupt):
        prove(tmp_path, read_epoch(tmp_path, "main", 1), ALICE, "USD")


async def test_what_is_not_there_is_named(make, tmp_path):
    with pytest.raises(NoEpoch, match="no epoch yet: make one with `onebook solvency new`"):
        read_epoch(tmp_path, "main")
    epoch = await make()
    with pytest.raises(NoEpoch, match="no epoch 2"):
        read_epoch(tmp_path, "main", 2)
    with pytest.raises(NoLeaf, match="usr_eve has no USD account"):
        prove(tmp_path, epoch, "usr_eve", "USD")
    with pytest.raises(NoLeaf, match="no user has a CNY account in epoch main/1"):
        prove(tmp_path, epoch, ALICE, "CNY")
    (tmp_path / "main" / "1" / "epoch.json").write_text("{}")
    with pytest.raises(TreasuryCorrupt, match="isn't an epoch of this book"):
        read_epoch(tmp_path, "main", 1)


async def test_of_two_that_are_made_at_once_only_one_gets_the_number(make, tmp_path):
    """Another run finishes while this one hashes."""
    place = tmp_path / "main" / "1"

    def meanwhile(*_):
        place.mkdir(exist_ok=True)
        (place / "epoch.json").write_text("the other's")

    with pytest.raises(EpochUnfit, match="made meanwhile: try again"):
        await make(told=meanwhile)
    assert os.listdir(place.parent) == ["1"], "its draft is gone"
    assert (place / "epoch.json").read_text() == "the other's"


async def test_a_failed_epoch_leaves_nothing_behind(make, tmp_path):
    def broken(*_):
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        await make(told=broken)
    assert os.listdir(tmp_path / "main") == []
    assert (await make()).number == 1


async def test_what_a_killed_process_left_is_cleared_away_and_a_living_ones_draft_is_not(make, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, alive = (tmp_path / "main" / f".draft-{pid}-x" for pid in (ended.pid, os.getpid()))
    for draft in (dead, alive):
        draft.mkdir(parents=True)
        (draft / "epoch.key").write_text("secret")
    await make()
    assert sorted(os.listdir(tmp_path / "main")) == [alive.name, "1"]


async def test_a_folder_that_cannot_be_made_is_named(make, tmp_path):
    (tmp_path / "main").write_text("a file in the way")
    with pytest.raises(ConfigError, match="no epoch can be kept in"):
        await make()


async def test_progress_ends_at_what_was_announced(make):
    heard: list[tuple[str, int, int]] = []
    await make(told=lambda *words: heard.append(words))
    for asset in ("ETH", "USD"):
        assert {total for about, _, total in heard if about == asset} == {6}
        assert sum(step for about, step, _ in heard if about == asset) == 6


async def test_the_commands_make_show_prove_and_verify(ledger, database, tmp_path):  # noqa: F811 - the fixture
    (tmp_path / "onebook.toml").write_text(
        '[[assets]]\ncode = "USD"\nkind = "fiat"\nscale = 2\n[[assets]]\ncode = "ETH"\nkind = "crypto"\nscale = 18\n'
    )
    environment = os.environ | {
        "ONEBOOK_DATABASE_URL": database.app_url,
        "ONEBOOK_CONFIG": str(tmp_path / "onebook.toml"),
    }

    def onebook(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words], capture_output=True, text=True, env=environment, timeout=60
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    assert "no epoch yet" in onebook("solvency", "show", code=1)
    made = json.loads(onebook("solvency", "new", "--json"))
    assert json.loads(onebook("solvency", "show", "--json")) == made
    root = {one["asset"]: one["root"] for one in made["lists"]}["USD"]
    assert root in onebook("solvency", "show", "--epoch", "1")
    file = tmp_path / "usd.json"
    onebook("solvency", "proof", ALICE, "USD", "--out", str(file))
    said = onebook("verify", "solvency", str(file), "--user", ALICE, "--epoch", "main/1", "--root", root)
    assert f"100 are counted for {ALICE}" in said
    assert "usr_eve has no USD account" in onebook("solvency", "proof", "usr_eve", "USD", code=1)
