"""What people do about a break: one proposes, another one confirms, and only the next cycle ends it."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import text

from base.errors import OnebookError
from db.engine import tx
from db.errors import AppendOnly
from ledger.accounts import house_account, user_account
from ledger.commands import BankEvidence, Post, Posting, alone
from ledger.requests import request_key
from tests.treasury.conftest import Told, Treasury
from tests.wallet.conftest import ALICE
from treasury.break_alerts import AGED_AFTER
from treasury.break_entries import CORRECTABLE, INSTEAD
from treasury.break_records import HistoryKind, ResolutionKind, ResolutionState
from treasury.break_states import EXPLAINED, NEXT, Act, BreakState, advance, in_cycle, may
from treasury.break_store import Wanted
from treasury.errors import BreakChanged, BreakClosed, ResolutionClosed, ResolutionUnfit, SamePerson, SuspenseShort
from treasury.records import BreakReason
from treasury.reports.store import stream_breaks

slow = pytest.mark.slow
MAIN, CAPITAL, SUSPENSE = (house_account(name, "EUR") for name in ("bank:main", "capital", "suspense"))
ADA, BEN = "key_ada", "key_ben"
keys = itertools.count()


def new_key():
    return request_key(owner=BEN, route="confirm", key=f"k{next(keys)}", body=None)


async def paid_in(treasury: Treasury, *, bank_says: int) -> None:
    """The book has 100.00 at the bank, and the bank says what it says."""
    await treasury.house.ledger.ensure_open(MAIN, user_account(ALICE, "EUR"), CAPITAL, SUSPENSE)
    posting = Posting(MAIN, user_account(ALICE, "EUR"), "EUR", 100_00)
    await treasury.house.ledger.submit(
        alone(Post(id="line", evidence=BankEvidence("main", "S1", 1), postings=(posting,)))
    )
    treasury.bank.told = [Told("main", "EUR", bank_says)]


async def cycle(treasury: Treasury, clock):
    """A run that begins to read a while after all that happened before."""
    clock.advance(timedelta(minutes=1))
    return await treasury.reconciler.run()


async def broken(treasury: Treasury, clock, difference: int):
    await paid_in(treasury, bank_says=100_00 + difference)
    (found,) = (await cycle(treasury, clock)).breaks
    return found


def test_every_act_is_in_the_table_and_what_is_not_is_refused():
    assert {act for row in NEXT.values() for act in row} == set(Act)
    assert not any(may(BreakState.RESOLVED, act) for act in Act)
    for state in set(BreakState) - {BreakState.RESOLVED}:
        assert advance(state, Act.MISS) is BreakState.RESOLVED
        assert not may(state, Act.POST) or state is BreakState.PROPOSED
    with pytest.raises(OnebookError, match="post"):
        advance(BreakState.OPEN, Act.POST)
    for act in (Act.SEE, Act.CHANGE):  # an entry that didn't help leaves nothing explained
        assert advance(BreakState.AWAITING_CYCLE, act) is BreakState.OPEN


def test_every_kind_of_break_has_an_age_and_a_way_out():
    assert set(AGED_AFTER) == set(BreakReason)
    assert CORRECTABLE | set(INSTEAD) == set(BreakReason)
    assert not CORRECTABLE & set(INSTEAD)


def test_nothing_that_one_person_does_explains_a_break():
    alone_ = (Act.PROPOSE, Act.WITHDRAW)
    assert not {NEXT[state][act] for state in NEXT for act in alone_ if may(state, act)} & EXPLAINED


def test_a_cycle_that_began_before_the_entry_says_nothing_of_it():
    early = {"lapsed": False, "begun_before": True}
    assert in_cycle(BreakState.AWAITING_CYCLE, seen=True, changed=False, **early) == ()
    assert in_cycle(BreakState.AWAITING_CYCLE, seen=False, changed=False, **early) == ()
    assert in_cycle(BreakState.OPEN, seen=False, changed=False, **early) == (Act.MISS,)


@slow
@pytest.mark.parametrize(("difference", "against"), [(5_00, SUSPENSE), (-5_00, CAPITAL)])
async def test_an_entry_of_two_people_brings_the_book_to_what_is_there(treasury, clock, difference, against):
    entry = await broken(treasury, clock, difference)
    purpose = against.split("/")[1]
    proposed = await treasury.breaks.propose_entry(entry.id, against=purpose, amount=None, reason="a fee", by=ADA)
    assert (await cycle(treasury, clock)).unexplained == 1  # one person's word
    with pytest.raises(SamePerson):
        await treasury.breaks.confirm(proposed.id, key=new_key(), by=ADA)
    confirmed = await treasury.breaks.confirm(proposed.id, key=new_key(), by=BEN)
    assert (confirmed.state, confirmed.decided_by) == (ResolutionState.CONFIRMED, BEN)
    ledger = treasury.house.ledger
    assert await treasury.house.balance(MAIN) == -100_00 - difference
    assert await treasury.house.balance(against) == difference
    (booked,) = await ledger.outcomes(confirmed.entry)
    assert booked.subject == entry.id
    (command,) = [line.command for line in await ledger.history(subject=entry.id)]
    assert command == confirmed.entry

    (waiting,) = await treasury.breaks.list()
    assert (waiting.state, waiting.resolved_at) == (BreakState.AWAITING_CYCLE, None)
    run = await cycle(treasury, clock)
    assert (run.open_breaks, run.breaks) == (0, ())
    file = await treasury.breaks.get(entry.id)
    assert file.entry.state is BreakState.RESOLVED
    assert [(line.kind, line.by) for line in file.history] == [
        (HistoryKind.OPENED, None),
        (HistoryKind.PROPOSED, ADA),
        (HistoryKind.POSTED, BEN),
        (HistoryKind.RESOLVED, None),
    ]


@slow
async def test_an_entry_of_a_part_leaves_the_rest_open(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    part = await treasury.breaks.propose_entry(entry.id, against="capital", amount=2_00, reason="a fee", by=ADA)
    await treasury.breaks.confirm(part.id, key=new_key(), by=BEN)
    (rest,) = (await cycle(treasury, clock)).breaks
    assert (rest.id, rest.state, rest.difference) == (entry.id, BreakState.OPEN, -3_00)
    history = (await treasury.breaks.get(entry.id)).history
    assert history[-1].kind is HistoryKind.STILL_THERE


@slow
async def test_another_difference_than_the_proposed_one_is_not_confirmed(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    proposed = await treasury.breaks.propose_entry(entry.id, against="capital", amount=None, reason="a fee", by=ADA)
    treasury.bank.told = [Told("main", "EUR", 90_00)]
    await cycle(treasury, clock)
    with pytest.raises(BreakChanged) as changed:
        await treasury.breaks.confirm(proposed.id, key=new_key(), by=BEN)
    assert (changed.value.facts["proposed_for"], changed.value.facts["difference"]) == (-5_00, -10_00)
    assert await treasury.house.balance(CAPITAL) == 0
    await treasury.breaks.withdraw(proposed.id, by=BEN)
    again = await treasury.breaks.propose_entry(entry.id, against="capital", amount=None, reason="a fee", by=ADA)
    assert again.amount == 10_00


@slow
async def test_what_is_gone_before_it_is_confirmed_posts_nothing(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    proposed = await treasury.breaks.propose_entry(entry.id, against="capital", amount=None, reason="a fee", by=ADA)
    treasury.bank.told = [Told("main", "EUR", 100_00)]
    assert (await cycle(treasury, clock)).open_breaks == 0
    with pytest.raises(ResolutionClosed, match="overtaken"):
        await treasury.breaks.confirm(proposed.id, key=new_key(), by=BEN)
    assert await treasury.house.balance(CAPITAL) == 0


@slow
async def test_two_who_confirm_at_once_post_one_entry(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    for round_ in range(5):
        proposed = await treasury.breaks.propose_entry(entry.id, against="capital", amount=1_00, reason="a fee", by=ADA)
        people = [f"key_{n}" for n in range(4)]
        tried = await asyncio.gather(
            *(treasury.breaks.confirm(proposed.id, key=new_key(), by=who) for who in people), return_exceptions=True
        )
        done = [one for one in tried if not isinstance(one, BaseException)]
        assert len(done) == 1, tried
        assert all(isinstance(one, ResolutionClosed) for one in tried if one is not done[0]), tried
        assert await treasury.house.balance(CAPITAL) == -1_00 * (round_ + 1)
        await cycle(treasury, clock)


@slow
async def test_a_confirmation_and_a_withdrawal_at_once_agree_on_one_end(treasury, clock):
    entry = await broken(treasury, clock, -50_00)
    posted = 0
    for _ in range(6):
        proposed = await treasury.breaks.propose_entry(entry.id, against="capital", amount=1, reason="a cent", by=ADA)
        tried = await asyncio.gather(
            treasury.breaks.confirm(proposed.id, key=new_key(), by=BEN),
            treasury.breaks.withdraw(proposed.id, by=ADA),
            treasury.breaks.note(entry.id, words="look", by=ADA),
            return_exceptions=True,
        )
        ended = await treasury.breaks.resolution(proposed.id)
        if ended.state is ResolutionState.PROPOSED:  # the note came between reading and posting
            await treasury.breaks.withdraw(proposed.id, by=ADA)
        else:
            assert sum(isinstance(one, ResolutionClosed) for one in tried[:2]) == 1, tried
        posted += ended.state is ResolutionState.CONFIRMED
        assert await treasury.house.balance(CAPITAL) == -posted
        await cycle(treasury, clock)
    numbers = [line.number for line in (await treasury.breaks.get(entry.id)).history]
    assert numbers == list(range(1, len(numbers) + 1))


@slow
async def test_the_same_request_again_posts_nothing_more(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    proposed = await treasury.breaks.propose_entry(entry.id, against="capital", amount=None, reason="a fee", by=ADA)
    key = new_key()
    first = await treasury.breaks.confirm(proposed.id, key=key, by=BEN)
    again = await treasury.breaks.confirm(proposed.id, key=key, by=BEN)
    other = await treasury.breaks.confirm(proposed.id, key=new_key(), by=BEN)
    assert (first.replayed, again.replayed, other.replayed) == (False, True, True)
    assert await treasury.house.balance(CAPITAL) == -5_00


@slow
async def test_a_matter_of_time_is_explained_until_its_date_or_another_amount(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    until = clock.now() + timedelta(days=2)

    async def accept():
        made = await treasury.breaks.propose_acceptance(entry.id, until=until, reason="tomorrow's line", by=ADA)
        with pytest.raises(SamePerson):
            await treasury.breaks.confirm(made.id, key=new_key(), by=ADA)
        return await treasury.breaks.confirm(made.id, key=new_key(), by=BEN)

    assert (await accept()).kind is ResolutionKind.ACCEPTANCE
    run = await cycle(treasury, clock)
    assert (run.open_breaks, run.unexplained, run.breaks[0].state) == (1, 0, BreakState.ACCEPTED)
    assert (await treasury.reconciler.recent())[0].explained == 1

    treasury.bank.told = [Told("main", "EUR", 94_99)]
    run = await cycle(treasury, clock)
    assert (run.unexplained, run.breaks[0].state) == (1, BreakState.OPEN)

    await accept()
    clock.advance(timedelta(days=2))
    lapsed = Wanted((BreakState.OPEN,))
    (over,) = await treasury.breaks.list(lapsed)  # by the clock, before any cycle
    assert (over.id, over.state_at(clock.now())) == (entry.id, BreakState.OPEN)
    assert await treasury.breaks.list(Wanted((BreakState.ACCEPTED,))) == []
    run = await cycle(treasury, clock)
    assert (run.unexplained, run.breaks[0].state) == (1, BreakState.OPEN)
    assert HistoryKind.LAPSED in {line.kind for line in (await treasury.breaks.get(entry.id)).history}


UNFIT = [
    # against      amount  why
    ("custody:x",  None,   "against"),
    ("capital",    5_01,   "amount"),
    ("capital",    0,      "amount"),
]  # fmt: skip


@slow
async def test_no_entry_goes_further_than_the_difference_or_where_nobody_may_book(treasury, clock):
    entry = await broken(treasury, clock, -5_00)
    for against, amount, param in UNFIT:
        with pytest.raises(ResolutionUnfit) as refused:
            await treasury.breaks.propose_entry(entry.id, against=against, amount=amount, reason="a fee", by=ADA)
        assert refused.value.param == param
    for days in (0, -1, 93):
        until = clock.now() + timedelta(days=days)
        with pytest.raises(ResolutionUnfit):
            await treasury.breaks.propose_acceptance(entry.id, until=until, reason="later", by=ADA)
    # only evidence may overdraw suspense
    short = await treasury.breaks.propose_entry(entry.id, against="suspense", amount=None, reason="a fee", by=ADA)
    with pytest.raises(SuspenseShort) as refusal:
        await treasury.breaks.confirm(short.id, key=new_key(), by=BEN)
    assert refusal.value.facts["required"] == 5_00
    with pytest.raises(BreakClosed):
        await treasury.breaks.propose_entry(entry.id, against="capital", amount=None, reason="a fee", by=BEN)


@slow
async def test_the_book_s_own_drift_is_neither_posted_away_nor_a_matter_of_time(treasury, clock, database):
    await paid_in(treasury, bank_says=100_00)
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(text("UPDATE ledger_accounts SET debits_pending = debits_pending + 1"))
    run = await cycle(treasury, clock)
    drift = next(found for found in run.breaks if found.reason is BreakReason.COUNTER_DRIFT)
    with pytest.raises(ResolutionUnfit, match="audit"):
        await treasury.breaks.propose_entry(drift.id, against="capital", amount=None, reason="a fee", by=ADA)
    until = clock.now() + timedelta(days=1)
    with pytest.raises(ResolutionUnfit, match="no matter of time"):
        await treasury.breaks.propose_acceptance(drift.id, until=until, reason="later", by=ADA)


@slow
async def test_history_is_added_to_and_never_changed(treasury, clock, database):
    entry = await broken(treasury, clock, -5_00)
    await treasury.breaks.own(entry.id, owner=ADA, by=BEN)
    await treasury.breaks.own(entry.id, owner=ADA, by=BEN)  # no change, no line
    await treasury.breaks.note(entry.id, words="  asked the bank ", by=ADA)
    file = await treasury.breaks.get(entry.id)
    assert [(line.number, line.kind, line.by) for line in file.history] == [
        (1, HistoryKind.OPENED, None),
        (2, HistoryKind.OWNED, BEN),
        (3, HistoryKind.NOTED, ADA),
    ]
    assert (file.entry.owner, file.history[-1].words) == (ADA, "asked the bank")
    for change in ("UPDATE treasury_break_history SET words = ''", "DELETE FROM treasury_break_history"):
        with pytest.raises(AppendOnly):
            async with tx(database.engine(owner=True)) as connection:
                await connection.execute(text(change))


@dataclass
class Model:
    """What a break should be, by simpler means: its amount, what waits, and until when it's explained."""

    amount: int
    proposal: tuple[str, str, int] | None = None  # kind, by, difference then
    explained: str | None = None
    until: object = None
    posted: int = 0
    acts: list[str] = field(default_factory=list)

    def state(self, now) -> str:
        if self.proposal:
            return "proposed"
        if self.explained == "entry":
            return "awaiting_cycle"
        return "accepted" if self.explained == "time" and now < self.until else "open"

    def judged(self, seen: int) -> None:
        """A cycle sees another amount, or the same one; an entry that it still sees anything after has not helped."""
        if seen != self.amount or self.explained == "entry":
            self.explained = None
        self.amount = seen


