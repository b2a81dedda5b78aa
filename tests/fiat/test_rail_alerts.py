"""What of the fiat rails waits for a person is told, as long as it waits, and read by indexes that hold only that."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from chain.networks import Registry
from db.engine import tx
from fiat.rails.errors import NothingToAccept
from fiat.rails.protocol import ObjectKind
from fiat.rails.records import Ending, WebhookState
from fiat.rails.refund_states import RefundState
from fiat.waiting import load_waiting
from ledger.accounts import user_account
from tests.fiat.rail_world import ADA, World
from tests.fiat.statements import Entry, camt053
from tests.fiat.test_payouts import ask, fund
from treasury.alerts import Alert, AlertCode, Alerts, Severity


@pytest.fixture
def alerts(database, ledger, clock):
    return Alerts(database.engine(), ledger=ledger, registry=Registry([], []), clock=clock)


async def told(alerts: Alerts) -> list[tuple[AlertCode, Severity]]:
    return [(alert.code, alert.severity) for alert in await alerts.open()]


async def only(alerts: Alerts) -> Alert:
    (alert,) = await alerts.open()
    return alert


async def test_nothing_of_the_rails_is_told_while_all_goes_well(world: World, rail, alerts):
    await world.top_up()
    await world.acts.settle("EUR")
    await world.until_quiet()
    (settlement,) = await world.rails.settlements.list_all()
    await rail.import_statement(camt053(Entry(settlement.amount, "what came")), filename="s.xml")
    assert await alerts.open() == []


async def test_dead_letters_are_told_by_rail_until_one_retries_them(world: World, alerts, clock):
    made = await world.top_up()
    async with world.record.session() as session:
        for number in range(2):
            await session.tell("dispute.opened", ObjectKind.DISPUTE, f"nowhere-{number}", None)
    since = clock.now()
    await world.deliver()
    for _ in range(12):
        clock.advance(timedelta(hours=2))
        await world.rails.effects.step()
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (AlertCode.WEBHOOKS_DEAD, Severity.WARNING, "sandbox")
    assert alert.text.startswith("2 webhooks without effect (rail_effect_unknown)")
    assert (alert.since, await world.has()) == (since, made.amount)
    dead = await world.rails.inbox.list_all(state=WebhookState.DEAD)
    await world.rails.inbox.retry(dead[0].id)
    assert (await only(alerts)).text.startswith("1 webhook without")
    await world.rails.inbox.retry(dead[1].id)
    assert await alerts.open() == []


async def test_a_dispute_is_told_until_it_is_answered_and_is_critical_in_its_last_two_days(world: World, alerts, clock):
    made = await world.top_up()
    await world.acts.dispute(str(made.source))
    await world.deliver()
    (dispute,) = await world.rails.disputes.list_all()
    assert dispute.respond_by is not None
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (AlertCode.DISPUTE_OPEN, Severity.WARNING, dispute.id)
    assert f"100.00 EUR of {made.id}" in alert.text
    assert f"until {dispute.respond_by:%Y-%m-%d %H:%M} UTC" in alert.text
    clock.advance(dispute.respond_by - timedelta(days=2) - clock.now())
    assert await told(alerts) == [(AlertCode.DISPUTE_OPEN, Severity.WARNING)]
    clock.advance(timedelta(seconds=1))
    assert await told(alerts) == [(AlertCode.DISPUTE_OPEN, Severity.CRITICAL)]
    await world.acts.decide(dispute.source, won=True)
    await world.deliver()
    assert await alerts.open() == []


async def test_a_settlement_that_differs_is_told_until_a_treasurer_accepts_it(world: World, alerts, clock):
    await world.top_up()
    async with world.record.session() as session:
        (paid,) = await session.all("payment")
        await session.add("payment", paid | {"reference": None})
    await world.acts.settle("EUR")
    await world.deliver()
    (settlement,) = await world.rails.settlements.list_all()
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (
        AlertCode.SETTLEMENT_DIFFERS,
        Severity.WARNING,
        settlement.id,
    )
    assert "1 entry and 0.00 EUR don't fit the book" in alert.text
    done = await world.rails.settlements.accept(settlement.id, by="usr_t", reason="another shop of ours")
    assert (done.accepted_at, done.accepted_by, done.accepted_reason) == (clock.now(), "usr_t", "another shop of ours")
    assert await alerts.open() == []
    again = await world.rails.settlements.accept(settlement.id, by="usr_u", reason="else")
    assert (again.replayed, again.accepted_by) == (True, "usr_t")


async def test_what_fits_cannot_be_accepted(world: World):
    await world.top_up()
    await world.acts.settle("EUR")
    await world.deliver()
    (settlement,) = await world.rails.settlements.list_all()
    with pytest.raises(NothingToAccept):
        await world.rails.settlements.accept(settlement.id, by="usr_t", reason="why not")


@pytest.mark.parametrize("day", ["2026-01-10", None])
async def test_a_settlement_that_does_not_arrive_is_told_after_five_days(world: World, rail, alerts, clock, day):
    await world.top_up()
    source = await world.acts.settle("EUR")
    await world.deliver()
    (settlement,) = await world.rails.settlements.list_all()
    async with tx(world.engine) as connection:  # the sandbox names no day
        await connection.execute(text("UPDATE fiat_settlements SET arrives_on = :day"), {"day": day})
    last = clock.now().replace(day=15 if day else 6, hour=23)
    clock.advance(last - clock.now())
    assert await alerts.open() == []
    clock.advance(timedelta(hours=1))
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (
        AlertCode.SETTLEMENT_LATE,
        Severity.CRITICAL,
        settlement.id,
    )
    assert str(source) in alert.text
    await rail.import_statement(camt053(Entry(settlement.amount, "it came")), filename="s.xml")
    (line,) = await world.rails.settlements.candidates(settlement)
    await world.rails.settlements.match(key=world.key(), settlement=settlement.id, line=line.id)
    assert await alerts.open() == []


async def test_payouts_of_which_nobody_knows_are_told_with_their_sum(rail, desk, steps, alerts, clock, ledger):
    await ledger.ensure_open(user_account(ADA, "EUR"))
    await fund(rail, 100_00)
    for name in ("one", "two"):
        await ask(desk, 20_00, name)
    await steps.step()
    assert await alerts.open() == []
    since = clock.now()
    clock.advance(timedelta(days=6))
    await steps.step()
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (
        AlertCode.PAYOUTS_UNKNOWN,
        Severity.CRITICAL,
        "mock, EUR",
    )
    assert alert.text.startswith("2 payouts of 40.00 EUR in all")
    assert alert.since == since  # nothing was heard of them since then


async def test_lines_in_suspense_are_told_from_the_second_day_on(rail, alerts, clock):
    await rail.import_statement(camt053(Entry(5_00, "nobody's"), Entry(7_00, "nobody's too")), filename="s.xml")
    since = clock.now()
    clock.advance(timedelta(hours=23, minutes=59))
    assert await alerts.open() == []
    clock.advance(timedelta(minutes=1))
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (
        AlertCode.SUSPENSE_WAITS,
        Severity.WARNING,
        "house-bank",
    )
    assert (alert.since, alert.text.startswith("2 lines nobody's")) == (since, True)


async def test_dead_letters_are_found_without_reading_what_is_done(world: World, database, clock):
    fill = text(
        "INSERT INTO fiat_webhooks (book, rail, event, id, kind, object_kind, object, state, body_sha256, occurred_at,"
        " received_at) SELECT 'main', 'sandbox', 'e' || n, 'w' || n, 'k', 'payment', 'o', 'done',"
        " decode(repeat('00', 32), 'hex'), now(), now() FROM generate_series(1, 20000) n"
    )
    async with tx(world.engine) as connection:
        await connection.execute(fill)
        await connection.execute(text("ANALYZE fiat_webhooks"))
    async with tx(world.engine) as connection:
        await load_waiting(connection, world.ledger.book, now=clock.now(), limit=100)
        query = text("SELECT pg_stat_get_xact_tuples_returned('fiat_webhooks'::regclass)")
        assert (await connection.execute(query)).scalar_one() == 0
        await connection.execute(text("SELECT count(*) FROM fiat_webhooks WHERE kind = 'k'"))
        assert (await connection.execute(query)).scalar_one() == 20_000  # what a whole reading would show


async def test_a_refund_that_stays_unknown_is_told_after_a_day_until_it_is_ended(world: World, alerts, clock):
    made = await world.top_up()
    world.line.faults.append("before")
    refund = await world.rails.refunds.request(key=world.key(), owner=made.owner, top_up=made.id, amount=4_000)
    assert (refund.state, await alerts.open()) == (RefundState.UNKNOWN, [])
    clock.advance(timedelta(days=1))
    alert = await only(alerts)
    assert (alert.code, alert.severity, alert.subject) == (AlertCode.REFUNDS_UNKNOWN, Severity.WARNING, "sandbox, EUR")
    assert alert.text.startswith("1 refund of 40.00 EUR in all")
    for by in ("key_cleo", "key_dan"):
        await world.rails.refund_endings.say(refund.id, outcome=Ending.FAILED, evidence="none", reason="looked", by=by)
    assert await alerts.open() == []
