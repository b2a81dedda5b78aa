"""`/v1/treasury/approvals`: what is asked, who signs it and when, and that the stored signatures satisfy the signer."""

import asyncio
import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.routes.approvals import about_view
from base.clock import ManualClock
from custody.approval_requests import ApprovalRequest, request_to_json, signature_to_json
from custody.approvals import Mandate, approval_statement, maker_statement, proven, sign_statement
from custody.intents import First
from custody.policy_file import parse
from tests.api.conftest import USDC, Stage
from tests.custody.samples import COLD, PEOPLE, deployment, full_policy, full_policy_fingerprint, token_transfer
from wiring.settings import Settings

PAYMENT = token_transfer(subject="mov_1", to=COLD, amount=12_500)
END = datetime(2026, 1, 2, tzinfo=UTC)
SAID = Mandate(
    maker="cleo",
    not_after=int(END.timestamp()),
    fee_wei_max=10**16,
    policy_version=1,
    policy_fingerprint=full_policy_fingerprint(),
)


@pytest.fixture(autouse=True)
def policy(settings: Settings) -> Path:
    path = settings.path(settings.policy)
    path.write_text(full_policy())
    return path


def asked(intent: First = PAYMENT, mandate: Mandate = SAID, *, made_by: str | None = "cleo") -> dict[str, Any]:
    if made_by is not None:
        made = sign_statement(made_by, PEOPLE[made_by], maker_statement(intent, mandate))
        mandate = replace(mandate, made_by=made)
    return request_to_json(ApprovalRequest(intent, mandate))


def signed(statement: bytes, name: str) -> dict[str, object]:
    return signature_to_json(sign_statement(name, PEOPLE[name], statement))


async def ask(stage: Stage, body: dict[str, Any] | None = None) -> dict[str, Any]:
    made = await stage.treasurer.post("/v1/treasury/approvals", asked() if body is None else body)
    assert made.status_code == 201, made.text
    return dict(made.json())


async def approve(stage: Stage, request: dict[str, Any], name: str, **changes: object) -> httpx.Response:
    body = signed(base64.b64decode(request["statement"]), name) | changes
    return await stage.treasurer.post(f"/v1/treasury/approvals/{request['id']}/signatures", body)


UNKNOWN = "0x" + "12" * 20
ABOUT = [
    # the intent's terms beside chain, subject and recipient                               asset   amount
    ({"kind": "token_transfer", "contract": USDC, "amount": "1500000"},                    "USDC", "1.50"),
    ({"kind": "native_transfer", "amount": "1500000000000000000"},                         "ETH",  "1.50"),
    ({"kind": "token_transfer", "contract": UNKNOWN, "amount": "5"},                       None,   None),
]  # fmt: skip


async def test_a_request_says_what_it_is_about_and_who_is_missing(stage: Stage, clock: ManualClock):
    assets, registry = await stage.services.ledger.assets(), stage.services.chains.registry
    for terms, asset, amount in ABOUT:
        told = about_view({"chain_id": "31337", "subject": "mov_1", **terms}, registry, assets)
        assert (told["kind"], told["network"], told["asset"], told["amount"]) == (terms["kind"], "local", asset, amount)
    other = about_view({"chain_id": "5", "subject": "wdr_1", **ABOUT[0][0]}, registry, assets)
    assert (other["kind"], other["network"], other["asset"]) == ("withdrawal", "chain 5", None)
    request = await ask(stage)
    assert (request["missing"], request["could_sign"]) == (2, ["ada", "ben"])
    clock.advance(timedelta(minutes=5))
    one = (await approve(stage, request, "ada")).json()
    assert (one["missing"], one["could_sign"], one["age_seconds"]) == (1, ["ben"], 300)
    two = (await approve(stage, request, "ben")).json()
    assert (two["missing"], two["could_sign"]) == (0, [])


