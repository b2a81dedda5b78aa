"""PayPal's Customer Disputes v1: listed, shown, accepted."""

from datetime import datetime

from railsim.calls import Answer, Call, Json, Operation
from railsim.paypal.errors import plain
from railsim.paypal.store import Store, money

DAY = 86_400
DUE_DAYS = 10
REASONS = (
    "MERCHANDISE_OR_SERVICE_NOT_RECEIVED", "MERCHANDISE_OR_SERVICE_NOT_AS_DESCRIBED", "UNAUTHORISED",
    "CREDIT_NOT_PROCESSED", "DUPLICATE_TRANSACTION", "INCORRECT_AMOUNT", "PAYMENT_BY_OTHER_MEANS",
    "CANCELED_RECURRING_BILLING", "PROBLEM_WITH_REMITTANCE", "OTHER",
)  # fmt: skip
LISTED = (
    "dispute_id", "create_time", "update_time", "reason", "status", "dispute_state", "dispute_amount",
    "dispute_life_cycle_stage", "dispute_channel", "seller_response_due_date", "links",
)  # fmt: skip


class Disputes:
    """A chargeback takes the amount when it opens, and its fee; won, the amount comes back."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("GET", "/v1/customer/disputes", self.listed),
            Operation("GET", "/v1/customer/disputes/{id}", self.get),
            Operation("POST", "/v1/customer/disputes/{id}/accept-claim", self.accept),
        ]

    def open(self, payment: str, amount: int | None, reason: str | None) -> Json:
        """Raises LookupError, ValueError."""
        store, capture = self.store, self.store.captures.get(payment)
        if capture is None:
            raise LookupError(f"there is no capture {payment}")
        left = capture["_amount"] - capture["_refunded"]
        amount = left if amount is None else amount
        reason = reason or "MERCHANDISE_OR_SERVICE_NOT_RECEIVED"
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reason: {', '.join(REASONS)}")
        if capture["_disputed"] or capture["status"] not in ("COMPLETED", "PARTIALLY_REFUNDED"):
            raise ValueError(f"capture {payment} is {capture['status']}, or it's disputed already")
        if not 0 < amount <= left:
            raise ValueError(f"1 to {left} of capture {payment} can be disputed, not {amount}")
        currency, id = capture["_currency"], f"PP-R-{store.new(3)}-{store.chance.below(90_000_000) + 10_000_000}"
        made: Json = {
            "dispute_id": id, "create_time": store.time(), "update_time": store.time(), "reason": reason,
            "status": "WAITING_FOR_SELLER_RESPONSE", "dispute_state": "REQUIRED_ACTION",
            "dispute_amount": money(amount, currency), "dispute_life_cycle_stage": "CHARGEBACK",
            "dispute_channel": "INTERNAL", "seller_response_due_date": store.time(seconds=DUE_DAYS * DAY),
            "disputed_transactions": [{
                "seller_transaction_id": payment, "create_time": capture["create_time"],
                "transaction_status": "COMPLETED", "gross_amount": capture["amount"],
                "seller": {"merchant_id": store.merchant}, "buyer": {"name": "Pat Payer"},
                **({"custom": capture["custom_id"]} if "custom_id" in capture else {}),
            }],
            "money_movements": [], "_amount": amount, "_currency": currency, "_capture": payment,
        }  # fmt: skip
        capture["_disputed"] = True
        self._move(made, "DEBIT", amount, "DISPUTE_SETTLEMENT")
        if store.terms.dispute_fee:
            self._move(made, "DEBIT", store.terms.dispute_fee, "DISPUTE_FEE")
        store.disputes[id] = made
        self._tell("CREATED", made)
        store.timeline.after(DUE_DAYS * DAY, lambda: self._due(made))
        return self.shown(made)

    def _move(self, made: Json, type: str, amount: int, reason: str) -> None:
        made["money_movements"].append({
            "affected_party": "SELLER", "amount": money(amount, made["_currency"]), "type": type,
            "initiated_time": self.store.time(), "reason": reason,
        })  # fmt: skip

    def _due(self, made: Json) -> None:
        if made["status"] != "RESOLVED":
            self._end(made, "RESOLVED_BUYER_FAVOUR")

    def decide(self, id: str, *, won: bool) -> Json:
        """Raises LookupError, ValueError."""
        made = self.store.disputes.get(id)
        if made is None:
            raise LookupError(f"there is no dispute {id}")
        if made["status"] == "RESOLVED":
            raise ValueError(f"dispute {id} is resolved already")
        self._end(made, "RESOLVED_SELLER_FAVOUR" if won else "RESOLVED_BUYER_FAVOUR")
        return self.shown(made)

    def _end(self, made: Json, code: str) -> None:
        won = code == "RESOLVED_SELLER_FAVOUR"
        made |= {"status": "RESOLVED", "dispute_state": "RESOLVED", "update_time": self.store.time()}
        made["dispute_outcome"] = {
            "outcome_code": code, "amount_refunded": money(0 if won else made["_amount"], made["_currency"])
        }  # fmt: skip
        capture = self.store.captures[made["_capture"]]
        if won:
            self._move(made, "CREDIT", made["_amount"], "DISPUTE_SETTLEMENT")
            if self.store.terms.dispute_fee and self.store.terms.dispute_fee_returned:
                self._move(made, "CREDIT", self.store.terms.dispute_fee, "DISPUTE_FEE")
            capture["_disputed"] = False
        self._tell("RESOLVED", made)

    def _tell(self, event: str, made: Json) -> None:
        summary = f"A dispute was {event.lower()} with case # {made['dispute_id']}"
        self.store.tell(f"CUSTOMER.DISPUTE.{event}", "dispute", self.shown(made), summary, version="1.0")

    def shown(self, made: Json) -> Json:
        path = f"/v1/customer/disputes/{made['dispute_id']}"
        links = [self.store.link(path, "self")]
        extra: Json = {}
        if made["status"] != "RESOLVED":
            links.append(self.store.link(f"{path}/accept-claim", "accept_claim", "POST"))
            extra["allowed_response_options"] = {"accept_claim": {"accept_claim_types": ["REFUND"]}}
        full = {name: value for name, value in made.items() if not name.startswith("_") and name != "dispute_state"}
        return full | extra | {"links": links}

    def get(self, call: Call) -> Answer:
        return Answer(200, self.shown(self._found(call.path["id"])))

    def _found(self, id: str) -> Json:
        if id not in self.store.disputes:
            raise plain(404, "RESOURCE_NOT_FOUND", "The specified resource does not exist.", "INVALID_RESOURCE_ID")
        return self.store.disputes[id]

    def listed(self, call: Call) -> Answer:
        """Newest first; `next_page_token` is in the link `next`."""
        size = call.query.get("page_size", "10")
        token = call.query.get("next_page_token", "0")
        if not size.isdigit() or not 1 <= int(size) <= 50 or not token.isdigit():
            raise plain(
                400, "INVALID_REQUEST", "Request is not well-formed.", "INVALID_PARAMETER_VALUE", field="page_size"
            )
        wanted = call.query.get("disputed_transaction_id")
        state = call.query.get("dispute_state")
        after, before = call.query.get("update_time_after"), call.query.get("update_time_before")
        found = [
            one for one in reversed(self.store.disputes.values())
            if wanted in (None, one["_capture"]) and state in (None, one["dispute_state"])
            and _is_between(one["update_time"], after, before)
        ]  # fmt: skip
        first, last = int(token), int(token) + int(size)
        items = [
            {name: value for name, value in self.shown(one).items() if name in LISTED}
            | {"dispute_state": one["dispute_state"]}
            for one in found[first:last]
        ]  # fmt: skip
        links = [self.store.link(f"/v1/customer/disputes?page_size={size}&next_page_token={token}", "self")]
        if last < len(found):
            links.append(self.store.link(f"/v1/customer/disputes?page_size={size}&next_page_token={last}", "next"))
        return Answer(200, ({"items": items} if items else {}) | {"links": links})

    def accept(self, call: Call) -> Answer:
        """Accept liability: the buyer gets the money. The claim's note comes as JSON or in a multipart form."""
        made = self._found(call.path["id"])
        if made["status"] == "RESOLVED":
            raise plain(422, "UNPROCESSABLE_ENTITY", "The action could not be performed.", "DISPUTE_ALREADY_RESOLVED")
        self._end(made, "ACCEPTED")
        return Answer(200, {"links": [self.store.link(f"/v1/customer/disputes/{made['dispute_id']}", "self")]})


def _is_between(time: str, after: str | None, before: str | None) -> bool:
    """Whether it changed between two moments, where they are told."""
    changed = datetime.fromisoformat(time)
    if after is not None and changed < datetime.fromisoformat(after):
        return False
    return before is None or changed <= datetime.fromisoformat(before)
