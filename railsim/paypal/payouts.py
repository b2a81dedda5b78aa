"""PayPal's Payouts v1: batches of payments to people, each item with a fate of its own."""

from railsim.calls import Answer, Call, Json, Operation, Refused
from railsim.money import as_text, from_text
from railsim.paypal.errors import plain
from railsim.paypal.store import Store, shown
from railsim.switches import Event, Switch

DAY = 86_400
PROCESSING_SECONDS, PAID_SECONDS = 5, 60
"""After a batch was taken: until it's processed, until its items are paid."""

UNCLAIMED_DAYS = 30
DUPLICATE_DAYS = 30
"""A sender_batch_id may be used again after this."""

ITEMS_MAX = 15_000
FINAL = ("SUCCESS", "FAILED", "RETURNED", "BLOCKED", "REFUNDED", "REVERSED")


class Payouts:
    """Batches and their items."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v1/payments/payouts", self.create),
            Operation("GET", "/v1/payments/payouts/{id}", self.get_batch),
            Operation("GET", "/v1/payments/payouts-item/{id}", self.get_item),
            Operation("POST", "/v1/payments/payouts-item/{id}/cancel", self.cancel_item),
        ]

    def create(self, call: Call) -> Answer:
        header, items = call.body.get("sender_batch_header"), call.body.get("items")
        if not isinstance(header, dict):
            raise _invalid("sender_batch_header", "Required field missing")
        if not isinstance(items, list) or not 1 <= len(items) <= ITEMS_MAX:
            raise _invalid("items", f"Must have 1 to {ITEMS_MAX} items")
        parsed = [self._parsed(item, header, place) for place, item in enumerate(items)]
        if len({one["_currency"] for one in parsed}) > 1:
            raise _invalid("items", "All items of a batch must have one currency")
        self._check_duplicate(header.get("sender_batch_id"))
        store = self.store
        batch: Json = {
            "payout_batch_id": store.new(13), "batch_status": "PENDING", "time_created": store.time(),
            "sender_batch_header": {
                name: header[name] for name in ("sender_batch_id", "recipient_type", "email_subject", "email_message")
                if name in header
            },
            "_at": store.timeline.seconds(), "_items": parsed, "_currency": parsed[0]["_currency"],
        }  # fmt: skip
        store.batches[batch["payout_batch_id"]] = batch
        for item in parsed:
            item["payout_batch_id"] = batch["payout_batch_id"]
            item["sender_batch_id"] = header.get("sender_batch_id", "")
            store.items[item["payout_item_id"]] = item
        store.timeline.after(PROCESSING_SECONDS, lambda: self._process(batch))
        short = {
            name: batch[name] for name in ("payout_batch_id", "batch_status", "time_created", "sender_batch_header")
        }
        return Answer(201, {"batch_header": short, "links": [self._link(batch)]})

    def _link(self, batch: Json) -> Json:
        return self.store.link(f"/v1/payments/payouts/{batch['payout_batch_id']}", "self")

    def _parsed(self, item: object, header: Json, place: int) -> Json:
        if not isinstance(item, dict) or not isinstance(item.get("receiver"), str):
            raise _invalid(f"items[{place}].receiver", "Required field missing")
        given = item.get("amount")
        if not isinstance(given, dict) or not isinstance(given.get("value"), str):
            raise _invalid(f"items[{place}].amount", "Required field missing")
        currency = str(given.get("currency"))
        amount = from_text(given["value"], currency)
        if not amount or len(currency) != 3:
            raise _invalid(f"items[{place}].amount", "Currency value is not valid")
        kind = item.get("recipient_type") or header.get("recipient_type") or "EMAIL"
        kept = ("note", "sender_item_id", "recipient_wallet", "purpose")
        payout_item = {"recipient_type": kind, "amount": {"currency": currency, "value": as_text(amount, currency)}}
        payout_item |= {"receiver": item["receiver"]} | {name: item[name] for name in kept if name in item}
        return {
            "payout_item_id": self.store.new(13), "transaction_status": "PENDING", "payout_item": payout_item,
            "payout_item_fee": {"currency": currency, "value": as_text(self.store.terms.payout_fee, currency)},
            "_amount": amount, "_currency": currency,
        }  # fmt: skip

    def _check_duplicate(self, sender_batch_id: object) -> None:
        for batch in self.store.batches.values():
            recent = self.store.timeline.seconds() - batch["_at"] < DUPLICATE_DAYS * DAY
            if sender_batch_id and recent and batch["sender_batch_header"].get("sender_batch_id") == sender_batch_id:
                refusal = plain(
                    400, "USER_BUSINESS_ERROR", "User business error.",
                    "Batch with given sender_batch_id already exists", field="SENDER_BATCH_ID",
                )  # fmt: skip
                assert isinstance(refusal.answer.body, dict)
                refusal.answer.body["links"] = [self._link(batch)]
                raise refusal

    def _process(self, batch: Json) -> None:
        switches = {item["payout_item_id"]: self.store.planned(Event.PAYOUT) for item in batch["_items"]}
        if any(one is not None and one.outcome == "denied" for one in switches.values()):
            batch |= {"batch_status": "DENIED", "time_completed": self.store.time()}
            for item in batch["_items"]:
                self._end(item, "FAILED", "FAILED", error=("INSUFFICIENT_FUNDS", "Insufficient funds"))
            self._tell_batch(batch, "DENIED")
            return
        batch["batch_status"] = "PROCESSING"
        self._tell_batch(batch, "PROCESSING")
        for item in batch["_items"]:
            self._start(item, switches[item["payout_item_id"]])

    def _start(self, item: Json, switch: Switch | None) -> None:
        after = self.store.timeline.after
        match switch.outcome if switch else "":
            case "failed":
                error = ("RECEIVER_COUNTRY_NOT_ALLOWED", "Receiver's country is not allowed to receive payouts")
                after(PAID_SECONDS, lambda: self._end(item, "FAILED", "FAILED", error=error))
            case "pending":
                seconds = switch.seconds if switch else 0
                if seconds:
                    after(seconds, lambda: self._end(item, "SUCCESS", "SUCCEEDED"))
            case "unclaimed":
                after(PAID_SECONDS, lambda: self._unclaimed(item))
            case "returned":
                seconds = switch.seconds if switch else 0
                after(PAID_SECONDS, lambda: self._end(item, "SUCCESS", "SUCCEEDED"))
                after(PAID_SECONDS + (seconds or DAY), lambda: self._end(item, "RETURNED", "RETURNED"))
            case _:
                after(PAID_SECONDS, lambda: self._end(item, "SUCCESS", "SUCCEEDED"))

    def _unclaimed(self, item: Json) -> None:
        error = ("RECEIVER_UNREGISTERED", "Receiver is unregistered")
        self._end(item, "UNCLAIMED", "UNCLAIMED", error=error)
        self.store.timeline.after(UNCLAIMED_DAYS * DAY, lambda: self._give_back(item))

    def _give_back(self, item: Json) -> None:
        if item["transaction_status"] == "UNCLAIMED":
            self._end(item, "RETURNED", "RETURNED")

    def _end(self, item: Json, status: str, event: str, *, error: tuple[str, str] | None = None) -> None:
        """An item reaches a status; the batch is done once all of its items are, or only wait to be claimed."""
        item |= {"transaction_status": status, "time_processed": self.store.time()}
        item.setdefault("transaction_id", self.store.new())
        item.pop("errors", None)
        if error is not None:
            item["errors"] = {"name": error[0], "message": error[1], "debug_id": self.store.chance.hexadecimal(13)}
        self.store.tell(
            f"PAYMENT.PAYOUTS-ITEM.{event}",
            "payouts_item",
            self.item(item),
            f"Payouts item {status.lower()}",
            version="1.0",
        )
        batch = self.store.batches[item["payout_batch_id"]]
        done = all(one["transaction_status"] in (*FINAL, "UNCLAIMED") for one in batch["_items"])
        if done and batch["batch_status"] == "PROCESSING":
            batch |= {"batch_status": "SUCCESS", "time_completed": self.store.time()}
            self._tell_batch(batch, "SUCCESS")

    def _tell_batch(self, batch: Json, event: str) -> None:
        about = {"batch_header": self.header(batch), "links": [self._link(batch)]}
        self.store.tell(
            f"PAYMENT.PAYOUTSBATCH.{event}", "payouts", about, f"Payouts batch {event.lower()}", version="1.0"
        )

    def header(self, batch: Json) -> Json:
        """The batch, with the sums that it moved."""
        currency, items = batch["_currency"], batch["_items"]
        fees = self.store.terms.payout_fee * len(items)
        return shown(batch) | {
            "amount": {"currency": currency, "value": as_text(sum(one["_amount"] for one in items), currency)},
            "fees": {"currency": currency, "value": as_text(fees, currency)}, "funding_source": "BALANCE",
        }  # fmt: skip

    def item(self, item: Json) -> Json:
        path = f"/v1/payments/payouts-item/{item['payout_item_id']}"
        up = f"/v1/payments/payouts/{item['payout_batch_id']}"
        return shown(item) | {"links": [self.store.link(path, "item"), self.store.link(up, "batch")]}

    def get_batch(self, call: Call) -> Answer:
        batch = self.store.batches.get(call.path["id"])
        if batch is None:
            raise plain(404, "RESOURCE_NOT_FOUND", "Resource not found", "Requested resource ID was not found.")
        page, size = _page(call, "page", 1, 1_000_000), _page(call, "page_size", 1_000, 1_000)
        items = batch["_items"]
        inside = [_in_batch(self.item(one)) for one in items[(page - 1) * size : page * size]]
        answer: Json = {"batch_header": self.header(batch), "items": inside, "links": [self._link(batch)]}
        if call.query.get("total_required") == "true":
            answer |= {"total_items": len(items), "total_pages": -(-len(items) // size)}
        if page * size < len(items):
            path = f"/v1/payments/payouts/{batch['payout_batch_id']}?page_size={size}&page={page + 1}"
            answer["links"].append(self.store.link(path, "next"))
        return Answer(200, answer)

    def _found(self, id: str) -> Json:
        if id not in self.store.items:
            raise plain(404, "RESOURCE_NOT_FOUND", "Resource not found", "Requested resource ID was not found.")
        return self.store.items[id]

    def get_item(self, call: Call) -> Answer:
        return Answer(200, self.item(self._found(call.path["id"])))

    def cancel_item(self, call: Call) -> Answer:
        """Only what nobody has claimed can be cancelled."""
        item = self._found(call.path["id"])
        if item["transaction_status"] != "UNCLAIMED":
            said = "Item already cancelled" if item["transaction_status"] == "RETURNED" else "Item is not unclaimed"
            raise plain(400, "ITEM_INCORRECT_STATUS", "Item status is not UNCLAIMED", said)
        self._end(item, "RETURNED", "CANCELED")
        return Answer(200, self.item(item))


def _in_batch(item: Json) -> Json:
    return {name: value for name, value in item.items() if name != "sender_batch_id"}


def _page(call: Call, name: str, default: int, most: int) -> int:
    told = call.query.get(name, str(default))
    if not told.isdigit() or not 1 <= int(told) <= most:
        raise _invalid(name, f"Must be a number of 1 to {most}")
    return int(told)


def _invalid(field: str, issue: str) -> Refused:
    return plain(400, "VALIDATION_ERROR", "Invalid request - see details", issue, field=field)
