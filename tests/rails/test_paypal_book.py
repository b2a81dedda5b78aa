"""PayPal and the book: real PostgreSQL, the provider over the wire; at the end both have the same to the cent."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import update

from base.errors import ConfigError
from db.engine import tx
from fiat.personal import KEY_NAME, NoVault, make_key_file
from fiat.rails.booking import provider_account
from fiat.rails.desk import Desk, Rails
from fiat.rails.dispute_states import DisputeState
from fiat.rails.inbox import Inbox
from fiat.rails.protocol import RawWebhook
from fiat.rails.refund_states import RefundState
from fiat.rails.top_up_states import TopUpState
from fiat.tables import top_ups
from fiat.top_ups import TopUp
from ledger.accounts import house_account, user_account
from ledger.money import Asset, AssetKind
from ledger.requests import RequestKey, request_key
from ledger.service import PostgresLedger
from railsim.money import from_text
from tests.api.conftest import settings_for
from tests.rails.conftest import Sim
from tests.rails.paypal_house import SimulatedClock, rail
from wiring.rails import RailServices, build_rails, services_of

ADA, BEN = "usr_ada", "usr_ben"
EUR = Asset("EUR", AssetKind.FIAT, 2)
MINUTE = 60


@dataclass
class House:
    sim: Sim
    ledger: PostgresLedger
    rails: RailServices
    numbers: int = 0

    def key(self) -> RequestKey:
        self.numbers += 1
        return request_key(owner=ADA, route="POST /test", key=str(self.numbers), body={"n": self.numbers})

    async def top_up(self, amount: int = 100_00, owner: str = ADA) -> TopUp:
        return await self.rails.top_ups.request(
            key=self.key(), owner=owner, rail="paypal", asset="EUR", amount=amount, return_url="https://us.example/back"
        )

    async def again(self, top_up: TopUp) -> TopUp:
        return await self.rails.top_ups.get(ADA, top_up.id)

    def approve(self, top_up: TopUp) -> None:
        self.sim.tell("/customers/acts", provider="paypal", act="approve", id=top_up.source)

    async def hear(self) -> None:
        """Every webhook that PayPal has sent, the last one first, and each of them twice; then what follows."""
        for got in [*reversed(self.sim.webhooks("paypal")), *self.sim.webhooks("paypal")]:
            await self.rails.inbox.receive("paypal", RawWebhook(body=got.body, headers=got.headers))
        await self.rails.effects.step()

    async def work(self, *, seconds: int) -> None:
        """Time passes and the worker works, without any webhook."""
        self.sim.advance(seconds=seconds)
        await self.rails.top_ups.steps.step()
        await self.rails.refunds.step()
        await self.rails.effects.look_through()

    async def balance(self, account: str) -> int:
        found = await self.ledger.account(account)
        return 0 if found is None else found.balance

    async def books_agree(self) -> None:
        """What the book says that PayPal owes us is what PayPal has for us."""
        assert -await self.balance(provider_account("paypal", "EUR")) == at_paypal(self.sim)


def at_paypal(sim: Sim) -> int:
    """The merchant's balance, by PayPal's own objects."""
    store = sim.house.paypal.store
    total: int = 0
    for capture in store.captures.values():
        if capture["status"] not in ("PENDING", "DECLINED", "FAILED"):
            total += cents(capture["seller_receivable_breakdown"]["net_amount"])
    total -= sum(one["_amount"] for one in store.refunds.values() if one["status"] == "COMPLETED")
    for dispute in store.disputes.values():
        for moved in dispute["money_movements"]:
            total += cents(moved["amount"]) * (1 if moved["type"] == "CREDIT" else -1)
    return total


def cents(told: dict[str, str]) -> int:
    found = from_text(told["value"], told["currency_code"])
    assert found is not None
    return found


@pytest.fixture
async def house(sim: Sim, database: Any, entropy: Any) -> AsyncIterator[House]:
    for table in ("orders", "captures", "refunds", "disputes"):
        getattr(sim.house.paypal.store, table).clear()
    clock, engine = SimulatedClock(sim), database.engine()
    ledger = PostgresLedger(engine, clock=clock)
    await ledger.create_book()
    await ledger.register_asset(EUR)
    paypal = rail(sim, assets={"EUR": EUR})
    desk = Desk(
        engine=engine,
        ledger=ledger,
        rails=Rails([paypal]),
        vault=NoVault("no line of a bank is read here"),
        clock=clock,
        entropy=entropy,
    )
    made = House(sim, ledger, services_of(desk, Inbox(desk)))
    yield made
    await made.rails.inbox.aclose()
    await paypal.aclose()


async def test_a_top_up_its_refund_and_its_dispute_leave_book_and_paypal_equal(house: House):
    asked = await house.top_up()
    assert (asked.state, asked.source is None) == (TopUpState.REQUIRES_ACTION, False)
    house.approve(asked)
    await house.hear()
    paid = await house.again(asked)
    assert (paid.state, paid.captured, paid.fee) == (TopUpState.FINAL, 100_00, 3_98)
    assert await house.balance(user_account(ADA, "EUR")) == 100_00
    assert await house.balance(house_account("rail-fees", "EUR")) == -3_98
    await house.hear()
    await house.books_agree()

    refund = await house.rails.refunds.request(key=house.key(), owner=ADA, top_up=asked.id, amount=30_00)
    assert refund.state is RefundState.FINAL
    await house.hear()
    assert await house.balance(user_account(ADA, "EUR")) == 70_00
    await house.books_agree()

    dispute = house.sim.tell("/disputes", provider="paypal", payment=paid.capture_source)
    await house.hear()
    assert await house.balance(user_account(ADA, "EUR")) == 0
    await house.books_agree()
    house.sim.tell(f"/disputes/{dispute['dispute_id']}", provider="paypal", won=True)
    await house.hear()
    assert await house.balance(user_account(ADA, "EUR")) == 70_00
    await house.books_agree()


async def paid(house: House, amount: int, owner: str) -> TopUp:
    asked = await house.top_up(amount, owner)
    house.approve(asked)
    await house.hear()
    return await house.rails.top_ups.get(owner, asked.id)


async def test_a_dispute_over_several_payments_is_borne_by_each_of_them(house: House):
    sim = house.sim
    first, second = await paid(house, 100_00, ADA), await paid(house, 50_00, BEN)
    stranger = await paid(house, 50_00, ADA)
    async with tx(house.rails.disputes._desk.engine) as connection:  # somebody else's: it isn't in our book
        await connection.execute(
            update(top_ups)
            .where(top_ups.c.id == stranger.id)
            .values(source="elsewhere", capture_source="elsewhere too")
        )
    store = sim.house.paypal.store
    store.captures[str(stranger.capture_source)].pop("custom_id", None)
    order = store.orders[store.captures[str(stranger.capture_source)]["_order"]]
    order["purchase_units"][0].pop("custom_id")
    before = await _of(house, ADA), await _of(house, BEN)

    told = sim.tell("/disputes", provider="paypal", payment=first.capture_source)
    made = store.disputes[told["dispute_id"]]
    (disputed,) = made["disputed_transactions"]
    for other, amount in ((second, "50.00"), (stranger, "50.00")):
        gross = {"currency_code": "EUR", "value": amount}
        made["disputed_transactions"].append(
            disputed | {"seller_transaction_id": other.capture_source, "gross_amount": gross}
        )
    whole = {"currency_code": "EUR", "value": "100.01"}
    made["dispute_amount"] = made["money_movements"][0]["amount"] = whole
    made["_amount"] = 100_01
    await house.rails.disputes.hear("paypal", told["dispute_id"])
    found = {one.top_up: one for one in await house.rails.disputes.list_all()}
    assert found.keys() == {first.id, second.id}
    taken = [found[one.id].withdrawn for one in (first, second)]
    assert (taken[0] in (50_00, 50_01), taken[1] in (25_00, 25_01)) == (True, True)
    assert (await _of(house, ADA), await _of(house, BEN)) == (before[0] - taken[0], before[1] - taken[1])

    for _ in range(2):
        await house.rails.disputes.hear("paypal", told["dispute_id"])
    assert await _of(house, BEN) == before[1] - taken[1], "looked at again, nothing is taken again"
    sim.tell(f"/disputes/{told['dispute_id']}", provider="paypal", won=True)
    await house.hear()
    assert (await _of(house, ADA), await _of(house, BEN)) == before
    assert {one.state for one in await house.rails.disputes.list_all()} == {DisputeState.WON}


async def test_a_payment_that_joins_a_dispute_later_bears_its_part_from_then_on(house: House):
    sim, store = house.sim, house.sim.house.paypal.store
    first, second = await paid(house, 100_00, ADA), await paid(house, 100_00, BEN)
    told = sim.tell("/disputes", provider="paypal", payment=first.capture_source)
    await house.hear()
    assert (await _of(house, ADA), await _of(house, BEN)) == (0, 100_00)
    made = store.disputes[told["dispute_id"]]
    (disputed,) = made["disputed_transactions"]
    made["disputed_transactions"].append(disputed | {"seller_transaction_id": second.capture_source})
    await house.rails.disputes.hear("paypal", told["dispute_id"])
    assert (await _of(house, ADA), await _of(house, BEN)) == (50_00, 50_00)
    await house.books_agree()
    made["disputed_transactions"].pop(0)
    await house.rails.disputes.hear("paypal", told["dispute_id"])
    assert (await _of(house, ADA), await _of(house, BEN)) == (100_00, 0), "and so does one that leaves it"
    await house.books_agree()


async def _of(house: House, owner: str) -> int:
    return await house.balance(user_account(owner, "EUR"))


@pytest.mark.parametrize("fault", ["error_before", "error_after", "closed_after", "rate_limited"])
@pytest.mark.parametrize("path", ["checkout/orders$", "/capture$"])
async def test_without_answers_and_webhooks_a_payer_is_charged_and_credited_once(house: House, fault: str, path: str):
    house.sim.tell("/switches", "POST", provider="paypal", kind=fault, method="POST", path=path)
    asked = await house.top_up(40_00)
    for _ in range(3):
        await house.work(seconds=2 * MINUTE)
    asked = await house.again(asked)
    assert asked.state is TopUpState.REQUIRES_ACTION
    house.approve(asked)
    for _ in range(6):
        await house.work(seconds=70 * MINUTE)
    assert (await house.again(asked)).state is TopUpState.FINAL
    assert await house.balance(user_account(ADA, "EUR")) == 40_00
    assert [one["_amount"] for one in house.sim.house.paypal.store.captures.values()] == [40_00]
    await house.books_agree()


async def failed_without_a_payment(house: House) -> TopUp:
    """A top-up of which PayPal never heard."""
    house.sim.tell("/switches", "POST", provider="paypal", kind="error_before", method="POST", path="checkout/orders$")
    asked = await house.top_up()
    await house.work(seconds=7 * 60 * MINUTE)
    asked = await house.again(asked)
    assert (asked.state, asked.source) == (TopUpState.FAILED, None)
    return asked


@pytest.mark.parametrize("payee", [None, "NMLKJHGFEDCBA"])
async def test_an_order_of_somebody_else_with_the_id_of_a_failed_top_up_is_neither_taken_nor_credited(
    house: House, payee: str | None
):
    asked = await failed_without_a_payment(house)
    outsider = rail(house.sim, assets={"EUR": EUR})
    made = await outsider.create_payment(asked.order)
    await outsider.aclose()
    if payee is not None:
        house.sim.house.paypal.store.orders[made.id]["purchase_units"][0]["payee"]["merchant_id"] = payee
    house.sim.tell("/customers/acts", provider="paypal", act="approve", id=made.id)
    await house.hear()
    now = await house.again(asked)
    assert (now.state, now.source) == (TopUpState.FAILED, None)
    assert house.sim.house.paypal.store.captures == {}
    assert await house.balance(user_account(ADA, "EUR")) == 0


async def test_a_top_up_with_a_method_that_paypal_doesn_t_take_fails_at_once_with_its_reason(house: House):
    made = await house.rails.top_ups.request(
        key=house.key(), owner=ADA, rail="paypal", asset="EUR", amount=1_00, method="tok_visa"
    )
    assert (made.state, made.code) == (TopUpState.FAILED, "rail_not_capable")
    assert "leave the payment method out" in str(made.reason)


async def test_who_never_approves_is_cancelled_after_a_day_and_pays_nothing(house: House):
    asked = await house.top_up()
    for _ in range(27):
        await house.work(seconds=60 * MINUTE)
    assert (await house.again(asked)).state is TopUpState.CANCELLED
    await house.books_agree()
    assert at_paypal(house.sim) == 0


# Settings

LIVE = {
    "client_id": "A" * 80,
    "client_secret": "E" * 80,
    "webhook_id": "9XL90610J3647323C",
    "merchant_id": "ABCDEFGHJKLMN",
}


class Nowhere:
    book = "main"


def built(tmp_path: Any, clock: Any, entropy: Any, book: str = "live", **told: Any) -> RailServices:
    if not (tmp_path / KEY_NAME).exists():
        make_key_file(tmp_path / KEY_NAME)
    settings = settings_for(tmp_path, environment=book, rails={"paypal": LIVE | told})
    assert LIVE["client_secret"] not in f"{settings!r}{settings.model_dump_json()}"
    return build_rails(settings, None, Nowhere(), clock=clock, entropy=entropy)  # type: ignore[arg-type]


def test_the_settings_name_a_paypal_account(tmp_path, clock, entropy):
    assert set(built(tmp_path, clock, entropy).rails.all) == {"paypal"}
    assert set(built(tmp_path, clock, entropy, "test", environment="sandbox").rails.all) == {"paypal"}


@pytest.mark.parametrize(
    ("book", "told", "said"),
    [
        ("live", {"environment": "sandbox"}, "credit users money that nobody paid"),
        ("live", {"base_url": "http://127.0.0.1:1"}, "credit users money that nobody paid"),
        ("test", {"base_url": "https://elsewhere.example"}, "name the certificate_hosts"),
        ("live", {"certificate_roots": "nowhere.pem"}, "can't be read"),
        ("live", {"client_id": "?"}, "copy it again"),
    ],
)
def test_settings_of_paypal_that_can_t_work_say_what_to_do(tmp_path, clock, entropy, book, told, said):
    with pytest.raises(ConfigError, match=said):
        built(tmp_path, clock, entropy, book, **told)