@slow
@pytest.mark.parametrize("seed", range(3))
async def test_random_histories_are_as_the_model_says(treasury, clock, seed):
    rolls = random.Random(seed)
    entry = await broken(treasury, clock, -50_00)
    model, last = Model(-50_00), None
    for _ in range(60):
        act = rolls.choice(
            ("propose", "propose time", "confirm", "confirm", "withdraw", "cycle", "cycle", "bank", "time")
        )
        who, state = rolls.choice((ADA, BEN)), model.state(clock.now())
        try:
            if act == "propose":
                last = await treasury.breaks.propose_entry(entry.id, against="capital", amount=1, reason="r", by=who)
                assert state in ("open", "accepted")
                model.proposal, model.explained = ("entry", who, model.amount), None
            elif act == "propose time":
                until = clock.now() + timedelta(hours=3)
                last = await treasury.breaks.propose_acceptance(entry.id, until=until, reason="r", by=who)
                assert state in ("open", "accepted")
                model.proposal, model.explained, model.until = ("time", who, model.amount), None, until
            elif act == "confirm" and last:
                done = await treasury.breaks.confirm(last.id, key=new_key(), by=who)
                if not done.replayed:
                    assert model.proposal is not None
                    kind, by, difference = model.proposal
                    assert (by != who, difference) == (True, model.amount)
                    model.explained, model.proposal = kind, None
                    model.posted += kind == "entry"
            elif act == "withdraw" and last:
                done = await treasury.breaks.withdraw(last.id, by=who)
                assert done.replayed or model.proposal is not None
                model.proposal = None
        except (BreakClosed, ResolutionClosed):
            assert state in ("proposed", "awaiting_cycle") if act.startswith("propose") else model.proposal is None
        except SamePerson:
            assert model.proposal is not None
            assert model.proposal[1] == who
        except BreakChanged:
            assert model.proposal is not None
            assert model.proposal[2] != model.amount
        except ResolutionUnfit:
            assert model.proposal is not None
            assert clock.now() >= model.until
        if act == "bank":
            (told,) = treasury.bank.told
            treasury.bank.told = [Told("main", "EUR", told.balance - 7)]
        elif act == "time":
            clock.advance(timedelta(hours=1))
        elif act == "cycle":
            if model.state(clock.now() + timedelta(minutes=1)) == "open":
                model.explained = None  # its date has come
            await cycle(treasury, clock)
            (told,) = treasury.bank.told
            model.judged(told.balance - 100_00 + model.posted)
        now = (await treasury.breaks.get(entry.id)).entry
        assert (now.state_at(clock.now()), now.difference) == (model.state(clock.now()), model.amount), act
        assert await treasury.house.balance(CAPITAL) == -model.posted


@slow
async def test_what_a_break_was_like_then_is_told_of_the_past(treasury, clock):
    await broken(treasury, clock, -5_00)
    then = clock.now()
    treasury.bank.told = [Told("main", "EUR", 93_00)]
    await cycle(treasury, clock)
    async with tx(treasury.reconciler._engine) as connection:
        told = [[one.found async for one in stream_breaks(connection, "main", at=at)] for at in (then, clock.now())]
    assert told == [[95_00], [93_00]]
