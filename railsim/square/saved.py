"""Square's customers and cards on file, and the sandbox's payment sources."""

from dataclasses import dataclass

from railsim.calls import Answer, Call, Json, Operation
from railsim.square.store import Store, find, refused, shown


@dataclass(frozen=True, slots=True)
class Source:
    """A sandbox nonce (developer.squareup.com/docs/devtools/sandbox/payments): a card, or how it declines."""

    brand: str = "VISA"
    last_4: str = "5858"
    code: str | None = None
    detail: str = ""


SOURCES = {
    "cnon:card-nonce-ok": Source(),
    "cnon:card-nonce-declined": Source(code="GENERIC_DECLINE", detail="Authorization error: 'GENERIC_DECLINE'"),
    "cnon:card-nonce-rejected-cvv": Source(code="CVV_FAILURE", detail="Authorization error: 'CVV_FAILURE'"),
    "cnon:card-nonce-rejected-postalcode": Source(
        code="ADDRESS_VERIFICATION_FAILURE", detail="Authorization error: 'ADDRESS_VERIFICATION_FAILURE'"
    ),
    "cnon:card-nonce-rejected-expiration": Source(
        code="INVALID_EXPIRATION", detail="Authorization error: 'INVALID_EXPIRATION'"
    ),
    "ccof:customer-card-id-ok": Source(),
    "ccof:customer-card-id-declined": Source(code="GENERIC_DECLINE", detail="Authorization error: 'GENERIC_DECLINE'"),
}
ALREADY_USED = "cnon:card-nonce-already-used"


class Saved:
    """Customers, and the cards that they leave."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def operations(self) -> list[Operation]:
        return [
            Operation("POST", "/v2/customers", self.create_customer),
            Operation("GET", "/v2/customers/{id}", self.get_customer),
            Operation("POST", "/v2/cards", self.create_card),
            Operation("GET", "/v2/cards", self.list_cards),
            Operation("GET", "/v2/cards/{id}", self.get_card),
            Operation("POST", "/v2/cards/{id}/disable", self.disable_card),
        ]

    def create_customer(self, call: Call) -> Answer:
        kept = (
            "given_name",
            "family_name",
            "company_name",
            "nickname",
            "email_address",
            "phone_number",
            "reference_id",
            "note",
        )
        named = {name: call.body[name] for name in kept if isinstance(call.body.get(name), str) and call.body[name]}
        if not set(named) & {"given_name", "family_name", "company_name", "email_address", "phone_number"}:
            detail = "One of `given_name`, `family_name`, `company_name`, `email_address`, `phone_number` is required"
            raise refused(400, "MISSING_REQUIRED_PARAMETER", detail)
        made: Json = {
            "id": self.store.chance.capitals(26), "created_at": self.store.time(), "updated_at": self.store.time(),
            **named, "preferences": {"email_unsubscribed": False}, "creation_source": "THIRD_PARTY", "version": 0,
        }  # fmt: skip
        self.store.customers[made["id"]] = made
        self.store.tell("customer.created", "customer", made)
        return Answer(200, {"customer": shown(made)})

    def get_customer(self, call: Call) -> Answer:
        return Answer(200, {"customer": shown(find(self.store.customers, call.path["id"], "customer"))})

    def source(self, id: object, field: str) -> Source:
        """What a source pays with. Raises Refused."""
        if id == ALREADY_USED:
            raise refused(400, "CARD_TOKEN_USED", "The provided card token has already been used.", field=field)
        if isinstance(id, str) and id in self.store.cards:
            card = self.store.cards[id]
            if not card["enabled"]:
                raise refused(400, "INVALID_CARD", "The card is disabled.", field=field)
            return Source(card["card_brand"], card["last_4"])
        if id not in SOURCES:
            raise refused(404, "NOT_FOUND", f"Card nonce not found: {id}", field=field)
        return SOURCES[str(id)]

    def create_card(self, call: Call) -> Answer:
        given = call.body.get("card")
        if not isinstance(given, dict):
            raise refused(400, "MISSING_REQUIRED_PARAMETER", "Field must be set", field="card")
        owner = given.get("customer_id")
        if owner is not None:
            find(self.store.customers, owner, "customer")
        payment = self.store.payments.get(str(call.body.get("source_id")))
        source = Source() if payment is not None else self.source(call.body.get("source_id"), "source_id")
        if source.code is not None:
            raise refused(400, source.code, source.detail)
        made: Json = {
            "id": f"ccof:{self.store.chance.letters(24)}", "card_brand": source.brand, "last_4": source.last_4,
            "exp_month": 12, "exp_year": 2034, "fingerprint": f"sq-1-{self.store.chance.letters(40)}",
            "merchant_id": self.store.merchant, "enabled": True, "card_type": "CREDIT", "prepaid_type": "NOT_PREPAID",
            "bin": "453275", "version": 1,
        }  # fmt: skip
        made |= {name: given[name] for name in ("customer_id", "cardholder_name", "reference_id") if name in given}
        self.store.cards[made["id"]] = made
        self.store.tell("card.created", "card", made)
        return Answer(200, {"card": made})

    def get_card(self, call: Call) -> Answer:
        return Answer(200, {"card": find(self.store.cards, call.path["id"], "card")})

    def list_cards(self, call: Call) -> Answer:
        owner, off = call.query.get("customer_id"), call.query.get("include_disabled") == "true"
        found = [
            one for one in self.store.cards.values()
            if owner in (None, one.get("customer_id")) and (off or one["enabled"])
        ]  # fmt: skip
        return self.store.listed(call, found, field="cards", default=25, newest=False)

    def disable_card(self, call: Call) -> Answer:
        card = find(self.store.cards, call.path["id"], "card")
        if card["enabled"]:
            card |= {"enabled": False, "version": card["version"] + 1}
            self.store.tell("card.disabled", "card", card)
        return Answer(200, {"card": card})
