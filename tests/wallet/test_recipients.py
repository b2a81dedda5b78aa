"""Who may be paid by a withdrawal: refusals, warnings and limits as rules, and on a real database."""

from datetime import timedelta

import pytest
from sqlalchemy import insert, select, update

from chain import tables
from chain.errors import AddressesDisagree, ScreeningUnavailable
from chain.evm.addresses import show_address
from chain.evm.payees import Payee
from chain.networks import Deployment, Registry
from chain.screening import ScreeningList
from chain.signing import OwnAddress as OwnKeyAddress
from chain.signing import OwnKey, Role
from chain.tokens import Quirk
from db.engine import tx
from ledger.accounts import house_account, user_account
from ledger.commands import Freeze, FreezeScope, alone
from ledger.errors import RefusedByBook, RequestConflict
from tests.wallet.conftest import ALICE, BOB, DAI, USDC, FixedRates, OneSender, fund, key
from tests.wallet.scripted_chain import DerivedAddresses, digest, paid
from tests.wallet.test_withdrawals import HIGHEST, TO, Away, ask, mined, reserved
from wallet.errors import (
    AboveMaximum,
    FeeAboveAccepted,
    NotCancellable,
    NotCreditable,
    OwnAddress,
    Precompile,
    RecipientDoubtful,
    RecipientListed,
    TokenContract,
    UnknownWarning,
)
from wallet.history import History
from wallet.network_fees import require_accepted_fee
from wallet.receipts import SOMEBODY_HERE, Receipts
from wallet.recipients import (
    PRECOMPILES,
    Held,
    Note,
    WarningCode,
    look_alike,
    refuse_lost,
    require_accepted_warnings,
    telling_nothing_of_others,
    user_at,
    warn_of,
)
from wallet.transfers import Fees
from wallet.withdrawal_states import WithdrawalState
from wallet.withdrawals import Withdrawals


def test_precompiles_and_token_contracts_are_not_paid():
    assert {number for number in range(0x200) if number in PRECOMPILES} == {*range(1, 0x12), 0x100}
    for number in PRECOMPILES:
        with pytest.raises(Precompile):
            refuse_lost(f"0x{number:040x}", {})
    for number in (0x12, 0xFF, 0x101):
        refuse_lost(f"0x{number:040x}", {USDC: "USDC"})
    with pytest.raises(TokenContract) as refused:
        refuse_lost(USDC, {USDC: "USDC"})
    assert refused.value.facts == {"token": "USDC"}


def test_an_address_of_ours_is_the_house_s_its_owner_s_or_another_user_s():
    def held(role, **more):
        return Held(OwnKeyAddress(OwnKey(role, 0), TO), **more)

    assert user_at(None, book="main", owner=ALICE) is None
    assert user_at(held(Role.DEPOSIT, book="main", owner=BOB), book="main", owner=ALICE) == BOB
    assert user_at(held(Role.DEPOSIT, book="test", owner=BOB), book="main", owner=ALICE) is None
    assert user_at(held(Role.DEPOSIT, book="test", owner=ALICE), book="main", owner=ALICE) is None
    for where, code in (
        (held(Role.HOT), "own_address"),
        (held(Role.GAS), "own_address"),
        (held(Role.DEPOSIT, pooled=True), "own_address"),
        (held(Role.DEPOSIT, book="main", owner=ALICE), "own_deposit_address"),
    ):
        with pytest.raises(OwnAddress) as refused:
            user_at(where, book="main", owner=ALICE)
        assert refused.value.code == code


def twin_of(address: str, fill: str = "5") -> str:
    """Another address that people would take for this one."""
    return address[:6] + fill * 32 + address[-4:]


@pytest.mark.parametrize(
    ("other", "is_alike"),
    [
        (twin_of(TO), True),
        (TO, False),
        (TO[:6] + "5" * 36, False),
        ("0x" + "5" * 36 + TO[-4:], False),
        (TO[:5] + "5" * 33 + TO[-4:], False),
    ],
)
def test_four_digits_at_both_ends_make_two_addresses_look_alike(other, is_alike):
    assert look_alike(TO, other) is is_alike


