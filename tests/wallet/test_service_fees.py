"""The house's fee for withdrawals: held beside the network's, taken whole when it's paid, given back when it isn't."""

from dataclasses import replace

import pytest

from chain.evm.addresses import show_address
from chain.orders import claims_map, claims_of
from custody.claims import claims_from
from ledger.accounts import house_account, user_account
from ledger.commands import Group
from ledger.memory import MemoryLedger
from ledger.outcomes import require_accepted
from tariff.desk import Desk
from tariff.schedule import Limit, Operation, Rule, Sum, Tariff, Tier, of_basis_points
from tests.wallet.conftest import ALICE, ASSETS, BOB, fund, key
from tests.wallet.scripted_chain import DerivedAddresses
from tests.wallet.test_batch_entries import MINED
from tests.wallet.test_rebuilding import FEE, FIVE, KEY, ask, claiming, owed, rebuilding, signed
from tests.wallet.test_recipients import another, bobs
from tests.wallet.test_resolution_rules import PAYMENT, WITHDRAWAL
from tests.wallet.test_withdrawals import HIGHEST, TO, mined, reserved, rich
from wallet import batch_entries
from wallet import withdrawal_entries as entries
from wallet.batch_results import JudgedLeg, LegResult
from wallet.withdrawal_states import WithdrawalState
from wiring.signing import _claims, claims_from_journal

pytestmark = pytest.mark.slow

__all__ = ["rebuilding", "rich", "signed"]  # fixtures of theirs

ONE_PERCENT = Rule("fees[1]", Operation.WITHDRAWAL, percent=of_basis_points(100))
LIMITED = Tier("standard", limits={Sum.OUT: Limit(day=50_000_000)})
TARIFF = Tariff({"standard": LIMITED}, "standard", (ONE_PERCENT,), next(one for one in ASSETS if one.code == "USDC"))
SERVICE = 400_000


@pytest.fixture
def charging(rich, database, clock, entropy):
    """The house, whose withdrawals cost a percent, and whose users may move 50 USDC a day."""
    desk = Desk(TARIFF, ledger=rich.ledger, clock=clock)
    rich.withdrawals = another(rich, database, clock, entropy, tariff=desk)
    return rich


async def used(house, clock) -> int:
    (day,) = await Desk(TARIFF, ledger=house.ledger, clock=clock).limits(ALICE)
    return day.used


async def forty(house, name="w"):
    return await house.withdrawals.request(
        key=key(name, name), owner=ALICE, asset="USDC", network="local", to=TO, amount=40_000_000
    )


async def test_paid_it_is_taken_whole(charging, clock):
    made = await forty(charging)
    assert made.service_fee == SERVICE
    account = await charging.user(ALICE, "USDC")
    assert account.debits_pending == made.held == 40_000_000 + HIGHEST + SERVICE
    withdrawal = await reserved(charging, made)
    await mined(charging, withdrawal)
    await charging.chain.set_transaction(withdrawal.id, state="final")
    await charging.withdrawals.step()
    done = await charging.withdrawals.get(ALICE, withdrawal.id)
    assert (done.state, done.fee, done.service_fee) == (WithdrawalState.FINAL, 1_625_325, SERVICE)
    account = await charging.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (100_000_000 - 40_000_000 - 1_625_325 - SERVICE, 0)
    assert await charging.balance(house_account("fees", "USDC")) == 1_625_325 + SERVICE
    await charging.assert_sums_to_zero()
    assert await used(charging, clock) == 40_000_000


@pytest.mark.parametrize(
    ("state", "ends", "rest"),
    [
        ("refused", WithdrawalState.REJECTED, {"nonce": None, "refusal": "over the limit"}),
        ("reverted", WithdrawalState.REVERTED, {}),
    ],
)
async def test_not_paid_it_comes_back_and_counts_no_more(charging, clock, state, ends, rest):
    withdrawal = await reserved(charging, await forty(charging))
    assert await used(charging, clock) == 40_000_000
    if state == "reverted":
        await mined(charging, withdrawal, succeeded=False, transfer=False)
    await charging.chain.set_transaction(withdrawal.id, state=state, **rest)
    await charging.withdrawals.step()
    assert (await charging.withdrawals.get(ALICE, withdrawal.id)).state is ends
    account = await charging.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (100_000_000, 0)
    assert await charging.balance(house_account("fees", "USDC")) == 0
    assert await used(charging, clock) == 0


async def test_cancelled_it_comes_back(charging):
    made = await forty(charging)
    await charging.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=made.id)
    assert (await charging.user(ALICE, "USDC")).available == 100_000_000


async def test_the_same_request_after_the_tariff_changed_is_the_first_withdrawal(charging, database, clock, entropy):
    first = await forty(charging)
    dearer = Rule("fees[1]", Operation.WITHDRAWAL, percent=of_basis_points(5_000))
    desk = Desk(Tariff({"standard": Tier("standard")}, "standard", (dearer,)))
    charging.withdrawals = another(charging, database, clock, entropy, tariff=desk)
    again = await forty(charging)
    assert (again.id, again.service_fee, again.replayed) == (first.id, SERVICE, True)