async def test_a_request_is_signed_and_its_mandate_satisfies_the_policy(stage: Stage):
    request = await ask(stage)
    assert base64.b64decode(request["statement"]) == approval_statement(PAYMENT, SAID)
    assert (request["state"], request["needed"], request["approvals"]) == ("open", 2, [])
    one = await approve(stage, request, "ada")
    assert (one.status_code, one.json()["state"]) == (200, "open")
    two = (await approve(stage, request, "ben")).json()
    assert (two["state"], [row["by"] for row in two["approvals"]]) == ("approved", ["ada", "ben"])
    assert (await stage.treasurer.get(f"/v1/treasury/approvals/{request['id']}")).json() == two

    mandate = (await stage.services.approvals.get(request["id"])).mandate
    people = parse(full_policy()).people
    assert proven(approval_statement(PAYMENT, mandate), mandate.approvals, people) == frozenset({"ada", "ben"})
    assert mandate.made_by is not None
    assert proven(maker_statement(PAYMENT, mandate), [mandate.made_by], people) == frozenset({"cleo"})


async def test_a_repeat_makes_no_second_request_and_another_body_is_a_conflict(stage: Stage):
    first, again = [await stage.treasurer.post("/v1/treasury/approvals", asked(), key="k") for _ in range(2)]
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    other = await stage.treasurer.post("/v1/treasury/approvals", asked(replace(PAYMENT, amount=1)), key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert other.json()["first"] == first.json()["id"]
    both = [stage.treasurer.post("/v1/treasury/approvals", asked(), key="at-once") for _ in range(4)]
    assert len({answer.json()["id"] for answer in await asyncio.gather(*both)}) == 1
    bare = await stage.treasurer.post("/v1/treasury/approvals", asked(), key=None)
    assert bare.json()["code"] == "idempotency_key_missing"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (asked(made_by=None), "made_by"),
        (asked(made_by="ben"), "made_by"),
        (asked(replace(PAYMENT, amount=9)) | {"terms": asked()["terms"]}, "made_by"),
        (asked(mandate=replace(SAID, policy_version=2)), "policy_version"),
        (asked(mandate=replace(SAID, policy_fingerprint=bytes(32))), "policy_fingerprint"),
        (asked(mandate=replace(SAID, not_after=int(END.timestamp()) - 10**6)), "not_after"),
        (asked() | {"terms": asked()["terms"] | {"amount": 5}}, "made_by"),
        (asked() | {"terms": asked()["terms"] | {"amount": "x"}}, "amount"),
        (asked() | {"terms": asked()["terms"] | {"nonce": "0"}}, "terms"),
        (asked() | {"terms": {"kind": "cancel"}}, "kind"),
    ],
)
async def test_what_the_signer_would_not_take_is_refused_at_once(stage: Stage, body: dict[str, Any], param: str):
    refused = await stage.treasurer.post("/v1/treasury/approvals", body)
    assert (refused.status_code, refused.json()["code"], refused.json()["param"]) == (422, "approval_unfit", param)
    assert (await stage.treasurer.get("/v1/treasury/approvals")).json()["items"] == []


@pytest.mark.parametrize("terms", [{"amount": 1.5}, {"kind": 1}, {"x": [[[[1]]]]}, {}])
async def test_terms_of_any_shape_are_a_refusal_never_a_failure(stage: Stage, terms: dict[str, Any]):
    refused = await stage.treasurer.post("/v1/treasury/approvals", asked() | {"terms": terms})
    assert 400 <= refused.status_code < 500, refused.text


async def test_a_users_withdrawal_has_a_claimed_maker_and_code_fits_into_a_request(stage: Stage):
    withdrawal = token_transfer(subject="wdr_1", to=COLD)
    claimed = await ask(stage, asked(withdrawal, replace(SAID, maker="usr_1"), made_by=None))
    assert (claimed["maker"], claimed["made_by"]) == ("usr_1", None)
    code = deployment(code=bytes(49_152))
    request = await ask(stage, asked(code))
    assert base64.b64decode(request["statement"]) == approval_statement(code, SAID)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("cleo", {}, "approval_by_maker"),
        ("ada", {"by": "zoe"}, "approver_unknown"),
        ("ada", {"by": "ben"}, "approval_invalid"),
        ("ada", {"signature": "00" * 64}, "approval_invalid"),
        ("ada", {"signature": "00"}, "approval_invalid"),
        ("ada", {"scheme": "webauthn"}, "scheme_unknown"),
    ],
)
async def test_a_signature_that_does_not_count_is_not_stored(
    stage: Stage, name: str, changes: dict[str, object], reason: str
):
    request = await ask(stage)
    refused = await approve(stage, request, name, **changes)
    assert (refused.status_code, refused.json()["code"], refused.json()["reason"]) == (422, "signature_refused", reason)
    assert (await stage.treasurer.get(f"/v1/treasury/approvals/{request['id']}")).json()["approvals"] == []