def test_a_warning_must_be_accepted_by_its_name():
    warnings = warn_of(twin_of(TO), paid=False, known=["0x" + "1" * 40, TO], refuses=True)
    assert [warned.code for warned in warnings] == [WarningCode.LOOKS_ALIKE, WarningCode.CONTRACT_REFUSES]
    assert warn_of(twin_of(TO), paid=True, known=[TO], refuses=False) == ()
    for accepted, code, missing in (
        ((), "recipient_looks_alike", ["looks_alike", "contract_refuses"]),
        (("contract_refuses",), "recipient_looks_alike", ["looks_alike"]),
        (("looks_alike",), "recipient_refuses", ["contract_refuses"]),
    ):
        with pytest.raises(RecipientDoubtful) as refused:
            require_accepted_warnings(warnings, accepted)
        assert (refused.value.code, refused.value.facts["warnings"]) == (code, missing)
        assert refused.value.facts.get("resembles") == (show_address(TO) if code == "recipient_looks_alike" else None)
    both = tuple(WarningCode)
    assert require_accepted_warnings(warnings, both) == both
    assert require_accepted_warnings((), ["looks_alike"]) == ()
    with pytest.raises(UnknownWarning) as unknown:
        require_accepted_warnings((), ["everything"])
    assert unknown.value.facts == {"known": ["looks_alike", "contract_refuses"]}


def test_a_fee_above_the_accepted_one_is_refused_with_both_numbers():
    require_accepted_fee(5, None)
    require_accepted_fee(5, 5)
    with pytest.raises(FeeAboveAccepted) as refused:
        require_accepted_fee(6, 5)
    assert refused.value.facts == {"fee_highest": 6, "fee_accepted": 5}


def test_a_refusal_names_no_other_user():
    error = RefusedByBook("frozen", code="frozen")
    error.facts = {"scope": "owner", "target": BOB, "account": user_account(ALICE, "USDC"), "required": 5}
    with pytest.raises(RefusedByBook) as told, telling_nothing_of_others(ALICE):
        raise error
    assert told.value.facts == {"scope": "owner", "account": user_account(ALICE, "USDC"), "required": 5}


# On a real database


@pytest.fixture
async def rich(house):
    """Alice has 100 USDC and 1 ETH, backed by nothing but the book."""
    for asset, amount in (("USDC", 100_000_000), ("ETH", 10**18)):
        await fund(house.ledger, user_account(ALICE, asset), amount, name=asset)
    return house


def another(house, database, clock, entropy, *, registry=None, **more):
    """The house's withdrawals with other settings."""
    return Withdrawals(
        database.engine(),
        ledger=house.ledger,
        registry=registry or house.registry,
        fees=house.fees,
        senders=OneSender(database.engine()),
        rates=FixedRates(),
        clock=clock,
        entropy=entropy,
        minimums={("local", "USDC"): 500_000},
        **more,
    )


class ScriptedPayees:
    """What a node would tell of any address; a real one is asked in test_payees."""

    def __init__(self, payee):
        self._payee = payee

    async def look(self, deployment, *, sender, to, amount):
        return self._payee


async def bobs(house):
    return (await house.addresses.issue(BOB, "local")).address


