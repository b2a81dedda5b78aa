"""What is owed to users, read from a real book at one seq: the book's own sums, held money included."""

import asyncio
import io
import json
import subprocess
import sys

import pytest

from db.engine import tx
from db.errors import DiskFull
from ledger.accounts import house_account, user_account
from ledger.commands import Hold, Post, Posting, SetCreditLine, alone
from ledger.errors import BookCorrupt
from ledger.money import Asset, AssetKind
from ledger.outcomes import require_accepted
from ledger.service import PostgresLedger
from treasury import position_store
from treasury.errors import NoLeaf, TreasuryCorrupt
from treasury.position import positions_of
from treasury.solvency import read_owed, snapshot, tree_of
from treasury.solvency_proofs import read_proof, verify, write_proof

pytestmark = pytest.mark.slow

KEY = bytes(range(32))
USD, ETH = Asset("USD", AssetKind.FIAT, 2), Asset("ETH", AssetKind.CRYPTO, 18)
WEI = 10**18
ALICE, BOB, CAROL = "usr_alice", "usr_bob", "usr_carol"


@pytest.fixture
async def ledger(database, clock):
    """Alice has 100 USD of which 40 are held, and three ether; Bob has 7 USD and owes one ether; Carol has nothing."""
    ledger = PostgresLedger(database.engine(), clock=clock)
    await ledger.create_book()
    for asset in (USD, ETH):
        await ledger.register_asset(asset)
        names = ("capital", "in-transit:local:out", "bank:main")
        await ledger.ensure_open(*(house_account(name, asset.code) for name in names))
        await ledger.ensure_open(*(user_account(who, asset.code) for who in (ALICE, BOB, CAROL)))
    line = SetCreditLine(id="line", account=user_account(BOB, "ETH"), cap=WEI)
    spent = Hold(
        id="held",
        postings=(Posting(user_account(ALICE, "USD"), house_account("in-transit:local:out", "USD"), "USD", 40),),
    )
    for command in (fund(ALICE, "USD", 100), fund(BOB, "USD", 7), fund(ALICE, "ETH", 2 * WEI), line, spent):
        require_accepted((await ledger.submit(alone(command)))[0])
    owing = Post(id="owing", postings=(Posting(user_account(BOB, "ETH"), user_account(ALICE, "ETH"), "ETH", WEI),))
    require_accepted((await ledger.submit(alone(owing)))[0])
    return ledger


def fund(who, asset, amount, id=None):
    posting = Posting(house_account("bank:main", asset), user_account(who, asset), asset, amount)
    return Post(id=id or f"fund-{who}-{asset}", postings=(posting,))


@pytest.fixture
def engine(database):
    return database.engine()


async def read(engine, book="main"):
    spool = io.BytesIO()
    async with snapshot(engine) as connection:
        return await read_owed(connection, book, spool), spool


async def test_held_money_is_still_owed_and_every_user_is_listed(ledger, engine):
    owed, spool = await read(engine)
    tree = tree_of(owed, "USD", spool, number=1, key=KEY)
    assert (tree.leaves, tree.total) == (3, 107)
    assert {who: tree.inclusion(who).amount for who in (ALICE, BOB, CAROL)} == {ALICE: 100, BOB: 7, CAROL: 0}
    assert (owed.seq, owed.booked_at) == (await ledger.last_seq(), ledger._clock.now())


async def test_a_drawn_credit_line_is_told_beside_and_lowers_nothing_that_is_owed(ledger, engine):
    owed, spool = await read(engine)
    tree = tree_of(owed, "ETH", spool, number=1, key=KEY)
    assert (tree.total, owed.assets["ETH"].sums.receivable) == (3 * WEI, WEI)
    assert tree.inclusion(BOB).amount == 0


async def test_totals_are_the_books_own_position(ledger, engine):
    owed, spool = await read(engine)
    async with tx(engine) as connection:
        sums_now = await position_store.sums_now(connection, 1)
    for position in positions_of(owed.assets, sums_now):
        sums = owed.assets[position.asset].sums
        assert tree_of(owed, position.asset, spool, number=3, key=KEY).total == sums.owed
        assert sums.owed - sums.receivable == position.owed


async def test_what_stands_on_a_users_other_accounts_is_owed_as_well(ledger, engine):
    account = f"{CAROL}/savings/USD"
    await ledger.ensure_open(account)
    posting = Posting(house_account("bank:main", "USD"), account, "USD", 5)
    require_accepted((await ledger.submit(alone(Post(id="savings", postings=(posting,)))))[0])
    owed, spool = await read(engine)
    tree = tree_of(owed, "USD", spool, number=1, key=KEY)
    assert (tree.leaves, tree.total, tree.inclusion(CAROL).amount) == (3, 112, 5)


async def test_what_a_user_owes_on_one_account_lowers_nothing_owed_on_another(ledger, engine):
    account = f"{ALICE}/savings/USD"
    await ledger.ensure_open(account)
    posting = Posting(account, user_account(BOB, "USD"), "USD", 9)
    for command in (SetCreditLine(id="more", account=account, cap=10), Post(id="drawn", postings=(posting,))):
        require_accepted((await ledger.submit(alone(command)))[0])
    owed, spool = await read(engine)
    tree = tree_of(owed, "USD", spool, number=1, key=KEY)
    assert (tree.inclusion(ALICE).amount, tree.total, owed.assets["USD"].sums.receivable) == (100, 116, 9)


