"""Disputes, refunds past us and settlements: the book holds what the provider holds, and what is spent is owed."""

from datetime import timedelta

import pytest

from fiat.bank.records import LineState
from fiat.rails.errors import SettlementNotMatching
from fiat.rails.sandbox import DISPUTE_FEE, fee_of
from ledger.accounts import house_account
from ledger.errors import RefusedByBook
from tests.fiat.rail_world import ADA, World
from tests.fiat.statements import Entry, camt053

FEE = fee_of(10_000)


async def test_a_dispute_takes_the_payment_from_its_user_and_the_fee_from_the_house(world: World):
    await world.top_up(method="tok_disputed")
    await world.deliver()
    (dispute,) = await world.rails.disputes.list_all()
    assert (dispute.state, dispute.withdrawn, dispute.fee) == ("open", 10_000, DISPUTE_FEE)
    assert (await world.has(), await world.owes(), await world.fees()) == (0, 0, FEE + DISPUTE_FEE)
    assert await world.at_provider() == await world.acts.balance("EUR") == -FEE - DISPUTE_FEE


async def test_f72_a_dispute_larger_than_the_balance_is_owed_and_repaid_when_it_is_won(world: World):
    made = await world.top_up()
    await world.spend(7_000)
    dispute = await world.acts.dispute(str(made.source))
    await world.deliver()
    assert (await world.has(), await world.owes()) == (0, 7_000)
    await world.acts.decide(dispute, won=True)
    await world.deliver()
    assert (await world.has(), await world.owes(), await world.fees()) == (3_000, 0, FEE)
    assert await world.at_provider() == await world.acts.balance("EUR") == 10_000 - FEE


async def test_f72_what_is_owed_after_a_lost_dispute_stops_refunds_and_is_repaid_by_the_next_credit(world: World):
    made = await world.top_up()
    await world.spend(10_000)
    await world.acts.decide(await world.acts.dispute(str(made.source)), won=False)
    await world.deliver()
    assert (await world.has(), await world.owes()) == (0, 10_000)
    second = await world.top_up(12_000)
    with pytest.raises(RefusedByBook, match="receivable_open"):
        await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=second.id)
    await world.work()
    assert (await world.has(), await world.owes()) == (2_000, 0)
    (kept,) = await world.rails.disputes.list_all()
    assert (kept.state, kept.withdrawn) == ("lost", 10_000)
    assert await world.at_provider() == await world.acts.balance("EUR")


async def by_hand(world: World, payment: str, amount: int, reference: str) -> None:
    """Somebody refunds at the provider's pages and writes an id of ours to it."""
    async with world.record.session() as session:
        paid = await session.load("payment", payment)
        assert paid is not None
        await world.sandbox.new_refund(session, paid, amount, reference=reference)


async def origins(world: World, top_up: str) -> list[tuple[str, int, str]]:
    return sorted((one.origin, one.amount, one.state) for one in await world.rails.refunds.list_for(ADA, top_up))


async def test_a_refund_at_the_providers_pages_with_the_id_of_another_payment_s_is_of_its_own_payment(world: World):
    made, other = await world.top_up(), await world.top_up()
    world.line.faults.append("before")
    ours = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=1_000)
    await by_hand(world, str(other.source), 1_000, ours.id)
    await world.deliver()
    assert await origins(world, other.id) == [("provider", 1_000, "final")]


