"""Positions through a block, over HTTP and in a shell: beside the book what nodes told of it, or that they didn't."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from base.clock import ManualClock
from chain import tables as chain
from cli.api_client import KEY_VARIABLE
from db.engine import tx
from ledger.accounts import house_account
from ledger.commands import Post, Posting, alone
from ledger.money import parse_amount
from ledger.outcomes import require_accepted
from tests.api.conftest import Stage
from tests.support.command import onebook
from tests.support.postgres import Database
from treasury.sample_store import keep_sample, note_judged
from treasury.samples import Sample

pytestmark = pytest.mark.slow

HOT, DEPOSIT = (house_account(f"custody:local:{role}", "USDC") for role in ("hot", "deposit"))
BLOCKS, SAMPLED = 10, (3, 8)


def hash_of(number: int) -> str:
    return f"0x{number:064x}"


@pytest.fixture
async def followed(stage: Stage, database: Database, clock: ManualClock) -> Stage:
    """Ten final blocks; at two of them nodes were asked: they have 50.00 USDC at hot and 0.01 at deposit addresses."""
    ledger = stage.services.ledger
    await ledger.ensure_open(HOT, house_account("capital", "USDC"))
    began = clock.now()
    await _held(stage, "50.00")
    clock.advance(timedelta(minutes=5))
    async with tx(database.engine()) as connection:
        told: dict[str, Any] = {"network": "local", "chain_id": 31337, "genesis_hash": hash_of(0), "height": BLOCKS}
        told |= {"block_hash": hash_of(BLOCKS), "head_height": BLOCKS, "final_height": BLOCKS, "roots_verified": True}
        await connection.execute(insert(chain.networks).values(**told, epoch=1, updated_at=clock.now()))
        for number in range(BLOCKS + 1):
            block: dict[str, Any] = {"network": "local", "block_hash": hash_of(number), "number": number}
            block |= {"parent_hash": hash_of(number - 1) if number else hash_of(0), "base_fee_per_gas": 1}
            at = began + timedelta(seconds=10 * number + 1)
            block |= {"mined_at": at, "seen_at": at, "verified": True, "orphaned": False, "revision": 1}
            await connection.execute(insert(chain.blocks).values(**block))
        for number in SAMPLED:
            at = began + timedelta(seconds=10 * number + 1)
            held = {HOT: 50_000_000, DEPOSIT: 10_000}
            await keep_sample(connection, Sample("local", number, hash_of(number), at, at, held, ()))
            await note_judged(connection, {"local": hash_of(number)}, now=at)
    return stage


async def _held(stage: Stage, amount: str) -> None:
    """The book has so much at hot addresses."""
    units = parse_amount(amount, await stage.services.ledger.asset("USDC"))
    post = Post(id="test:hot", postings=(Posting(HOT, house_account("capital", "USDC"), "USDC", units),))
    (outcomes,) = await stage.services.ledger.submit(alone(post))
    require_accepted(outcomes)


async def test_a_sampled_block_is_compared_and_another_names_the_nearest(followed: Stage):
    ask = followed.treasurer.get
    same: list[dict[str, Any]] = [{"block": "local:8"}, {"network": "local", "block": "8"}]
    for asked in same:
        told = (await ask("/v1/treasury/positions", **asked)).json()
        assert told["block"] == {"network": "local", "number": 8, "hash": hash_of(8)}
        nodes = told["told_by_nodes"]
        assert (nodes["sampled"], nodes["agrees"], nodes["nearest_below"]) == (True, False, None)
        assert nodes["items"] == [
            {"asset": "USDC", "role": "deposit", "book": "0.00", "nodes": "0.01", "difference": "0.01"},
            {"asset": "USDC", "role": "hot", "book": "50.00", "nodes": "50.00", "difference": "0.00"},
        ]
    for number, below, above in ((2, None, 3), (5, 3, 8), (9, 8, None)):
        nodes = (await ask("/v1/treasury/positions", block=f"local:{number}")).json()["told_by_nodes"]
        assert (nodes["sampled"], nodes["agrees"], nodes["items"]) == (False, None, None)
        assert (nodes["nearest_below"], nodes["nearest_above"]) == (below, above)
    assert (await ask("/v1/treasury/positions")).json()["told_by_nodes"] is None
    no_block = (await ask("/v1/treasury/positions", network="local")).json()
    assert (no_block["code"], no_block["param"]) == ("invalid_request", "block")


async def test_the_command_shows_it_and_fails_where_they_differ(followed: Stage, address: str, tmp_path: Path):
    async def run(*arguments: str) -> Any:
        environment = {KEY_VARIABLE: str(followed.treasurer.secret)}
        told = ("positions", *arguments, "--api", address)
        return await asyncio.to_thread(onebook, *told, cwd=tmp_path, environment=environment)

    shown = await run("--block", "local:8")
    assert (shown.returncode, "What nodes told of block 8" in shown.stdout) == (1, True), shown.stderr
    (deposit,) = [line.split() for line in shown.stdout.splitlines() if line.split()[:2] == ["USDC", "deposit"]]
    assert deposit == ["USDC", "deposit", "0.00", "0.01", "0.01"]
    between = await run("--block", "local:5")
    assert "nodes weren't asked what own addresses held at block 5; the nearest that were: 3 and 8" in between.stdout
    assert between.returncode == 0
    assert json.loads((await run("--block", "local:5", "--json")).stdout)["told_by_nodes"]["nearest_above"] == 8
    assert "nodes" not in (await run()).stdout