async def test_all_assets_are_read_at_one_seq_while_entries_are_booked(ledger, engine):
    """Each further command raises the two totals together by one: they must always fit the seq that was read."""
    assets, done = ("USD", "ETH"), asyncio.Event()
    base, start = 107 + 3 * WEI, await ledger.last_seq()

    async def book():
        number = 0
        while not done.is_set():
            number += 1
            outcomes = await ledger.submit(
                alone(fund(BOB if number % 4 > 1 else CAROL, assets[number % 2], 1, f"n{number}"))
            )
            require_accepted(outcomes[0])

    writer = asyncio.create_task(book())
    seqs: set[int] = set()
    try:
        async with asyncio.timeout(60):
            while len(seqs) < 20:
                owed, spool = await read(engine)
                sums = [tree_of(owed, asset, spool, number=1, key=KEY).total for asset in assets]
                repaid = WEI - owed.assets["ETH"].sums.receivable  # Bob's first wei lower what he owes
                assert sum(sums) + repaid - base == owed.seq - start
                seqs.add(owed.seq)
    finally:
        done.set()
        await writer


async def test_a_list_that_is_not_the_books_sum_is_refused(ledger, engine):
    owed, spool = await read(engine)
    spool = io.BytesIO(spool.getvalue().replace(b"usr_bob\t7\n", b"usr_bob\t6\n"))
    with pytest.raises(TreasuryCorrupt, match="isn't the book's own sum") as refused:
        tree_of(owed, "USD", spool, number=1, key=KEY)
    assert refused.value.facts == {"expected": "107 to 3", "found": "106 to 3"}


async def test_an_asset_that_nobody_has_and_a_book_that_is_not_there_are_named(ledger, engine):
    owed, spool = await read(engine)
    with pytest.raises(NoLeaf, match="no user has a CNY account"):
        tree_of(owed, "CNY", spool, number=1, key=KEY)
    with pytest.raises(BookCorrupt, match="no book 'other'"):
        await read(engine, "other")


async def test_a_spool_that_cannot_be_written_ends_the_reading(ledger, engine):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    async with asyncio.timeout(20):
        with pytest.raises(DiskFull, match="the disk is full"):
            async with snapshot(engine) as connection:
                await read_owed(connection, "main", Full())


async def test_verify_needs_no_database_and_says_what_is_proven_and_what_is_not(ledger, engine, tmp_path):
    owed, spool = await read(engine)
    tree = tree_of(owed, "USD", spool, number=7, key=KEY)
    file = tmp_path / "usd.proof.json"
    file.write_bytes(write_proof(tree.inclusion(ALICE)))
    run = (
        "import sys; from cli.main import run\n"
        "try: run()\n"
        "finally: print('database' if {'sqlalchemy', 'asyncpg'} & sys.modules.keys() else 'alone')"
    )

    def verified(*options):
        command = [sys.executable, "-c", run, "verify", "solvency", str(file), *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    good = verified("--user", ALICE, "--epoch", "main/7", "--root", tree.root.hex())
    assert good.returncode == 0, good.stderr
    assert "of 107 USD (in its smallest unit) that book main owes to 3 users" in good.stdout
    assert f"100 are counted for {ALICE} (epoch main/7)" in good.stdout
    assert "the root is the one that you gave" in good.stdout
    assert "not proven: that other users are counted" in good.stdout
    assert good.stdout.endswith("alone\n")
    alone_ = verified()
    assert f"under the root {tree.root.hex()}: compare it" in alone_.stdout
    assert "that must be your own id" in alone_.stdout
    shown = json.loads(verified("--json").stdout.removesuffix("alone\n"))
    assert (shown["proven"], shown["root_compared"], shown["proofs"][0]["amount"]) == (True, False, "100")
    assert verified("--user", BOB).returncode == 1
    assert verified("--root", "ab" * 32).returncode == 1
    assert [verified("--epoch", epoch).returncode for epoch in ("7", "main/8", "8", "other/7")] == [0, 1, 1, 1]
    bad = verified("--root", "nonsense")
    assert (bad.returncode, "isn't 64 hex digits" in bad.stderr) == (2, True)
    file.write_bytes(file.read_bytes().replace(b'"amount":"100"', b'"amount":"99"'))
    changed = verified()
    assert (changed.returncode, "adds up to 106, not to the total 107" in changed.stderr) == (1, True)
    file.unlink()
    assert verified().returncode == 2


async def test_a_proof_from_the_book_is_verified_from_its_bytes(ledger, engine):
    owed, spool = await read(engine)
    tree = tree_of(owed, "ETH", spool, number=2, key=KEY)
    for who, amount in ((ALICE, 3 * WEI), (BOB, 0), (CAROL, 0)):
        proof = read_proof(write_proof(tree.inclusion(who)))
        verify(proof, owner=who, epoch="main/2", asset="ETH", root=tree.root)
        assert (proof.amount, proof.terms.seq) == (amount, owed.seq)