@pytest.mark.slow
async def test_a_user_s_deposit_address_is_paid_in_the_book_at_once(rich):
    to = await bobs(rich)
    estimate = await rich.withdrawals.estimate(ALICE, asset="USDC", network="local", amount=40_000_000, to=to)
    assert (estimate.recipient.user, estimate.fee_highest, estimate.total) == (BOB, 0, 40_000_000)
    made = await ask(rich, to=show_address(to))
    assert (made.state, made.internal, made.fee, made.cancellable) == (WithdrawalState.FINAL, True, 0, False)
    stored = await rich.withdrawals.get(ALICE, made.id)
    assert stored == made
    assert (stored.tx_hash, stored.recipient) == (None, BOB)
    again = await ask(rich, to=show_address(to))
    assert (again.id, again.replayed) == (made.id, True)
    with pytest.raises(RequestConflict) as conflict:
        await ask(rich, to=to, amount=40_000_001)
    assert conflict.value.facts["first"] == made.id
    assert ((await rich.user(ALICE, "USDC")).balance, (await rich.user(BOB, "USDC")).balance) == (
        60_000_000,
        40_000_000,
    )
    assert (await rich.user(ALICE, "USDC")).debits_pending == 0
    before = await rich.ledger.accounts()
    assert await rich.withdrawals.step() == 0
    assert await rich.ledger.accounts() == before
    with pytest.raises(NotCancellable):
        await rich.withdrawals.cancel(key=key("c"), owner=ALICE, withdrawal=made.id)
    async with tx(rich.chain.engine) as connection:
        assert (await connection.execute(select(tables.transactions.c.id))).all() == []
    await rich.assert_sums_to_zero()

    history, receipts = History(rich.ledger), Receipts(rich.ledger)
    (left,), (came,) = [await history.page(who, asset="USDC", kind=kind) for who, kind in _SIDES]
    assert (left.internal, left.amount, left.counterparty, left.subject) == (True, -40_000_000, SOMEBODY_HERE, made.id)
    assert (came.internal, came.amount, came.counterparty, came.subject) == (True, 40_000_000, SOMEBODY_HERE, made.id)
    for who, kind in _SIDES:
        receipt = await receipts.get(who, made.id)
        assert (receipt.kind, receipt.lines[0].internal) == (kind, True)
    assert await history.page(BOB, kind="withdrawal") == []


_SIDES = ((ALICE, "withdrawal"), (BOB, "deposit"))


@pytest.mark.slow
async def test_paying_a_user_here_costs_what_a_transfer_does(rich, database, clock, entropy):
    dear = another(rich, database, clock, entropy, transfer_fees=Fees(100), maximums={("local", "USDC"): 50_000_000})
    rich.withdrawals = dear
    to = await bobs(rich)
    made = await ask(rich, to=to)
    assert (made.fee, made.fee_highest) == (400_000, 400_000)
    assert (await rich.user(ALICE, "USDC")).balance == 100_000_000 - 40_400_000
    assert await rich.balance(house_account("fees", "USDC")) == 400_000
    with pytest.raises(AboveMaximum) as refused:
        await ask(rich, "big", to=to, amount=50_000_001)
    assert refused.value.facts == {"maximum": 50_000_000, "amount": 50_000_001}
    with pytest.raises(FeeAboveAccepted) as costly:
        await dear.request(
            key=key("fee"), owner=ALICE, asset="USDC", network="local", to=to, amount=50_000_000, fee_accepted=499_999
        )
    assert costly.value.facts == {"fee_highest": 500_000, "fee_accepted": 499_999}
    with pytest.raises(FeeAboveAccepted) as gas:
        await dear.request(
            key=key("gas"),
            owner=ALICE,
            asset="USDC",
            network="local",
            to=TO,
            amount=1_000_000,
            fee_accepted=HIGHEST - 1,
        )
    assert gas.value.facts == {"fee_highest": HIGHEST, "fee_accepted": HIGHEST - 1}
    held = await dear.request(
        key=key("gas"), owner=ALICE, asset="USDC", network="local", to=TO, amount=1_000_000, fee_accepted=HIGHEST
    )
    assert (held.state, held.fee_highest) == (WithdrawalState.HELD, HIGHEST)


