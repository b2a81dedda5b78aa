"""Square's tables, errors, cursors and events: what its handlers share."""

import base64
import copy
from collections.abc import Sequence
from datetime import datetime, timedelta

from railsim.calls import Answer, Call, Json, Refused
from railsim.money import Terms
from railsim.provider import World
from railsim.switches import Event, Switch

CURRENCY = "USD"
"""A Square location has one currency."""

CATEGORIES = {
    "PAYMENT_METHOD_ERROR": (
        "GENERIC_DECLINE", "CVV_FAILURE", "ADDRESS_VERIFICATION_FAILURE", "INVALID_EXPIRATION", "INSUFFICIENT_FUNDS",
        "CARD_EXPIRED", "CARD_DECLINED_CALL_ISSUER", "TRANSACTION_LIMIT", "PAN_FAILURE",
        "CARD_DECLINED_VERIFICATION_REQUIRED",
    ),
    "REFUND_ERROR": (
        "REFUND_AMOUNT_INVALID", "REFUND_ALREADY_PENDING", "PAYMENT_NOT_REFUNDABLE", "REFUND_DECLINED",
        "PAYMENT_NOT_REFUNDABLE_DUE_TO_DISPUTE", "REFUND_ERROR_PAYMENT_NEEDS_COMPLETION",
    ),
    "AUTHENTICATION_ERROR": ("UNAUTHORIZED",),
    "RATE_LIMIT_ERROR": ("RATE_LIMITED",),
    "API_ERROR": ("INTERNAL_SERVER_ERROR",),
}  # fmt: skip


def refused(status: int, code: str, detail: str, *, field: str | None = None, remembered: bool = False) -> Refused:
    """Square's `errors`, with the category that the code belongs to."""
    return Refused(Answer(status, {"errors": [error(code, detail, field=field)]}), remembered=remembered)


def error(code: str, detail: str, *, field: str | None = None) -> Json:
    category = next((name for name, codes in CATEGORIES.items() if code in codes), "INVALID_REQUEST_ERROR")
    return {"category": category, "code": code, "detail": detail} | ({"field": field} if field else {})


class Store:
    """All objects by id, oldest first. What begins with `_` in an object is the simulator's own and never shown."""

    name = "square"

    def __init__(self, world: World, terms: Terms) -> None:
        self.world, self.terms = world, terms
        self.timeline, self.chance = world.timeline, world.chance
        self.merchant = self.chance.capitals(13)
        self.location = f"L{self.chance.capitals(12)}"
        self.payments: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.payouts: dict[str, Json] = {}
        self.customers: dict[str, Json] = {}
        self.cards: dict[str, Json] = {}
        self.entries: list[Json] = []
        """What moved the balance; `payout_id` is empty until one has paid it out."""

    def time(self, *, seconds: int = 0) -> str:
        return stamp(self.timeline.now() + timedelta(seconds=seconds))

    def planned(self, event: Event) -> Switch | None:
        return self.world.switches.take(event, self.name, "", "")

    def touch(self, made: Json) -> None:
        made["updated_at"] = self.time()

    def tell(self, type: str, kind: str, about: Json, *, field: str | None = None) -> None:
        """A webhook about an object as it is now."""
        id = self.chance.uuid()
        self.world.courier.post(self.name, id, type, {
            "merchant_id": self.merchant, "type": type, "event_id": id, "created_at": self.time(),
            "data": {"type": kind, "id": about["id"], "object": {field or kind: copy.deepcopy(shown(about))}},
        })  # fmt: skip

    def book(self, *, type: str, gross: int, fee: int, details: Json, field: str, days: int = 0) -> Json:
        """An entry of the balance: gross signed as it moves the balance, net = gross - fee."""
        made: Json = {
            "id": f"poe_{self.chance.letters(20)}", "payout_id": "", "effective_at": self.time(), "type": type,
            "gross_amount_money": money(gross), "fee_amount_money": money(fee),
            "net_amount_money": money(gross - fee), field: details,
            "_from": self.timeline.seconds() + days * 86_400, "_net": gross - fee,
        }  # fmt: skip
        self.entries.append(made)
        return made

    def listed(
        self, call: Call, found: Sequence[Json], *, field: str, default: int = 100, most: int = 100, newest: bool = True
    ) -> Answer:  # fmt: skip
        """A page with a `cursor` while there are more; a cursor holds for its own question only."""
        limit = call.query.get("limit", str(default))
        if not limit.isdigit() or not 1 <= int(limit) <= most:
            raise refused(400, "INVALID_VALUE", f"limit must be between 1 and {most}.", field="limit")
        order = call.query.get("sort_order", "DESC" if newest else "ASC")
        if order not in ("ASC", "DESC"):
            raise refused(400, "INVALID_SORT_ORDER", "sort_order must be ASC or DESC.", field="sort_order")
        items = list(found) if order == "ASC" else list(reversed(found))
        asked = "&".join(
            f"{name}={value}" for name, value in sorted(call.query.items()) if name not in ("cursor", "limit")
        )
        base = call.target.partition("?")[0] + "?" + asked
        start = 0
        if "cursor" in call.query:
            after = self._after(call.query["cursor"], base)
            places = [place for place, one in enumerate(items) if one["id"] == after]
            if not places:
                raise refused(400, "INVALID_CURSOR", "The cursor is invalid.", field="cursor")
            start = places[0] + 1
        page = items[start : start + int(limit)]
        answer: Json = {field: [shown(one) for one in page]} if page else {}
        if start + int(limit) < len(items):
            answer["cursor"] = base64.urlsafe_b64encode(f"{page[-1]['id']} {base}".encode()).decode()
        return Answer(200, answer)

    def _after(self, cursor: str, base: str) -> str:
        try:
            id, _, asked = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        except ValueError:
            id, asked = "", ""
        if asked != base:
            raise refused(400, "INVALID_CURSOR", "The cursor is invalid.", field="cursor")
        return id


def stamp(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{instant.microsecond // 1000:03d}Z"


def money(amount: int) -> Json:
    return {"amount": amount, "currency": CURRENCY}


def amount_of(body: Json, field: str, *, required: bool = True) -> int | None:
    """Cents of a `Money` in the location's currency. Raises Refused."""
    given = body.get(field)
    if given is None and not required:
        return None
    if not isinstance(given, dict):
        raise refused(400, "MISSING_REQUIRED_PARAMETER", "Field must be set", field=field)
    amount = given.get("amount")
    if type(amount) is not int:
        raise refused(400, "EXPECTED_INTEGER", "Expected an integer value.", field=f"{field}.amount")
    if amount <= 0:
        raise refused(400, "VALUE_TOO_LOW", "`amount_money.amount` must be greater than 0.", field=f"{field}.amount")
    if given.get("currency") != CURRENCY:
        detail = f"The currency must be {CURRENCY}, as the location's."
        raise refused(400, "INVALID_VALUE", detail, field=f"{field}.currency")
    return int(amount)


def shown(one: Json) -> Json:
    return {name: value for name, value in one.items() if not name.startswith("_")}


def find(table: dict[str, Json], id: str, what: str) -> Json:
    if id not in table:
        raise refused(404, "NOT_FOUND", f"Could not find {what} with id: {id}")
    return table[id]