async def test_the_same_person_counts_once_however_often_and_at_once(stage: Stage):
    request = await ask(stage)
    answers = await asyncio.gather(*(approve(stage, request, "ada") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 3
    known = (await stage.treasurer.get(f"/v1/treasury/approvals/{request['id']}")).json()
    assert (known["state"], len(known["approvals"])) == ("open", 1)
    both = await asyncio.gather(approve(stage, request, "ada"), approve(stage, request, "ben"))
    assert {answer.status_code for answer in both} == {200}
    assert (await stage.treasurer.get(f"/v1/treasury/approvals/{request['id']}")).json()["state"] == "approved"


async def test_f54_nothing_is_added_after_expiry_use_or_withdrawal(stage: Stage, clock: ManualClock):
    used, withdrawn, late = [await ask(stage) for _ in range(3)]
    for name in ("ada", "ben"):
        await approve(stage, used, name)
    consumed = await stage.services.approvals.consume(used["id"])
    assert consumed.state.value == "consumed"
    assert (await stage.services.approvals.consume(used["id"])).replayed
    path = f"/v1/treasury/approvals/{withdrawn['id']}/withdraw"
    first, again = [await stage.treasurer.post(path) for _ in range(2)]
    assert (first.json()["state"], again.headers["Idempotent-Replayed"]) == ("withdrawn", "true")
    await approve(stage, late, "ada")
    clock.advance(timedelta(days=2))
    for request, state in ((used, "consumed"), (withdrawn, "withdrawn"), (late, "expired")):
        refused = await approve(stage, request, "ben")
        assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (409, "approval_closed", state)
    gone = await stage.treasurer.post(f"/v1/treasury/approvals/{used['id']}/withdraw")
    assert gone.json()["code"] == "approval_closed"
    listed = (await stage.treasurer.get("/v1/treasury/approvals")).json()["items"]
    assert {row["id"]: row["state"] for row in listed} == {
        used["id"]: "consumed",
        withdrawn["id"]: "withdrawn",
        late["id"]: "expired",
    }


async def test_too_few_approvals_are_not_used_and_another_policy_takes_none(stage: Stage, policy: Path):
    request = await ask(stage)
    await approve(stage, request, "ada")
    with pytest.raises(Exception, match="2 approvals are needed"):
        await stage.services.approvals.consume(request["id"])
    for another in (full_policy(version=2), full_policy().replace('"2500"', '"2501"')):
        policy.write_text(another)
        refused = await approve(stage, request, "ben")
        assert (refused.status_code, refused.json()["state"]) == (409, "policy_changed")
    policy.unlink()
    unknown = await approve(stage, request, "ben")
    assert (unknown.status_code, unknown.json()["code"]) == (503, "approvals_unavailable")


async def test_lists_go_on_from_page_to_page_and_only_the_treasury_sees_them(stage: Stage):
    made = [(await ask(stage))["id"] for _ in range(3)]
    first = (await stage.treasurer.get("/v1/treasury/approvals", limit=2)).json()
    assert (len(first["items"]), first["has_more"]) == (2, True)
    rest = await stage.treasurer.get("/v1/treasury/approvals", starting_after=first["items"][-1]["id"])
    assert {row["id"] for row in first["items"] + rest.json()["items"]} == set(made)
    assert (await stage.alice.get("/v1/treasury/approvals")).status_code == 403
    assert (await stage.alice.post("/v1/treasury/approvals", asked())).status_code == 403
    unknown = await stage.treasurer.get("/v1/treasury/approvals/apr_x")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_approval")
