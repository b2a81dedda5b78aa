"""A minute of chaos, and what shows that a wrong ending would be noticed. Workers that are wrong: `planted_run`."""

import ast
import os
import secrets
from pathlib import Path

import pytest

from tests.chaos import spoiling
from tests.chaos.book_view import connected
from tests.chaos.checker import check
from tests.chaos.plan import make_plan
from tests.chaos.run import act, facts_of, finish, opened

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("SECONDS", "60"))
USERS = 60


def test_the_checker_imports_nothing_of_the_service():
    """Else it could be wrong in the same way."""
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    allowed = {"tests.chaos.book_view", "tests.chaos.chain_view", "tests.chaos.records"}
    for name in ("checker", "book_view", "chain_view", "records"):
        imported = _imported(ROOT / "tests" / "chaos" / f"{name}.py")
        assert {one for one in imported if one.partition(".")[0] in own} <= allowed, name


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    whole = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return whole | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 500)
@pytest.mark.long
async def test_a_minute_of_chaos_leaves_book_chain_and_users_in_agreement(tmp_path):
    tmp_path.chmod(0o711)
    plan = make_plan(secrets.randbits(32), seconds=SECONDS, users=USERS)
    print(f"seed {plan.seed}")
    async with opened(plan, tmp_path) as under_way:
        ending = await finish(under_way, await act(under_way))
        assert ending.passed, ending.line()
        await _what_is_spoilt_is_told(under_way)


async def _what_is_spoilt_is_told(under_way):
    """The same ending with something wrong in it: each is named, and nothing is once it's right again."""
    facts, outside = facts_of(under_way), under_way.outside
    under_way.house.may_start.clear()
    for worker in under_way.house.workers:
        under_way.house.kill(worker)
    async with outside.still(), connected(under_way.house.running.admin_url) as connection:
        snapshot = await outside.rpc("evm_snapshot")
        planted = await spoiling.spoil_chain(outside, facts, connection)
        _require_told(planted, await check(facts, connection))
        assert await outside.rpc("evm_revert", snapshot) is True
        rolled_back = connection.transaction()
        await rolled_back.start()
        spoilt, planted = await spoiling.spoil_book(facts, connection)
        _require_told([*planted, *spoiling.FOLLOWING], await check(spoilt, connection))
        await rolled_back.rollback()
        assert await check(facts, connection) == []
    under_way.house.may_start.set()


def _require_told(planted, found):
    for one in planted:
        assert any(one.kind is told.kind and one.words in told.what for told in found), (one, list(map(str, found)))
