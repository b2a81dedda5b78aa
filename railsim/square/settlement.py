"""Square's disputes, and its payouts to the merchant's bank with their entries."""

from railsim.calls import Answer, Call, Json, Operation
from railsim.square.store import Store, find, money, refused, shown
from railsim.switches import Event, Switch

DAY = 86_400
DUE_DAYS, ARRIVAL_DAYS = 14, 1
REASONS = (
    "AMOUNT_DIFFERS", "CANCELLED", "DUPLICATE", "NO_KNOWLEDGE", "NOT_AS_DESCRIBED", "NOT_RECEIVED",
    "PAID_BY_OTHER_MEANS", "CUSTOMER_REQUESTS_CREDIT", "EMV_LIABILITY_SHIFT",
)  # fmt: skip
OPEN = ("EVIDENCE_REQUIRED", "PROCESSING")


class Disputes:
    """The amount is held when a dispute opens; won, it comes back."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v2/disputes", self.listed),
            Operation("GET", "/v2/disputes/{id}", self.get),
            Operation("POST", "/v2/disputes/{id}/accept", self.accept),
        ]

    def open(self, payment: str, amount: int | None, reason: str | None) -> Json:
        """Raises LookupError, ValueError."""
        store, paid = self.store, self.store.payments.get(payment)
        if paid is None:
            raise LookupError(f"there is no payment {payment}")
        left = paid["_amount"] - paid["_refunded"]
        amount, reason = left if amount is None else amount, reason or "NO_KNOWLEDGE"
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reason: {', '.join(REASONS)}")
        if paid["_disputed"] or paid["status"] != "COMPLETED" or not 0 < amount <= left:
            raise ValueError(f"payment {payment} is {paid['status']}; 1 to {left} of it can be disputed, and once")
        id = store.chance.letters(22)
        made: Json = {
            "id": id, "dispute_id": id, "amount_money": money(amount), "reason": reason, "state": "EVIDENCE_REQUIRED",
            "due_at": store.time(seconds=DUE_DAYS * DAY), "disputed_payment": {"payment_id": payment},
            "card_brand": paid["card_details"]["card"]["card_brand"], "created_at": store.time(),
            "updated_at": store.time(), "brand_dispute_id": store.chance.capitals(18), "reported_at": store.time(),
            "reported_date": store.time(), "version": 1, "location_id": store.location, "_amount": amount,
            "_payment": payment,
        }  # fmt: skip
        paid["_disputed"] = True
        store.disputes[id] = made
        self._book(made, -amount, store.terms.dispute_fee)
        store.tell("dispute.created", "dispute", made)
        store.timeline.after(DUE_DAYS * DAY, lambda: self._due(made))
        return shown(made)

    def _book(self, made: Json, gross: int, fee: int) -> None:
        details = {"payment_id": made["_payment"], "dispute_id": made["id"]}
        self.store.book(type="DISPUTE", gross=gross, fee=fee, details=details, field="type_dispute_details")

    def _due(self, made: Json) -> None:
        if made["state"] in OPEN:
            self._end(made, "LOST")

    def decide(self, id: str, *, won: bool) -> Json:
        """Raises LookupError, ValueError."""
        made = self.store.disputes.get(id)
        if made is None:
            raise LookupError(f"there is no dispute {id}")
        if made["state"] not in OPEN:
            raise ValueError(f"dispute {id} has ended: {made['state']}")
        self._end(made, "WON" if won else "LOST")
        return shown(made)

    def _end(self, made: Json, state: str) -> None:
        made |= {"state": state, "version": made["version"] + 1, "updated_at": self.store.time()}
        if state == "WON":
            returned = self.store.terms.dispute_fee if self.store.terms.dispute_fee_returned else 0
            self._book(made, made["_amount"], -returned)
            self.store.payments[made["_payment"]]["_disputed"] = False
        self.store.tell("dispute.state.updated", "dispute", made)

    def get(self, call: Call) -> Answer:
        return Answer(200, {"dispute": shown(find(self.store.disputes, call.path["id"], "dispute"))})

    def listed(self, call: Call) -> Answer:
        states = call.query.get("states")
        wanted = None if states is None else states.split(",")
        found = [one for one in self.store.disputes.values() if wanted is None or one["state"] in wanted]
        return self.store.listed(call, found, field="disputes", default=50)

    def accept(self, call: Call) -> Answer:
        made = find(self.store.disputes, call.path["id"], "dispute")
        if made["state"] != "EVIDENCE_REQUIRED":
            raise refused(400, "BAD_REQUEST", f"A dispute that is {made['state']} can't be accepted.")
        self._end(made, "ACCEPTED")
        return Answer(200, {"dispute": shown(made)})


class Settlement:
    """Payouts: all that is due, if it's something; less than nothing is taken from the bank account."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v2/payouts", self.listed),
            Operation("GET", "/v2/payouts/{id}", self.get),
            Operation("GET", "/v2/payouts/{id}/payout-entries", self.entries),
            Operation("GET", "/v2/locations", self.locations),
        ]

    def settle(self, *, everything: bool) -> Json | None:
        store, now = self.store, self.store.timeline.seconds()
        inside = [one for one in store.entries if not one["payout_id"] and (everything or one["_from"] <= now)]
        total = sum(one["_net"] for one in inside)
        if not total:
            return None
        switch = store.planned(Event.SETTLEMENT)
        arrival = store.time(seconds=ARRIVAL_DAYS * DAY)[:10]
        made: Json = {
            "id": f"po_{store.chance.letters(34)}", "status": "SENT", "location_id": store.location,
            "created_at": store.time(), "updated_at": store.time(), "amount_money": money(total),
            "destination": {"type": "BANK_ACCOUNT", "id": "bact:railsim-merchant"}, "version": 1, "type": "BATCH",
            "payout_fee": [], "arrival_date": arrival, "end_to_end_id": f"L2100000{store.chance.below(10**9):09d}",
        }  # fmt: skip
        for one in inside:
            one["payout_id"] = made["id"]
        store.payouts[made["id"]] = made
        store.tell("payout.sent", "payout", made)
        if switch is None or switch.outcome != "pending":
            store.timeline.after(ARRIVAL_DAYS * DAY, lambda: self._arrive(made, total, switch))
        elif switch.seconds:
            store.timeline.after(ARRIVAL_DAYS * DAY + switch.seconds, lambda: self._arrive(made, total, None))
        return {"payouts": [made["id"]]}

    def _arrive(self, made: Json, total: int, switch: Switch | None) -> None:
        if switch is not None and switch.outcome == "failed":
            self._fail(made, total)
            return
        self._move(made, "PAID", "payout.paid")
        if switch is not None and switch.outcome == "returned":
            self.store.timeline.after(switch.seconds or DAY, lambda: self._fail(made, total))

    def _fail(self, made: Json, total: int) -> None:
        """The bank sent it back: the money is paid out again with the next one, as one entry."""
        self._move(made, "FAILED", "payout.failed")
        self.store.book(
            type="RETURNED_PAYOUT", gross=total, fee=0, details={"payout_id": made["id"]},
            field="type_deposit_fee_reversed_details",
        )  # fmt: skip

    def _move(self, made: Json, status: str, event: str) -> None:
        made |= {"status": status, "version": made["version"] + 1, "updated_at": self.store.time()}
        self.store.tell(event, "payout", made)

    def get(self, call: Call) -> Answer:
        return Answer(200, {"payout": find(self.store.payouts, call.path["id"], "payout")})

    def listed(self, call: Call) -> Answer:
        status = call.query.get("status")
        begin, end = call.query.get("begin_time", ""), call.query.get("end_time", "9")
        found = [
            one for one in self.store.payouts.values()
            if status in (None, one["status"]) and begin <= one["created_at"] < end
        ]  # fmt: skip
        return self.store.listed(call, found, field="payouts")

    def entries(self, call: Call) -> Answer:
        payout = find(self.store.payouts, call.path["id"], "payout")
        found = [one for one in self.store.entries if one["payout_id"] == payout["id"]]
        return self.store.listed(call, found, field="payout_entries", newest=False)

    def locations(self, call: Call) -> Answer:
        return Answer(200, {"locations": [{
            "id": self.store.location, "name": "Onebook", "timezone": "America/New_York",
            "capabilities": ["CREDIT_CARD_PROCESSING", "AUTOMATIC_TRANSFERS"], "status": "ACTIVE",
            "created_at": "2025-01-01T00:00:00Z", "merchant_id": self.store.merchant, "country": "US",
            "language_code": "en-US", "currency": "USD", "business_name": "Onebook", "type": "PHYSICAL", "mcc": "7299",
        }]})  # fmt: skip
