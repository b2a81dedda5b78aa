"""Every kind of lie at random while deposits come in: in the end the record is what a scan of the true chain finds."""

import random
import secrets

import pytest

from base.errors import ConfigError, Unavailable
from chain.evm.crosscheck import Fault, cross_check
from tests.faults.lies import Kind
from tests.faults.lying_node import lying_node
from tests.faults.support import stage

pytestmark = pytest.mark.slow

KINDS = frozenset(Kind) - {Kind.REPLACEMENT, Kind.NO_TRACES, Kind.INVENT}
"""All that a reader can meet."""

ROUNDS = 60
"""So many at least: most with a deposit, each with a step and a cross-check."""

ROUNDS_MAX = 3 * ROUNDS
"""By then each kind must have been met."""

SCANNED_EVERY = 10
"""Rounds from one scan of the whole true chain to the next."""

COMPARED = 12
"""Blocks that one cross-check looks at."""


async def read_while_lied_to(anvil, forked, database, clock, seed):
    """Deposits, steps and cross-checks with two liars in the way: the stage, the liars, our address."""
    dice = random.Random(seed)
    async with lying_node(anvil.url, fork=forked.url) as one, lying_node(anvil.url, fork=forked.url) as two:
        at = stage(anvil, database.engine(), clock, one, two, final_depth=200)
        own = await at.following.issue()
        one.lie_at_random(seed, among=KINDS, one_in=6)
        two.lie_at_random(seed + 1, among=KINDS, one_in=12)
        raised = paid = compared = rounds = 0
        while rounds < ROUNDS or (rounds < ROUNDS_MAX and _unmet(one, two)):
            rounds += 1
            if rounds > ROUNDS:
                one.lie_at_random(seed + rounds, among=_unmet(one, two), one_in=2)
            if rounds > ROUNDS or dice.random() < 0.7:
                anvil.transfer(dice.choice(["USDC", "DAI", "ETH"]), own.address, dice.randint(1, 10**6))
                paid += 1
            if dice.random() < 0.2:
                anvil.mine(dice.randint(1, 4))
            for work in (at.step, lambda: compare(at)):
                try:
                    compared += await work() == []
                except (Unavailable, ConfigError):
                    raised += 1
                    at.seconds.at += 60
            if rounds % SCANNED_EVERY == 0:
                await at.as_on_chain([own.address])
        told = one.told + two.told
        print({kind.name: told[kind] for kind in sorted(KINDS)}, f"{rounds=} {raised=} {paid=} {compared=}")
        assert _unmet(one, two) == set()
        assert min(raised, compared) >= ROUNDS // 6
        assert paid >= ROUNDS // 2
        one.be_honest()
        two.be_honest()
        await at.arrive()
        await at.as_on_chain([own.address])
        assert len(await at.recorded()) == paid
        await at.following.follower.close()


def _unmet(*liars):
    return {kind for kind in KINDS if not any(liar.told[kind] for liar in liars)}


async def compare(at):
    """Cross-check what was taken in last: a liar's range may be wrong, the record never is."""
    height = await at.height()
    if height < 2:
        return None
    where = {"lowest": max(1, height - COMPARED + 1), "highest": height}
    found = await cross_check(at.following.engine, at.following.network, at.pool, **where)
    assert {one.fault for one in found} <= {Fault.RANGE_WRONG}
    return found


async def test_f05_to_f13_lied_to_at_random_it_records_what_a_scan_of_the_true_node_finds(
    anvil, forked, database, clock
):
    await read_while_lied_to(anvil, forked, database, clock, secrets.randbits(32))
