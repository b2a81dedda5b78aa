"""Payment providers over HTTP: top-ups as users ask for them, webhooks as providers send them."""

import asyncio
import json
import logging
from datetime import timedelta

import pytest
import structlog
from sqlalchemy import text

from base.errors import ConfigError
from db.engine import tx
from fiat.rails.errors import EffectUnknown
from fiat.rails.sandbox import SIGNATURE_HEADER, Sandbox
from fiat.rails.sandbox_record import Event
from tests.api.conftest import Caller, Stage, settings_for
from wiring.rails import build_rails

SECRET = "an-api-tests-sandbox"
PATH = "/v1/rails/sandbox/webhooks"
ORDER = {"rail": "sandbox", "asset": "EUR", "amount": "100.00", "method": "tok_visa"}


@pytest.fixture
def settings(tmp_path):
    return settings_for(tmp_path, environment="test", rails={"sandbox": {"webhook_secret": SECRET}})


async def _events(stage: Stage) -> list[Event]:
    delivery = stage.services.rails.delivery
    assert delivery is not None
    async with delivery._record.session() as session:
        return await session.unsent(limit=100)


def _sandbox(stage: Stage) -> Sandbox:
    rail = stage.services.rails.rails.get("sandbox")
    assert isinstance(rail, Sandbox)
    return rail


async def _send(stage: Stage, event: Event, **headers: str):
    signed = _sandbox(stage).sign(event.body)
    return await stage.api.post(PATH, content=signed.body, headers=dict(signed.headers) | headers)


async def test_a_top_up_is_made_read_refunded_and_listed(stage: Stage):
    made = await stage.alice.post("/v1/top-ups", ORDER, key="one")
    assert (made.status_code, made.json()["state"], made.json()["captured"]) == (201, "final", "100.00")
    again = await stage.alice.post("/v1/top-ups", ORDER, key="one")
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (made.json()["id"], "true")
    assert (await stage.alice.post("/v1/top-ups", ORDER | {"amount": "1.00"}, key="one")).status_code == 422
    path = f"/v1/top-ups/{made.json()['id']}"
    assert (await stage.bob.get(path)).status_code == 404
    refund = await stage.alice.post(f"{path}/refunds", {"amount": "40.00"})
    assert (refund.status_code, refund.json()["state"]) == (201, "final")
    too_much = await stage.alice.post(f"{path}/refunds", {"amount": "60.01"})
    assert (too_much.status_code, too_much.json()["code"], too_much.json()["available"]) == (
        409,
        "not_refundable",
        "60.00",
    )
    assert (await stage.alice.get(f"{path}/refunds")).json()["items"] == [refund.json()]
    assert (await stage.alice.get("/v1/top-ups")).json()["items"][0]["refunded"] == "40.00"
    assert (await stage.alice.get("/v1/balances/EUR")).json()["available"] == "60.00"
    receipt = (await stage.alice.get(f"/v1/receipts/{made.json()['id']}")).json()
    waited, paid = receipt["lines"]
    assert (waited["status"], waited["evidence"]) == ("held", None)
    assert (paid["status"], paid["evidence"]["kind"]) == ("posted", "rail")


async def test_what_is_authorised_is_captured_or_cancelled(stage: Stage):
    held = (await stage.alice.post("/v1/top-ups", ORDER | {"capturing": "manual"})).json()
    assert held["state"] == "authorised"
    above = await stage.alice.post(f"/v1/top-ups/{held['id']}/capture", {"amount": "100.01"})
    assert above.json()["code"] == "above_authorised"
    done = (await stage.alice.post(f"/v1/top-ups/{held['id']}/capture", {"amount": "30.00"})).json()
    assert (done["state"], done["captured"]) == ("final", "30.00")
    late = await stage.alice.post(f"/v1/top-ups/{held['id']}/cancel")
    assert (late.status_code, late.json()["code"]) == (409, "top_up_not_in_state")
    other = (await stage.alice.post("/v1/top-ups", ORDER | {"capturing": "manual"})).json()
    assert (await stage.alice.post(f"/v1/top-ups/{other['id']}/cancel")).json()["state"] == "cancelled"