async def test_paying_a_user_here_costs_what_a_transfer_does(charging, database, clock, entropy):
    rules = (ONE_PERCENT, Rule("fees[2]", Operation.TRANSFER, percent=of_basis_points(50)))
    desk = Desk(Tariff({"standard": Tier("standard")}, "standard", rules))
    inside = another(charging, database, clock, entropy, tariff=desk, source=DerivedAddresses())
    asked = {"asset": "USDC", "network": "local", "amount": 40_000_000, "to": show_address(await bobs(charging))}
    estimate = await inside.estimate(ALICE, **asked)
    assert (estimate.fee_highest, estimate.service_fee, estimate.total) == (200_000, 0, 40_200_000)
    made = await inside.request(key=key("in"), owner=ALICE, **asked)
    assert (made.recipient, made.fee, made.service_fee) == (BOB, 200_000, 0)
    assert await charging.balance(house_account("fees", "USDC")) == 200_000


CHARGED = replace(WITHDRAWAL, service_fee=20, state=WithdrawalState.HELD)
COST = replace(MINED, fee_wei=4)


def paid_leg(judged: JudgedLeg, *, is_coin: bool):
    return batch_entries.leg(CHARGED, COST, judged, fee=0, is_coin=is_coin, attempt=1)


PAID = JudgedLeg(LegResult.PAID, "log:4", on_record=True)
FAILED = JudgedLeg(LegResult.FAILED, "log:4", on_record=True)
ENDS = {
    "alone": (entries.paid(CHARGED, COST, place="log:1", gas=(), attempt=1), 4, 20),
    "alone, without gas": (entries.paid(CHARGED, replace(COST, fee_wei=0), place="log:1", gas=(), attempt=1), 0, 20),
    "of a batch": (paid_leg(PAID, is_coin=False), 4, 20),
    "of a batch of coins": (paid_leg(PAID, is_coin=True), 4, 20),
    "failed in a batch": (paid_leg(FAILED, is_coin=False), 0, 0),
    "failed in a batch of coins": (paid_leg(FAILED, is_coin=True), 0, 0),
    "said to be paid": (
        batch_entries.resolved_as_paid(CHARGED, COST, place="log:4", left_by=None, request="r", said={}),
        4,
        20,
    ),
    "said not to be paid": (
        batch_entries.resolved_as_unpaid(CHARGED, COST, place="log:4", back_to=None, request="r", said={}),
        0,
        0,
    ),
    "from suspense": (entries.paid_from_suspense(CHARGED, PAYMENT, fee=4, gas=(), request="r", said={}), 4, 20),
    "returned": (entries.returned(CHARGED, (7, "0xb7", "0xaa", "gas"), gas=(), request="r", said={}), 0, 0),
    "reverted": (entries.unpaid(CHARGED, COST, gas=(), attempt=1), 0, 0),
    "reverted at its owner's cost": (entries.unpaid(CHARGED, COST, gas=(), attempt=1, fee=4), 4, 0),
}
"""What ends it, and what is taken of the network's fee and of the service fee."""


@pytest.mark.parametrize("end", ENDS)
async def test_however_it_ends_it_is_taken_whole_or_not_at_all(end, clock):
    commands, network, taken = ENDS[end]
    ledger = MemoryLedger(clock, known_assets={asset.code: asset for asset in ASSETS})
    user, fees = user_account(CHARGED.owner, "USDC"), house_account("fees", "USDC")
    await ledger.ensure_open(
        *entries.accounts(CHARGED, native="ETH"), *entries.suspense_accounts(CHARGED, native="ETH")
    )
    await fund(ledger, user, 1_000, name="a")
    for group in (Group((entries.hold(CHARGED, owing_nothing=()),)), Group(tuple(commands))):
        (outcomes,) = await ledger.submit(group)
        require_accepted(outcomes)
    account = await ledger.account(user)
    assert account is not None
    assert (account.debits_pending, account.balance) == (0, 1_000 - (500 if taken else 0) - network - taken)
    earned = await ledger.account(fees)
    assert earned is not None
    assert earned.balance == network + taken


async def test_a_forgotten_withdrawal_is_held_again_with_its_service_fee(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), 20_000_000, name="a")
    told = claiming(signed, service_fee=50_000)
    outlook = await rebuilding.look(told)
    assert outlook.total == FIVE + FEE + 50_000
    assert await rebuilding.rebuild(told) is True
    again = await ask(house, KEY)
    assert (again.id, again.service_fee, again.replayed) == ("wdr_1", 50_000, True)
    assert (await house.user(ALICE, "USDC")).debits_pending == FIVE + FEE + 50_000


async def test_what_is_missing_of_it_is_owed_too(house, rebuilding, signed):
    await fund(house.ledger, user_account(ALICE, "USDC"), FIVE + FEE, name="a")
    assert await rebuilding.rebuild(claiming(signed, service_fee=50_000)) is True
    assert await owed(house) == 50_000


def test_the_signers_journal_carries_it():
    asked = replace(CHARGED, hold=KEY.id)
    claims = entries.claims(asked)
    assert claims.service_fee == 20
    assert claims_from_journal(claims_from(_claims(claims))) == claims
    assert claims_of(claims_map(claims)) == claims
    assert entries.claims(replace(asked, service_fee=0)).service_fee is None
