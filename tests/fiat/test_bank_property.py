"""Any history of top-ups and payouts at a real bank: at the end our book is the bank, and nobody was paid twice."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fiat.payouts import PayoutState
from ledger.accounts import house_account, user_account
from ledger.errors import RefusedByBook
from tests.fiat.test_payouts import ADA, ask, balance, carry_out
from tests.support.bank import OUR_ACCOUNT, OUR_IBAN, bank_with_our_account

pytestmark = pytest.mark.slow

CLOSED, OPEN = "NL26MOCK0000000077", "FR1420041010050500013M02606"
BANK = house_account("bank:mock", "EUR")
_S = PayoutState

acts = st.one_of(
    st.tuples(st.just("top up"), st.integers(1, 500_00)),
    st.tuples(st.just("stranger"), st.integers(1, 50_00)),
    st.tuples(st.just("pay out"), st.integers(1, 300_00)),
    st.tuples(st.just("pay out to a closed account"), st.integers(1, 300_00)),
    st.tuples(st.just("submit"), st.just(0)),
    st.tuples(st.just("end the day"), st.integers(1, 3)),
    st.tuples(st.just("take in, twice"), st.just(0)),
    st.tuples(st.just("returns from now on"), st.booleans()),
)


async def test_at_the_end_the_book_is_the_bank_and_no_payout_was_made_twice_or_lost(
    rail, desk, steps, ledger, clock, folder, database
):
    """Three histories of up to fourteen acts, one after the other; hypothesis draws them, a failure shows them."""
    drawn = []

    @settings(max_examples=3, deadline=None, database=None, phases=[Phase.generate])
    @given(st.lists(acts, min_size=6, max_size=14))
    def draw(history):
        drawn.append(history)

    draw()
    clock.advance(timedelta(days=4, hours=9))
    with bank_with_our_account(at=clock.now()) as bank:
        bank.open_account("CLOSED", iban=CLOSED)
        bank.call("PATCH", "/_mock/accounts/CLOSED", json={"behaviour": "closed-account"})
        house = House(rail, desk, steps, clock, folder, bank, await rail.reference_for(ADA))
        for act, figure in (("top up", 400_00), ("end the day", 1), ("take in, twice", 0), ("pay out", 10_00)):
            await house.do(act, figure)
        for history in drawn:
            print(history)
            for act, figure in history:
                await house.do(act, figure)
        await house.end()
        theirs = bank.call("GET", f"/_mock/accounts/{OUR_ACCOUNT}").json()["balance"]
        assert -(await balance(ledger, BANK)) == theirs
        made = Counter(one["end_to_end_id"] for one in bank.call("GET", "/_mock/payments").json())
        payouts = [await desk.get(ADA, id) for id in house.asked]
        assert made == Counter(one.end_to_end_id for one in payouts)
        assert {one.state for one in payouts} <= {_S.PAID, _S.RETURNED, _S.REJECTED}
        assert await balance(ledger, house_account("in-transit:bank:out", "EUR")) == 0
        kept = sum(one.amount for one in payouts if one.state is _S.PAID)
        fees = sum(one.fee for one in payouts if one.state is not _S.REJECTED)
        assert await balance(ledger, user_account(ADA, "EUR")) == house.topped_up - kept - fees
        assert await balance(ledger, house_account("fees", "EUR")) == fees


class House:
    """What is done at our side and at the bank's."""

    def __init__(self, rail, desk, steps, clock, folder, bank, reference):
        self.rail, self.desk, self.steps, self.clock = rail, desk, steps, clock
        self.folder, self.bank, self.reference = folder, bank, reference
        self.asked, self.topped_up, self.files = [], 0, 0

    async def do(self, act, figure):
        match act:
            case "top up":
                self.bank.receive(OUR_IBAN, figure, note=self.reference)
                self.topped_up += figure
            case "stranger":
                self.bank.receive(OUR_IBAN, figure, note="lunch")
            case "pay out" | "pay out to a closed account":
                iban = OPEN if act == "pay out" else CLOSED
                try:
                    made = await ask(self.desk, figure, f"p-{len(self.asked)}-{figure}-{act}", iban=iban)
                except RefusedByBook:
                    return
                if made.id not in self.asked:
                    self.asked.append(made.id)
            case "submit":
                await self.steps.step()
                carry_out(self.folder, self.bank)
            case "end the day":
                for _ in range(figure):
                    self.bank.end_day()
                    self.clock.advance(timedelta(days=1))
            case "take in, twice":
                await self.take_in()
            case "returns from now on":
                later = {"behaviour": "return-later", "parameters": {"days": 2}}
                told = later if figure else {"behaviour": "accept"}
                self.bank.call("PATCH", f"/_mock/accounts/{OUR_ACCOUNT}", json=told)

    async def take_in(self):
        messages = self.bank.call("GET", "/_mock/mailbox").json()
        bodies = [one["body"].encode() for one in messages if one["account"] == OUR_ACCOUNT]
        for body in (*bodies, *reversed(bodies)):
            self.files += 1
            await self.rail.import_statement(body, filename=f"{self.files}.xml")

    async def end(self):
        """Everything on its way arrives."""
        await self.do("submit", 0)
        await self.do("end the day", 7)
        await self.take_in()
