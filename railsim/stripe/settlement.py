"""Stripe's balance, and its payouts to the merchant's bank with the transactions that are inside each."""

from collections import Counter

from railsim.calls import Answer, Call, Json, Operation
from railsim.stripe import objects
from railsim.stripe.forms import invalid
from railsim.stripe.store import DAY, Store
from railsim.switches import Event, Switch

TRANSIT_DAYS, ARRIVAL_DAYS = 1, 2
"""After a payout was made: until it's with the bank, until it arrives."""


class Settlement:
    """Automatic payouts: all that is available, one per currency; a negative one debits the bank account."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/balance", self.balance),
            Operation("GET", "/v1/balance_transactions", self.list_transactions),
            Operation("GET", "/v1/balance_transactions/{id}", self.get_transaction),
            Operation("GET", "/v1/payouts", self.list_payouts),
            Operation("GET", "/v1/payouts/{id}", self.get_payout),
        ]

    def settle(self, *, everything: bool) -> list[Json]:
        """Pay out each currency whose available transactions sum to more than nothing.

        Less than nothing is taken from the bank, unless what is still pending makes up for it.
        """
        store = self.store
        store.refresh()
        inside: dict[str, list[Json]] = {}
        pending: Counter[str] = Counter()
        for one in store.tables["txn"].values():
            if one["id"] in store.payout_of:
                continue
            if everything or one["status"] == "available":
                inside.setdefault(one["currency"], []).append(one)
            else:
                pending[one["currency"]] += one["net"]
        sums = {currency: sum(one["net"] for one in group) for currency, group in inside.items()}
        due = {currency: total for currency, total in sums.items() if total > 0 or total + pending[currency] < 0}
        return [self._pay_out(inside[currency], currency, total) for currency, total in due.items()]

    def _pay_out(self, inside: list[Json], currency: str, total: int) -> Json:
        store, now = self.store, self.store.timeline.seconds()
        switch = store.planned(Event.SETTLEMENT)
        made = objects.payout(store.new("po"), now, total, currency, now + ARRIVAL_DAYS * DAY)
        for one in inside:
            one["status"] = "available"
            store.payout_of[one["id"]] = made["id"]
        booked = store.book(
            amount=-total, currency=currency, type="payout", source=made["id"], category="payout",
            description="STRIPE PAYOUT",
        )  # fmt: skip
        made["balance_transaction"] = booked["id"]
        store.payout_of[booked["id"]] = made["id"]
        store.tell("payout.created", store.add("po", made))
        store.tell("payout.reconciliation_completed", made)
        store.timeline.after(TRANSIT_DAYS * DAY, lambda: self._move(made, "in_transit", "payout.updated"))
        if switch is None or switch.outcome != "pending":
            store.timeline.after(ARRIVAL_DAYS * DAY, lambda: self._arrive(made, switch))
        elif switch.seconds:
            store.timeline.after(ARRIVAL_DAYS * DAY + switch.seconds, lambda: self._arrive(made, None))
        return made

    def _move(self, made: Json, status: str, event: str) -> None:
        before, made["status"] = made["status"], status
        self.store.tell(event, made, {"status": before})

    def _arrive(self, made: Json, switch: Switch | None) -> None:
        if switch is not None and switch.outcome == "failed":
            self._fail(made)
            return
        made["trace_id"] = {"status": "supported", "value": self.store.chance.capitals(12)}
        self._move(made, "paid", "payout.paid")
        if switch is not None and switch.outcome == "returned":
            self.store.timeline.after(switch.seconds or DAY, lambda: self._fail(made))

    def _fail(self, made: Json) -> None:
        """The bank sent it back, also after it was `paid`: the money returns to the balance."""
        booked = self.store.book(
            amount=made["amount"], currency=made["currency"], type="payout_failure", source=made["id"],
            category="payout_reversal",
        )  # fmt: skip
        made |= {
            "failure_balance_transaction": booked["id"], "failure_code": "account_closed",
            "failure_message": "The bank account has been closed",
        }  # fmt: skip
        self._move(made, "failed", "payout.failed")

    def balance(self, call: Call) -> Answer:
        self.store.refresh()
        sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
        for one in self.store.tables["txn"].values():
            place = sums[one["status"]]
            place[one["currency"]] = place.get(one["currency"], 0) + one["net"]
        for place in sums.values():
            place.setdefault("usd", 0)
        shown = {
            name: [{"amount": sum, "currency": currency, "source_types": {"card": sum}} for currency, sum in by.items()]
            for name, by in sums.items()
        }
        return Answer(200, {"object": "balance", "livemode": False, **shown})

    def get_transaction(self, call: Call) -> Answer:
        self.store.refresh()
        return Answer(200, self.store.get("txn", call.path["id"]))

    def list_transactions(self, call: Call) -> Answer:
        """`payout` lists what is inside one: the payout's own transaction too."""
        self.store.refresh()
        payout, type, source = (call.query.get(name) for name in ("payout", "type", "source"))
        if payout is not None:
            self.store.get("po", payout, param="payout")
        found = (
            one for one in self.store.tables["txn"].values()
            if payout in (None, self.store.payout_of.get(one["id"]))
            and type in (None, one["type"]) and source in (None, one["source"])
        )  # fmt: skip
        return self.store.listed(call, found, url="/v1/balance_transactions")

    def get_payout(self, call: Call) -> Answer:
        return Answer(200, self.store.get("po", call.path["id"]))

    def list_payouts(self, call: Call) -> Answer:
        status = call.query.get("status")
        if status not in (None, "pending", "in_transit", "paid", "failed", "canceled"):
            raise invalid(f"Invalid status: {status}", param="status")
        found = (one for one in self.store.tables["po"].values() if status in (None, one["status"]))
        return self.store.listed(call, found, url="/v1/payouts")
