"""Settlements find their bank line by themselves where nothing is in doubt, and wait for the treasurer where it is."""

import asyncio
from datetime import UTC, date, datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat.bank.lines import Direction
from fiat.bank.matching import Reason
from fiat.bank.records import BankLine, LineState
from fiat.rails.records import Settlement
from fiat.rails.settlement_matching import certain, names
from fiat.rails.settlement_states import SettlementState
from ledger.accounts import house_account
from tests.fiat.rail_world import World, make_world
from tests.fiat.statements import Entry, camt053

AT = datetime(2026, 1, 1, tzinfo=UTC)
ON_ITS_WAY, SUSPENSE = house_account("in-transit:sandbox:in", "EUR"), house_account("suspense", "EUR")


@pytest.fixture
async def world(database, ledger, clock, entropy, vault):
    world = make_world(database.engine(), ledger, clock, entropy, vault, accounts=("house-bank",))
    yield world
    await world.rails.inbox.aclose()


def settlement(source: str = "stl_1", descriptor: str | None = None, id: str = "s1") -> Settlement:
    return Settlement(
        id=id,
        rail="sandbox",
        source=source,
        asset="EUR",
        amount=1,
        state=SettlementState.SENT,
        arrives_on=None,
        descriptor=descriptor,
        bank_line=None,
        entries=0,
        differences=0,
        unexplained=0,
        created_at=AT,
        updated_at=AT,
    )


def line(remittance: str = "", id: str = "l1", **more: str) -> BankLine:
    texts = {"end_to_end_id": "", "counterparty": "", "bank_reference": ""} | more
    return BankLine(
        id=id,
        account="house-bank",
        statement="s",
        number=1,
        direction=Direction.CREDIT,
        asset="EUR",
        amount=1,
        booked_on=date(2026, 1, 1),
        value_on=date(2026, 1, 1),
        remittance=remittance,
        counterparty_account="",
        state=LineState.SUSPENDED,
        reason=Reason.NO_REFERENCE,
        owner=None,
        top_up=None,
        payout=None,
        recorded_at=AT,
        **texts,
    )


@pytest.mark.parametrize(
    ("told", "kept", "expected"),
    [
        (settlement("po_12345"), line("STRIPE PO_12345 JAN"), True),
        (settlement("po_12345"), line("", end_to_end_id="po_12345"), True),
        (settlement("po_12345"), line("", bank_reference="PO_12345"), True),
        (settlement("po_x", "ACME SHOP"), line("", counterparty="Acme  Shop Ltd"), True),
        (settlement("po_12345"), line("STRIPE PO_123456 JAN"), False),  # another id that begins so
        (settlement("po_12345"), line("STRIPE XPO_12345"), False),
        (settlement("po_12345", "ACME SHOP"), line("ACME"), False),
        (settlement("po_12345", "ACME SHOP"), line("SHOP ACME"), False),
        (settlement("po_1", "ACME"), line("ACME PO_1"), False),  # too short to tell anything
        (settlement("po_12345", "A.ME SHOP"), line("ACME SHOP"), False),
        (settlement("po_12345", ""), line(""), False),
    ],
)
def test_a_line_names_a_settlement_by_whole_words(told: Settlement, kept: BankLine, expected: bool):
    assert names(told, kept) is expected


WORDS = st.sampled_from(["SHOP-ONE", "SHOP-TWO", "po_11111", "po_22222", "rent"])


@given(st.lists(st.tuples(WORDS, st.none() | WORDS), max_size=4), st.lists(st.lists(WORDS, max_size=3), max_size=4))
def test_what_is_matched_without_a_person_has_no_other_choice_on_either_side(told, texts):
    settlements = [settlement(source, descriptor, f"s{n}") for n, (source, descriptor) in enumerate(told)]
    lines = [line(" ".join(words), f"l{n}") for n, words in enumerate(texts)]
    found = certain(product(settlements, lines))
    expected = [
        (one, kept)
        for one, kept in product(settlements, lines)
        if [other for other in lines if names(one, other)] == [kept]
        and [other for other in settlements if names(other, kept)] == [one]
    ]
    assert found == expected