async def test_a_method_is_saved_used_and_forgotten(stage: Stage):
    saved = (await stage.alice.post("/v1/payment-methods", {"rail": "sandbox", "token": "tok_visa"})).json()
    assert (saved["brand"], saved["last4"]) == ("visa", "4242")
    assert (await stage.alice.post("/v1/top-ups", ORDER | {"method": saved["id"]})).json()["state"] == "final"
    assert (await stage.bob.post("/v1/top-ups", ORDER | {"method": saved["id"]})).status_code == 404
    assert (await stage.alice.get("/v1/payment-methods")).json()["items"] == [saved]
    assert (await stage.alice.post(f"/v1/payment-methods/{saved['id']}/forget")).status_code == 200
    assert (await stage.alice.get("/v1/payment-methods")).json()["items"] == []
    declined = await stage.alice.post("/v1/payment-methods", {"rail": "sandbox", "token": "tok_declined"})
    assert (declined.status_code, declined.json()["reason_code"]) == (402, "generic_decline")


async def test_f70_a_webhook_twice_at_once_and_again_has_one_effect(stage: Stage, clock):
    rails = stage.services.rails
    made = (await stage.alice.post("/v1/top-ups", ORDER | {"method": "tok_delayed"})).json()
    assert made["state"] == "processing"
    clock.advance(timedelta(seconds=61))
    assert rails.acts is not None
    await rails.acts.tick()
    events = (await _events(stage))[::-1]  # the newest first
    answers = await asyncio.gather(*(_send(stage, event) for event in events * 3))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(not answer.json()["known"] for answer in answers) == len(events)
    assert await rails.effects.step() == len(events)
    assert (await stage.alice.get(f"/v1/top-ups/{made['id']}")).json()["state"] == "final"
    for event in events:
        assert (await _send(stage, event)).json()["known"]
    assert await rails.effects.step() == 0
    assert (await stage.alice.get("/v1/balances/EUR")).json()["balance"] == "100.00"
    kept = (await stage.treasurer.get("/v1/treasury/webhooks")).json()["items"]
    assert {one["state"] for one in kept} == {"done"}
    assert len(kept) == len(events)


