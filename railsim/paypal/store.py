"""PayPal's tables, times, amounts and events: what its handlers share."""

import copy
from collections.abc import Callable
from datetime import datetime, timedelta

from railsim.calls import Json
from railsim.money import Terms, as_text, from_text
from railsim.paypal.errors import missing, refused
from railsim.provider import World
from railsim.switches import Event, Switch


class Store:
    """All objects by id, oldest first. What begins with `_` in an object is the simulator's own and never shown."""

    name = "paypal"

    def __init__(self, world: World, terms: Terms, url: Callable[[], str]) -> None:
        self.world, self.terms = world, terms
        self.timeline, self.chance = world.timeline, world.chance
        self._url = url
        self.orders: dict[str, Json] = {}
        self.captures: dict[str, Json] = {}
        self.authorizations: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.batches: dict[str, Json] = {}
        self.items: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.events: dict[str, Json] = {}
        self.merchant = self.chance.payer_id()

    def new(self, count: int = 17) -> str:
        return self.chance.capitals(count)

    def time(self, *, seconds: int = 0) -> str:
        return stamp(self.timeline.now() + timedelta(seconds=seconds))

    def link(self, path: str, rel: str, method: str = "GET") -> Json:
        return {"href": f"{self._url()}{path}", "rel": rel, "method": method}

    def planned(self, event: Event) -> Switch | None:
        return self.world.switches.take(event, self.name, "", "")

    def tell(self, type: str, resource_type: str, about: Json, summary: str, *, version: str = "2.0") -> None:
        """An event with the object as it is now, and its webhook."""
        id = f"WH-{self.new(17)}-{self.new(17)}"
        event: Json = {
            "id": id, "event_version": "1.0", "create_time": self.time(), "resource_type": resource_type,
            "resource_version": version, "event_type": type, "summary": summary,
            "resource": copy.deepcopy(shown(about)),
            "links": [
                self.link(f"/v1/notifications/webhooks-events/{id}", "self"),
                self.link(f"/v1/notifications/webhooks-events/{id}/resend", "resend", "POST"),
            ],
        }  # fmt: skip
        self.events[id] = event
        self.world.courier.post(self.name, id, type, event)


def stamp(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"


def money(amount: int, currency: str) -> Json:
    return {"currency_code": currency, "value": as_text(amount, currency)}


def shown(one: Json) -> Json:
    """An object without what is the simulator's own."""
    return {name: value for name, value in one.items() if not name.startswith("_")}


def find(table: dict[str, Json], id: str) -> Json:
    if id not in table:
        raise missing(id)
    return table[id]


def amount_of(given: object, field: str) -> tuple[int, str]:
    """Smallest units and currency of a `money` object. Raises Refused."""
    if not isinstance(given, dict) or not isinstance(given.get("value"), str):
        raise refused(400, "MISSING_REQUIRED_PARAMETER", field=f"{field}/value")
    currency, text = given.get("currency_code"), given["value"]
    if not isinstance(currency, str) or len(currency) != 3:
        raise refused(400, "INVALID_PARAMETER_SYNTAX", field=f"{field}/currency_code")
    amount = from_text(text, currency)
    if amount is None:
        issue = "DECIMAL_PRECISION" if text.replace(".", "", 1).isdigit() else "CANNOT_BE_ZERO_OR_NEGATIVE"
        raise refused(422, issue, field=f"{field}/value", value=text)
    if amount == 0:
        raise refused(422, "CANNOT_BE_ZERO_OR_NEGATIVE", field=f"{field}/value", value=text)
    return amount, currency