async def test_a_refund_at_the_providers_pages_with_the_id_of_one_that_failed_is_another_one(world: World):
    made = await world.top_up(method="tok_refund_fails")
    await world.acts.refund(str(made.source), 7_000)  # it leaves too little for ours, and comes back
    ours = await world.rails.refunds.request(key=world.key(), owner=ADA, top_up=made.id, amount=4_000)
    assert (ours.state, ours.source) == ("failed", None)
    world.clock.advance(timedelta(minutes=2))
    await world.acts.tick()
    await by_hand(world, str(made.source), 4_000, ours.id)
    await world.deliver()
    assert await origins(world, made.id) == [("provider", 4_000, "final"), ("user", 4_000, "failed")]
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_f72_a_refund_made_at_the_providers_pages_after_the_money_was_spent_is_owed(world: World):
    made = await world.top_up()
    await world.spend(8_000)
    await world.acts.refund(str(made.source), 5_000)
    await world.until_quiet()
    assert (await world.has(), await world.owes()) == (0, 3_000)
    (refund,) = await world.rails.refunds.list_for(ADA, made.id)
    assert (refund.origin, refund.state, refund.amount) == ("provider", "final", 5_000)
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_f72_a_refund_by_the_house_takes_what_is_there_and_the_rest_is_owed(world: World):
    made = await world.top_up()
    await world.spend(9_000)
    key = world.key("house")
    refund = await world.rails.refunds.by_the_house(key=key, top_up=made.id)
    assert (refund.state, refund.origin) == ("final", "house")
    assert (await world.has(), await world.owes()) == (0, 9_000)
    assert (await world.rails.refunds.by_the_house(key=key, top_up=made.id)).id == refund.id
    assert await world.at_provider() == await world.acts.balance("EUR")


async def test_a_dispute_that_no_webhook_told_is_found_in_the_providers_list(world: World):
    made = await world.top_up()
    await world.acts.dispute(str(made.source))
    await world.work()  # no webhook was delivered
    (dispute,) = await world.rails.disputes.list_all()
    assert (dispute.top_up, await world.has()) == (made.id, 0)


async def test_a_settlement_is_matched_to_the_banks_line_and_what_is_in_it_fits(world: World, rail):
    await world.top_up()
    await world.top_up(5_000)
    await world.until_quiet()
    source = await world.acts.settle("EUR")
    await world.until_quiet()
    (settlement,) = await world.rails.settlements.list_all()
    assert (settlement.source, settlement.state, settlement.entries) == (source, "sent", 2)
    assert (settlement.differences, settlement.unexplained) == (0, 0)
    assert settlement.amount == 15_000 - FEE - fee_of(5_000)
    assert await world.at_provider() == await world.acts.balance("EUR") == 0
    text = camt053(Entry(settlement.amount, f"SANDBOX {source}"), Entry(settlement.amount + 1, "else"))
    await rail.import_statement(text, filename="s.xml")
    (line,) = await world.rails.settlements.candidates(settlement)
    (other,) = [one for one in await rail.lines() if one.id != line.id]
    with pytest.raises(SettlementNotMatching):
        await world.rails.settlements.match(key=world.key(), settlement=settlement.id, line=other.id)
    key = world.key("match")
    matched = await world.rails.settlements.match(key=key, settlement=settlement.id, line=line.id)
    assert (matched.state, matched.bank_line) == ("matched", line.id)
    assert (await rail.line(line.id)).state is LineState.SETTLED
    again = await world.rails.settlements.match(key=key, settlement=settlement.id, line=line.id)
    assert again.replayed
    assert await world.balance(house_account("in-transit:sandbox:in", "EUR")) == 0


async def test_a_settlement_that_failed_is_owed_by_the_provider_again(world: World):
    await world.top_up()
    source = await world.acts.settle("EUR")
    await world.deliver()
    assert await world.at_provider() == 0
    await world.acts.fail_settlement(str(source))
    await world.deliver()
    (settlement,) = await world.rails.settlements.list_all()
    assert settlement.state == "failed"
    assert await world.at_provider() == await world.acts.balance("EUR") == 10_000 - FEE


async def test_what_a_settlement_pays_for_that_the_book_doesnt_know_is_named(world: World):
    """Somebody used the same account of the provider for a payment of their own, past the book."""
    await world.top_up()
    async with world.record.session() as session:
        (paid,) = await session.all("payment")
        await session.add("payment", paid | {"reference": None})
    await world.acts.settle("EUR")
    await world.deliver()
    (settlement,) = await world.rails.settlements.list_all()
    entries = await world.rails.settlements.entries(settlement.id)
    assert [entry.difference for entry in entries] == ["unknown_object", None]
    assert settlement.differences == 1