async def test_f70_a_webhook_before_the_calls_answer_finds_its_top_up_by_our_id(stage: Stage, database):
    """The provider has charged and told of it; our row doesn't know the payment's name yet."""
    made = (await stage.alice.post("/v1/top-ups", ORDER | {"method": "tok_delayed"})).json()
    (event,) = await _events(stage)
    engine = database.engine()
    async with tx(engine) as connection:
        await connection.execute(text("UPDATE fiat_top_ups SET state = 'submitted', source = NULL"))
    assert event.reference == made["id"]
    await _send(stage, event)
    await stage.services.rails.effects.step()
    now = (await stage.alice.get(f"/v1/top-ups/{made['id']}")).json()
    assert (now["state"], now["source"]) == ("processing", made["source"])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda body, signed: (body, {}), "unsigned"),
        (lambda body, signed: (body.replace(b"evt", b"evx"), {SIGNATURE_HEADER: signed}), "wrong_signature"),
        (lambda body, signed: (body, {SIGNATURE_HEADER: signed[:-1] + "x"}), "wrong_signature"),
        (lambda body, signed: (body, {SIGNATURE_HEADER: "t=1,v1=" + signed.partition("v1=")[2]}), "wrong_signature"),
        (lambda body, signed: (body, {SIGNATURE_HEADER: "nonsense"}), "wrong_signature"),
    ],
)
async def test_f70_a_webhook_that_isnt_the_providers_is_refused_and_leaves_nothing(stage: Stage, spoil, reason):
    await stage.alice.post("/v1/top-ups", ORDER)
    (event,) = await _events(stage)
    signed = _sandbox(stage).sign(event.body)
    body, headers = spoil(signed.body, signed.headers[SIGNATURE_HEADER])
    refused = await stage.api.post(PATH, content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"], refused.json()["reason"]) == (400, "webhook_refused", reason)
    assert (await stage.treasurer.get("/v1/treasury/webhooks")).json()["items"] == []


@pytest.mark.parametrize(("moved", "reason"), [(301, "too_old"), (-301, "too_new")])
async def test_f70_a_webhook_from_another_time_is_refused(stage: Stage, clock, moved, reason):
    await stage.alice.post("/v1/top-ups", ORDER)
    (event,) = await _events(stage)
    clock.advance(timedelta(hours=1))
    signed = _sandbox(stage).sign(event.body)
    clock.advance(timedelta(seconds=moved))
    refused = await stage.api.post(PATH, content=signed.body, headers=dict(signed.headers))
    assert (refused.status_code, refused.json()["reason"]) == (400, reason)


async def test_a_webhook_that_is_too_large_or_for_no_rail_is_refused(stage: Stage):
    assert (await stage.api.post(PATH, content=b"x" * 300_000)).json()["code"] == "body_too_large"
    assert (await stage.api.post("/v1/rails/none/webhooks", content=b"{}")).json()["code"] == "unknown_rail"


async def test_what_has_no_effect_for_long_waits_for_a_person_who_has_it_tried_again(stage: Stage, clock, database):
    rails = stage.services.rails
    made = (await stage.alice.post("/v1/top-ups", ORDER | {"method": "tok_disputed"})).json()
    for event in await _events(stage):
        if event.object_kind == "dispute":
            await _send(stage, event)
    engine = database.engine()
    async with tx(engine) as connection:  # nobody here knows the payment
        await connection.execute(text("UPDATE fiat_top_ups SET source = 'other', capture_source = NULL"))
    for _ in range(12):
        await rails.effects.step()
        clock.advance(timedelta(hours=2))
    (dead,) = (await stage.treasurer.get("/v1/treasury/webhooks", state="dead")).json()["items"]
    assert (dead["attempts"], dead["code"]) == (12, "rail_effect_unknown")
    assert await rails.effects.step() == 0
    async with tx(engine) as connection:
        put = text("UPDATE fiat_top_ups SET source = :source")
        await connection.execute(put, {"source": made["source"]})
    assert (await stage.treasurer.post(f"/v1/treasury/webhooks/{dead['id']}/retry")).json()["state"] == "waiting"
    assert await rails.effects.step() == 1
    (dispute,) = (await stage.treasurer.get("/v1/treasury/disputes", state="open")).json()["items"]
    assert (dispute["top_up"], dispute["withdrawn"]) == (made["id"], "100.00")
    again = await stage.treasurer.post(f"/v1/treasury/webhooks/{dead['id']}/retry")
    assert (again.status_code, again.json()["code"]) == (409, "webhook_done")


async def test_the_treasury_sees_a_settlement_and_what_is_in_it(stage: Stage):
    rails = stage.services.rails
    await stage.alice.post("/v1/top-ups", ORDER)
    assert rails.acts is not None
    await rails.acts.settle("EUR")
    await rails.settlements.step()
    (settlement,) = (await stage.treasurer.get("/v1/treasury/settlements")).json()["items"]
    assert (settlement["amount"], settlement["entries"], settlement["differences"]) == ("98.35", 1, 0)
    detail = (await stage.treasurer.get(f"/v1/treasury/settlements/{settlement['id']}")).json()
    assert (detail["entries"][0]["gross"], detail["entries"][0]["fee"]) == ("100.00", "1.65")
    assert (await stage.alice.get("/v1/treasury/settlements")).status_code == 403


async def test_the_treasury_accepts_what_does_not_fit_in_a_settlement_and_its_alert_ends(stage: Stage):
    rails = stage.services.rails
    await stage.alice.post("/v1/top-ups", ORDER)
    assert rails.acts is not None
    async with rails.acts._record.session() as session:
        (paid,) = await session.all("payment")
        await session.add("payment", paid | {"reference": None})
    await rails.acts.settle("EUR")
    await rails.settlements.step()
    (alert,) = (await stage.treasurer.get("/v1/treasury/alerts")).json()["items"]
    assert alert["code"] == "settlement_differs"
    path = f"/v1/treasury/settlements/{alert['subject']}/acceptances"
    assert (await stage.treasurer.post(path, {"reason": " "})).json()["code"] == "reason_missing"
    assert (await stage.alice.post(path, {"reason": "mine"})).status_code == 403
    done = (await stage.treasurer.post(path, {"reason": "our other shop's"})).json()
    assert (done["accepted_reason"], done["differences"]) == ("our other shop's", 1)
    assert (await stage.treasurer.get("/v1/treasury/alerts")).json()["items"] == []


def test_the_sandbox_is_refused_in_a_book_with_real_value(tmp_path, clock, entropy):
    settings = settings_for(tmp_path, rails={"sandbox": {"webhook_secret": SECRET}})

    class Nowhere:
        book = "main"

    with pytest.raises(ConfigError, match="only in a test book") as refused:
        build_rails(settings, None, Nowhere(), clock=clock, entropy=entropy)  # type: ignore[arg-type]
    assert refused.value.code == "sandbox_in_live_book"


async def test_a_secret_and_a_body_are_in_no_answer_no_log_and_no_row(stage: Stage, database, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logged:
        made = await stage.alice.post("/v1/top-ups", ORDER)
        (event,) = await _events(stage)
        signed = _sandbox(stage).sign(event.body | {"payer": "Ada Lovelace"})
        assert (await stage.api.post(PATH, content=signed.body, headers=dict(signed.headers))).status_code == 200
        wrong = await stage.api.post(PATH, content=signed.body, headers={SIGNATURE_HEADER: "t=1,v1=00"})
        await stage.services.rails.effects.step()
    rows = []
    async with tx(database.engine(owner=True)) as connection:
        tables = (
            await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        ).scalars()
        for table in tables.all():
            found = await connection.execute(text(f'SELECT row_to_json(t)::text FROM "{table}" AS t'))
            rows += list(found.scalars())
    said = [made.text, wrong.text, json.dumps(logged, default=str), caplog.text, *capsys.readouterr(), *rows]
    for hidden in (SECRET, "Ada Lovelace"):
        assert not [place for place in said if hidden in place]
    assert any(event.id in row for row in rows)  # the tables were looked at


def test_a_secret_is_hidden_wherever_settings_are_shown(tmp_path):
    settings = settings_for(tmp_path, environment="test", rails={"sandbox": {"webhook_secret": SECRET}})
    shown = repr(settings) + str(settings) + json.dumps(settings.model_dump(mode="json"))
    assert "webhook_secret" in shown
    assert SECRET not in shown


async def test_two_treasurers_with_keys_of_their_own_end_a_refund_in_doubt(stage: Stage, monkeypatch):
    made = (await stage.alice.post("/v1/top-ups", ORDER)).json()

    async def lost(*_: object) -> None:
        raise EffectUnknown("the answer was lost")

    monkeypatch.setattr(_sandbox(stage), "refund", lost)
    refund = (await stage.alice.post(f"/v1/top-ups/{made['id']}/refunds", {"amount": "40.00"})).json()
    assert refund["state"] == "unknown"
    told = {"outcome": "failed", "evidence": "no such refund", "reason": "its pages show none"}
    path = f"/v1/treasury/refunds/{refund['id']}"
    assert (await stage.alice.post(f"{path}/endings", told)).status_code == 403
    assert (await stage.treasurer.post(f"{path}/endings", told | {"reason": " "})).json()["code"] == "reason_missing"
    (listed,) = (await stage.treasurer.get("/v1/treasury/refunds?state=unknown")).json()["items"]
    assert (listed["id"], listed["ending"]) == (refund["id"], None)
    for _ in range(2):
        waiting = (await stage.treasurer.post(f"{path}/endings", told)).json()
        assert (waiting["state"], waiting["ending"]["agreed_by"]) == ("unknown", None)
    key = await stage.services.identity.create_key(label="another treasurer", scopes=["treasury"])
    done = await Caller(stage.api, key.secret).post(f"{path}/endings", told)
    assert (done.status_code, done.json()["state"], done.json()["code"]) == (200, "failed", "treasury")
    assert done.json()["ending"]["agreed_by"] == key.key.id
    assert (await stage.treasurer.get(path)).json() == done.json()
    late = await stage.treasurer.post(f"{path}/endings", told | {"outcome": "succeeded"})
    assert (late.status_code, late.json()["code"]) == (409, "refund_not_in_doubt")
    assert (await stage.alice.get("/v1/balances/EUR")).json()["available"] == "100.00"