@pytest.mark.slow
async def test_own_addresses_are_refused_and_another_book_s_is_paid_over_the_chain(rich, database, clock):
    mine = (await rich.addresses.issue(ALICE, "local")).address
    waiting = DerivedAddresses().address(OwnKey(Role.DEPOSIT, 77))
    async with tx(rich.chain.engine) as connection:
        row = {"family": "evm", "role": "deposit", "generation": 1, "key_index": 77, "address": waiting}
        await connection.execute(insert(tables.address_pool).values(row | {"derived_at": clock.now()}))
    for to, code in ((mine, "own_deposit_address"), (rich.hot, "own_address"), (waiting, "own_address")):
        with pytest.raises(OwnAddress) as refused:
            await ask(rich, to=to)
        assert refused.value.code == code
    with pytest.raises(TokenContract) as contract:
        await ask(rich, asset="ETH", amount=10**17, to=DAI)
    assert contract.value.facts == {"token": "DAI"}
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(
            update(tables.addresses).where(tables.addresses.c.address == mine).values(book="other")
        )
    made = await ask(rich, to=mine)
    assert (made.state, made.internal) == (WithdrawalState.HELD, False)


@pytest.mark.slow
async def test_a_frozen_user_here_is_not_paid_and_not_named(rich):
    to = await bobs(rich)
    await rich.ledger.submit(alone(Freeze(id="test:freeze", scope=FreezeScope.OWNER, target=BOB)))
    for _ in range(2):  # the second time as remembered
        with pytest.raises(RefusedByBook) as refused:
            await ask(rich, to=to)
        assert (refused.value.code, refused.value.facts) == ("frozen", {"scope": "owner"})
    assert (await rich.user(ALICE, "USDC")).available == 100_000_000
    assert await rich.withdrawals.list_for(ALICE) == []


@pytest.mark.slow
async def test_what_would_not_be_credited_over_the_chain_is_not_credited_inside(rich, database, clock, entropy):
    to = await bobs(rich)
    rebasing = [
        Deployment(asset="USDC", network="local", contract=USDC, decimals=6, quirks=frozenset({Quirk.REBASING})),
        Deployment(asset="ETH", network="local", contract=None, decimals=18),
    ]
    fair = rich.withdrawals
    registry = Registry(rich.registry.networks.values(), rebasing)
    rich.withdrawals = another(rich, database, clock, entropy, registry=registry)
    with pytest.raises(NotCreditable, match="balances change"):
        await ask(rich, to=to)
    rich.withdrawals = fair
    async with tx(database.engine(owner=True)) as connection:
        await connection.execute(tables.tokens.delete().where(tables.tokens.c.contract == USDC))
    with pytest.raises(NotCreditable, match="looked at yet"):
        await ask(rich, to=to)
    assert (await ask(rich, "eth", asset="ETH", amount=10**17, to=to)).internal


@pytest.mark.slow
async def test_f56_a_user_s_address_that_cannot_be_screened_is_not_paid_and_the_request_can_be_repeated(rich, tmp_path):
    to = await bobs(rich)
    rich.withdrawals.steps.screening["local"] = Away()
    with pytest.raises(ScreeningUnavailable):
        await ask(rich, to=to)
    path = tmp_path / "listed.txt"
    path.write_text(f"{to}\n")
    rich.withdrawals.steps.screening["local"] = ScreeningList(path)
    with pytest.raises(RecipientListed):
        await ask(rich, to=to)
    assert (await rich.user(ALICE, "USDC")).available == 100_000_000
    path.write_text("")
    assert (await ask(rich, to=to)).internal


@pytest.mark.slow
async def test_f81_an_address_put_into_our_records_does_not_lead_a_payment_astray(rich, database, clock, entropy):
    await bobs(rich)
    async with tx(database.engine(owner=True)) as connection:
        mallory = {"family": "evm", "address": TO, "role": "deposit", "generation": 1, "key_index": 5, "book": "main"}
        await connection.execute(
            insert(tables.addresses).values(mallory | {"owner": "usr_mallory", "issued_at": clock.now()})
        )
    rich.withdrawals = another(rich, database, clock, entropy, source=DerivedAddresses())
    with pytest.raises(AddressesDisagree):
        await ask(rich, to=TO)
    assert (await rich.user(ALICE, "USDC")).available == 100_000_000
    assert (await ask(rich, to=await bobs(rich))).internal


