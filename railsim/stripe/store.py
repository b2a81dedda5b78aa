"""Stripe's tables, ids, events and balance transactions: what its handlers share."""

import copy
from collections.abc import Callable, Iterable

from railsim.calls import Answer, Call, Json
from railsim.chance import Chance
from railsim.clock import Timeline
from railsim.money import Terms
from railsim.provider import World
from railsim.stripe import objects
from railsim.stripe.forms import invalid, whole
from railsim.switches import Event, Switch

DAY = 86_400

TABLES = {
    "pi": "payment_intent", "ch": "charge", "re": "refund", "du": "dispute", "txn": "balance_transaction",
    "po": "payout", "evt": "event", "cus": "customer", "pm": "payment_method", "seti": "setup_intent",
}  # fmt: skip
"""Ids' prefixes and what they name."""

ABSENT_AT_FIRST = frozenset({"failure_balance_transaction"})
"""What can be expanded although an object doesn't have it yet."""

Keep = Callable[[Json], bool]


class Store:
    """All objects by id, oldest first."""

    name = "stripe"

    def __init__(self, world: World, terms: Terms) -> None:
        self.world = world
        self.timeline: Timeline = world.timeline
        self.chance: Chance = world.chance
        self.terms = terms
        self.tables: dict[str, dict[str, Json]] = {prefix: {} for prefix in TABLES}
        self.fates: dict[str, str] = {}
        """What a PaymentMethod's card brings later, by PaymentMethod."""
        self.cards: dict[str, str] = {}
        """Card numbers by PaymentMethod."""
        self.payout_of: dict[str, str] = {}
        """Payouts by the balance transactions inside them."""
        self.request: Json = {"id": None, "idempotency_key": None}
        """What the events of this moment were caused by."""

    def new(self, prefix: str) -> str:
        return f"{prefix}_{self.chance.letters(24)}"

    def add(self, prefix: str, made: Json) -> Json:
        self.tables[prefix][made["id"]] = made
        return made

    def get(self, prefix: str, id: str, *, param: str = "id") -> Json:
        """The object, or Stripe's `resource_missing`."""
        found = self.tables[prefix].get(id)
        if found is None:
            kind = TABLES[prefix]
            raise invalid(
                f"No such {kind}: '{id}'", param=param, code="resource_missing", status=404 if param == "id" else 400
            )
        return found

    def planned(self, event: Event) -> Switch | None:
        return self.world.switches.take(event, self.name, "", "")

    # events

    def tell(self, type: str, about: Json, previous: Json | None = None) -> None:
        """An event, with the object as it is now, and its webhook."""
        data: Json = {"object": copy.deepcopy(about)}
        if previous is not None:
            data["previous_attributes"] = previous
        event: Json = {
            "id": self.new("evt"), "object": "event", "api_version": objects.API_VERSION,
            "created": self.timeline.seconds(), "data": data, "livemode": False, "pending_webhooks": 0,
            "request": dict(self.request), "type": type,
        }  # fmt: skip
        if "stripe" in self.world.courier.endpoints:
            event["pending_webhooks"] = 1
        self.add("evt", event)
        self.world.courier.post(self.name, event["id"], type, event)

    # the balance

    def book(
        self, *, amount: int, currency: str, type: str, source: str, category: str, fee: int = 0, days: int = 0,
        fee_type: str = "stripe_fee", description: str | None = None,
    ) -> Json:  # fmt: skip
        """A balance transaction: `amount` signed as it moves the balance, `fee` what Stripe takes, net is the rest."""
        now = self.timeline.seconds()
        details = [
            {"amount": fee, "application": None, "currency": currency, "description": fee_text(type), "type": fee_type}
        ]
        return self.add("txn", {
            "id": self.new("txn"), "object": "balance_transaction", "amount": amount, "available_on": now + days * DAY,
            "balance_type": "payments", "created": now, "currency": currency, "description": description,
            "exchange_rate": None, "fee": fee, "fee_details": details if fee else [], "net": amount - fee,
            "reporting_category": category, "source": source, "status": "available" if not days else "pending",
            "type": type,
        })  # fmt: skip

    def refresh(self) -> None:
        """Make available what has become so."""
        now = self.timeline.seconds()
        for made in self.tables["txn"].values():
            if made["status"] == "pending" and made["available_on"] <= now:
                made["status"] = "available"

    # lists

    def listed(self, call: Call, found: Iterable[Json], *, url: str) -> Answer:
        """A page, newest first: `limit`, `starting_after`, `ending_before`, `created[gt|gte|lt|lte]`."""
        limit = whole(call.query, "limit", most=100) or 10
        items = [one for one in found if created_within(one, call.query.get("created"))]
        items.reverse()
        ids = [one["id"] for one in items]
        after, before = call.query.get("starting_after"), call.query.get("ending_before")
        if after is not None:
            if after not in ids:
                raise invalid(f"No such object: '{after}'", param="starting_after", code="resource_missing")
            items = items[ids.index(after) + 1 :]
        if before is not None:
            if before not in ids:
                raise invalid(f"No such object: '{before}'", param="ending_before", code="resource_missing")
            items = items[: ids.index(before)]
            page, more = items[-limit:], len(items) > limit
        else:
            page, more = items[:limit], len(items) > limit
        return Answer(200, {"object": "list", "data": page, "has_more": more, "url": url})

    def expanded(self, answer: Answer, paths: list[str]) -> Answer:
        """The answer with the named ids replaced by what they name."""
        if not isinstance(answer.body, dict) or not paths:
            return answer
        body = copy.deepcopy(answer.body)
        for path in paths:
            self._expand(body, path.split("."), path)
        return Answer(answer.status, body, answer.headers)

    def _expand(self, place: object, keys: list[str], path: str) -> None:
        if isinstance(place, list):
            for item in place:
                self._expand(item, keys, path)
            return
        if not isinstance(place, dict) or not keys:
            return
        if keys[0] not in place:
            if keys[0] in ABSENT_AT_FIRST:
                return
            raise invalid(f"This property cannot be expanded ({path}).", param="expand")
        value = place[keys[0]]
        if isinstance(value, str):
            found = self.tables.get(value.partition("_")[0], {}).get(value)
            if found is None:
                raise invalid(f"This property cannot be expanded ({path}).", param="expand")
            place[keys[0]] = value = copy.deepcopy(found)
        self._expand(value, keys[1:], path)


def fee_text(type: str) -> str:
    return "Dispute fee" if type == "adjustment" else "Stripe processing fees"


def created_within(one: Json, bounds: object) -> bool:
    """Whether an object was made within `created` as a query has it."""
    if bounds is None:
        return True
    made = int(one["created"])
    if isinstance(bounds, str):
        bounds = {"gte": bounds, "lte": bounds}
    assert isinstance(bounds, dict)
    for name, value in bounds.items():
        if not str(value).isdigit() or name not in ("gt", "gte", "lt", "lte"):
            raise invalid("Invalid created: gt, gte, lt, lte with Unix seconds.", param="created")
        limit = int(value)
        fits = {"gt": made > limit, "gte": made >= limit, "lt": made < limit, "lte": made <= limit}
        if not fits[name]:
            return False
    return True