async def sent(world: World) -> Settlement:
    """A settlement on its way, told by its webhook and read."""
    await world.top_up()
    await world.acts.settle("EUR")
    await world.deliver()
    return (await world.rails.settlements.list_all())[0]


async def test_a_settlement_takes_the_only_line_of_its_amount_that_names_it(world: World, rail):
    made = await sent(world)
    names_it, other = Entry(made.amount, f"PAYOUT {made.source} THANKS"), Entry(made.amount, "rent of May")
    await rail.import_statement(camt053(names_it, other), filename="s.xml")
    assert await world.rails.settlements.step() == 1
    found = await world.rails.settlements.get(made.id)
    assert (found.state, found.revision) == ("matched", made.revision + 1)
    taken = await rail.line(found.bank_line)
    assert (taken.state, made.source in taken.remittance) == (LineState.SETTLED, True)
    assert (await world.balance(ON_ITS_WAY), await world.balance(SUSPENSE)) == (0, made.amount)
    assert await world.rails.settlements.step() == 0


@pytest.mark.parametrize(
    "entries",
    [
        ["nothing of it"],
        ["{source} once", "{source} again"],
        ["SANDBOX", "{source}0"],
    ],
)
async def test_where_anything_is_in_doubt_the_treasurer_says(world: World, rail, entries):
    made = await sent(world)
    texts = [Entry(made.amount, text.format(source=made.source)) for text in entries]
    near = Entry(made.amount + 1, str(made.source))
    gone = Entry(made.amount, str(made.source), side="DBIT")
    await rail.import_statement(camt053(*texts, near, gone), filename="s.xml")
    assert await world.rails.settlements.step() == 0
    assert (await world.rails.settlements.get(made.id)).state == "sent"
    candidates = await world.rails.settlements.candidates(made)
    assert len(candidates) == len(entries)
    done = await world.rails.settlements.match(key=world.key(), settlement=made.id, line=candidates[0].id)
    assert (done.state, done.bank_line) == ("matched", candidates[0].id)


async def test_a_line_of_an_account_that_is_not_configured_any_more_is_left_alone(
    database, ledger, clock, entropy, vault, rail
):
    world = make_world(database.engine(), ledger, clock, entropy, vault, accounts=("another",))
    made = await sent(world)
    await rail.import_statement(camt053(Entry(made.amount, str(made.source))), filename="s.xml")
    assert await world.rails.settlements.step() == 0
    assert (await world.rails.settlements.get(made.id)).state == "sent"
    await world.rails.inbox.aclose()


async def test_two_workers_and_a_treasurer_at_once_match_it_once(world: World, rail):
    made = await sent(world)
    await rail.import_statement(camt053(Entry(made.amount, str(made.source))), filename="s.xml")
    (kept,) = await world.rails.settlements.candidates(made)
    by_hand = world.rails.settlements.match(key=world.key(), settlement=made.id, line=kept.id)
    steps = world.rails.settlements.step(), world.rails.settlements.step()
    results = await asyncio.gather(*steps, by_hand, return_exceptions=True)
    assert [one for one in results[:2] if isinstance(one, BaseException)] == []
    found = await world.rails.settlements.get(made.id)
    assert (found.state, found.bank_line, found.revision) == ("matched", kept.id, made.revision + 1)
    assert (await world.balance(ON_ITS_WAY), await world.balance(SUSPENSE)) == (0, 0)


async def test_a_settlement_that_came_back_takes_no_line(world: World, rail):
    made = await sent(world)
    await world.acts.fail_settlement(made.source)
    await world.deliver()
    await rail.import_statement(camt053(Entry(made.amount, str(made.source))), filename="s.xml")
    assert await world.rails.settlements.step() == 0
    assert (await world.rails.settlements.get(made.id)).state == "failed"