async def warnings_about(house, to):
    estimate = await house.withdrawals.estimate(ALICE, asset="USDC", network="local", amount=1_000_000, to=to)
    assert estimate.recipient is not None
    codes = [warned.code for warned in estimate.recipient.warnings]
    return codes, Note.FIRST_TIME in estimate.recipient.notes


@pytest.mark.slow
async def test_an_address_like_one_that_was_paid_is_warned_of_until_it_is_paid_itself(rich):
    false = twin_of(TO)
    assert await warnings_about(rich, false) == ([], True)
    given_up = await ask(rich, "gone", amount=1_000_000)
    await rich.withdrawals.cancel(key=key("cancel"), owner=ALICE, withdrawal=given_up.id)
    assert await warnings_about(rich, false) == ([], True)
    await ask(rich, "first", amount=1_000_000)
    assert await warnings_about(rich, TO) == ([], False)
    assert await warnings_about(rich, false) == ([WarningCode.LOOKS_ALIKE], True)
    body = {"owner": ALICE, "asset": "USDC", "network": "local", "to": false, "amount": 2_000_000}
    with pytest.raises(RecipientDoubtful) as refused:
        await rich.withdrawals.request(key=key("false"), **body)
    assert (refused.value.code, refused.value.facts["resembles"]) == ("recipient_looks_alike", show_address(TO))
    assert len(await rich.withdrawals.list_for(ALICE)) == 2
    made = await rich.withdrawals.request(key=key("false"), **body, accept=["looks_alike"])
    assert (await rich.withdrawals.get(ALICE, made.id)).accepted == (WarningCode.LOOKS_ALIKE,)
    assert await warnings_about(rich, false) == ([], False)
    codes = await rich.withdrawals.estimate(BOB, asset="USDC", network="local", amount=1_000_000, to=false)
    assert codes.recipient.warnings == (), "others' dealings aren't one's own"


@pytest.mark.slow
async def test_an_address_like_one_that_paid_lately_is_warned_of(rich, clock):
    to, sender = (await rich.addresses.issue(ALICE, "local")).address, digest("customer")[:42]
    await rich.chain.mine(paid(to, 5_000_000, contract=USDC, tx_hash=digest("payment"), sender=sender))
    await rich.deposits.step()
    assert (await rich.deposits.list_for(ALICE))[0].sender == sender
    assert await warnings_about(rich, sender) == ([], True)
    assert await warnings_about(rich, twin_of(sender)) == ([WarningCode.LOOKS_ALIKE], True)
    clock.advance(timedelta(days=91))
    assert await warnings_about(rich, twin_of(sender)) == ([], True)


@pytest.mark.slow
@pytest.mark.parametrize("accepted", [(), ("contract_refuses",)])
async def test_who_has_a_refusing_contract_paid_against_a_warning_bears_its_gas(
    rich, database, clock, entropy, accepted
):
    payees = ScriptedPayees(Payee(is_contract=True, refuses=bool(accepted)))
    rich.withdrawals = another(rich, database, clock, entropy, payees=payees)
    made = await rich.withdrawals.request(
        key=key("w"), owner=ALICE, asset="USDC", network="local", to=TO, amount=40_000_000, accept=accepted
    )
    withdrawal = await reserved(rich, made)
    await mined(rich, withdrawal, succeeded=False, transfer=False)
    await rich.chain.set_transaction(withdrawal.id, state="reverted")
    assert await rich.withdrawals.step() == 1
    fee = 1_625_325 if accepted else 0
    ended = await rich.withdrawals.get(ALICE, withdrawal.id)
    assert (ended.state, ended.fee) == (WithdrawalState.REVERTED, fee)
    account = await rich.user(ALICE, "USDC")
    assert (account.balance, account.debits_pending) == (100_000_000 - fee, 0)
    assert await rich.balance(house_account("fees", "USDC")) == fee
    assert await rich.balance(house_account("network-fees", "ETH")) == -65_000 * 10**10
    await rich.assert_sums_to_zero()
    assert await rich.withdrawals.step() == 0
