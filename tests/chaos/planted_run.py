"""Workers with planted faults, which the checker must find out: `make chaos-planted`. It takes a minute."""

import re
import secrets
from dataclasses import replace

import pytest

from tests.chaos.checker import Kind
from tests.chaos.plan import HouseStrike, Plan, ToHouse, make_plan
from tests.chaos.planted import Fault
from tests.chaos.run import run


@pytest.mark.timeout(400)
async def test_a_worker_that_pays_twice_releases_what_was_sent_and_loses_deposits_is_found_out(tmp_path):
    tmp_path.chmod(0o711)
    plan = quiet_plan(secrets.randbits(32))
    ending = await run(plan, tmp_path, faults=[fault.value for fault in Fault])
    told = {one.kind for one in ending.differences if not isinstance(one, str)}
    assert told >= {Kind.PAYMENT, Kind.CUSTODY, Kind.USER, Kind.FEES}, ending.line()
    words = "\n".join(map(str, ending.differences))
    assert " is cancelled: " in words, "a released withdrawal that was paid all the same"
    assert _paid_twice(ending.differences), "a recipient with twice the amount"


def quiet_plan(seed: int) -> Plan:
    """Half a minute in which nothing is done to anybody, but that the worker is killed when payments are under way."""
    plan = make_plan(seed, seconds=30, users=10)
    point = "withdrawal.broadcast.before"
    kills = tuple(HouseStrike(at=0, what=ToHouse.WORKER_AT_POINT, point=point, seconds=30) for _ in range(3))
    return replace(plan, lying=(), chain=(), house=kills)


def _paid_twice(differences) -> bool:
    found = (re.search(r"is final: .* has (\d+) \w+, not (\d+)", str(one)) for one in differences)
    return any(one and int(one[1]) == 2 * int(one[2]) > 0 for one in found)
