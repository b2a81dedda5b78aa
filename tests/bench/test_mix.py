"""The standard mix sends what it says, and the limited hot account stays where it must."""

from collections import Counter

import pytest

from bench.mix import AMOUNT_AVERAGE, FUNDED, SHARES, USDC, Kind, Mix, Pattern, user_accounts
from bench.stage import founding
from ledger.commands import Group, Hold, Post, Settle, Void
from ledger.memory import MemoryLedger
from ledger.riders import Insert

COUNT = 5_000


@pytest.fixture
def accounts(clock):
    return user_accounts(200, seed=7, clock=clock)


async def book_of(accounts, clock):
    """A book in memory, its accounts open and funded."""
    ledger = MemoryLedger(clock)
    await ledger.register_asset(USDC)
    for group in founding(accounts):
        (outcomes,) = await ledger.submit(group)
        assert all(outcome.accepted for outcome in outcomes)
    return ledger


def mix_of(accounts, clock, **choices):
    return Mix(accounts, seed=7, run="test", clock=clock, **choices)


def kind_of(group: Group, seen: set[str]) -> Kind:
    """What a submission is, by its looks."""
    if group.commands[0].id in seen:
        return Kind.REPEAT
    seen.update(command.id for command in group.commands)
    if len(group.commands) == 2:
        return Kind.PAIR
    match group.commands[0]:
        case Post() as post:
            return Kind.REFUSAL if post.postings[0].amount > FUNDED else Kind.POST
        case Hold():
            return Kind.HOLD
        case Settle():
            return Kind.SETTLE
        case Void():
            return Kind.VOID
    raise AssertionError(group)


def test_mix_has_its_shares(accounts, clock):
    mix = mix_of(accounts, clock)
    primed = mix.prime()
    seen = {command.id for group in primed for command in group.commands}
    groups = mix.groups(COUNT)
    # The first ones have nothing to repeat yet and are posts instead.
    counted = Counter(kind_of(group, seen) for group in groups)
    for kind, share in SHARES.items():
        assert counted[kind] / COUNT == pytest.approx(share / 100, rel=0.15, abs=0.002), kind
    posts = [g.commands[0] for g in groups if len(g.commands) == 1 and isinstance(g.commands[0], Post)]
    assert sum(len(post.postings) == 2 for post in posts) / len(posts) == pytest.approx(1 / 3, rel=0.1)
    settlements = [g.commands[0] for g in groups if isinstance(g.commands[0], Settle)]
    assert sum(s.amounts is not None for s in settlements) / len(settlements) == pytest.approx(1 / 2, rel=0.1)


def test_same_seed_gives_the_same_history(accounts, clock):
    assert mix_of(accounts, clock).groups(500) == mix_of(accounts, clock).groups(500)
    other = Mix(accounts, seed=8, run="test", clock=clock).groups(500)
    assert mix_of(accounts, clock).groups(500) != other


async def test_book_accepts_all_but_the_refusals(accounts, clock):
    ledger = await book_of(accounts, clock)
    mix = mix_of(accounts, clock)
    await ledger.submit(*mix.prime())
    groups = mix.groups(5_000)
    seen: set[str] = set()
    kinds = [kind_of(group, seen) for group in groups]
    for kind, outcomes in zip(kinds, await ledger.submit(*groups), strict=True):
        assert all(outcome.accepted for outcome in outcomes) == (kind is not Kind.REFUSAL) or kind is Kind.REPEAT, kind


async def test_limited_hot_account_is_near_zero_and_foreseen_exactly(accounts, clock):
    ledger = await book_of(accounts, clock)
    mix = mix_of(accounts, clock, pattern=Pattern.HOT_LIMITED)
    await ledger.submit(*mix.prime())
    groups = mix.groups(COUNT)
    decided = await ledger.submit(*groups)
    hot = await ledger.account(accounts[0])
    assert hot is not None
    assert hot.available == mix.hot.available
    assert mix.hot.highest <= 10 * AMOUNT_AVERAGE
    assert mix.hot.lowest >= 0
    assert 0.01 <= mix.hot.refused / mix.hot.debits <= 0.05
    commands = [outcome for outcomes in decided for outcome in outcomes if outcome.accepted and not outcome.replayed]
    touching = [outcome for outcome in commands if any(hot.id in (line.debit, line.credit) for line in outcome.lines)]
    # The holds made before the start touch it never, so at first what ends them doesn't either.
    assert len(touching) / len(commands) == pytest.approx(1 / 2, abs=0.08)


@pytest.mark.parametrize("share", [0, 0.2])
def test_share_of_entries_carries_a_row(accounts, clock, share):
    mix = mix_of(accounts, clock, resources=share)
    mix.prime()
    groups = mix.groups(COUNT)
    entries = sum(len(group.commands) for group in groups)
    rows = [rider for group in groups for rider in group.riders]
    assert len(rows) / entries == pytest.approx(share, abs=0.01)
    assert all(isinstance(rider, Insert) and rider.key["book"] == "main" for rider in rows)
