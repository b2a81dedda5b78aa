"""The audit log on a real book: each row sealed, and each that was altered behind its back found and named."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from base.errors import NotFound, Unavailable
from db.engine import tx
from ledger.accounts import house_account
from tests.wallet.conftest import ALICE, fund, key
from treasury.adjustments import Adjustments
from treasury.operations.acts import Actor
from treasury.operations.audit_log import AuditLog, LogDifference

pytestmark = pytest.mark.slow

ADA = Actor("key_ada", "usr_ada")
MOVE: dict[str, Any] = {
    "treasurer": "key_ada",
    "source": "suspense",
    "target": "capital",
    "asset": "USD",
    "reason": "r",
}


@pytest.fixture
def log(house, database, clock, entropy) -> AuditLog:
    return AuditLog(database.engine(), ledger=house.ledger, clock=clock, entropy=entropy)


@pytest.fixture
async def adjustments(house, database, clock, entropy) -> Adjustments:
    await fund(house.ledger, house_account("suspense", "USD"), 100_00, name="suspense")
    return Adjustments(database.engine(), ledger=house.ledger, clock=clock, entropy=entropy)


async def test_a_booked_act_has_its_row_in_its_own_group_and_a_repeat_adds_none(house, log, adjustments):
    for _ in range(2):
        async with log.booking(log.act(ADA, "adjustment.create", reason=" r ", request="req_1"), key("a")) as noted:
            made = await adjustments.move(key=key("a"), amount=1_00, noted=noted, **MOVE)
    (row,) = await log.recent()
    assert (row.actor, row.action, row.subject, row.outcome, row.reason, row.request) == (
        ADA, "adjustment.create", made.id, "done", "r", "req_1",
    )  # fmt: skip
    record, post = await house.ledger.outcomes(f"wrk:audit-log:{key('a').id}:1", key("a").id)
    assert (record.subject, record.seq + 1) == (row.id, post.seq)
    assert await log.differences() == []


async def test_what_the_book_refuses_is_noted_with_its_code_and_books_no_row_of_its_own(house, log, adjustments):
    act = log.act(ADA, "adjustment.create", subject="suspense")
    with pytest.raises(Exception, match="holds less"):
        async with log.booking(act, key("a")) as noted:
            await adjustments.move(key=key("a"), amount=100_01, noted=noted, **MOVE)
    (row,) = await log.recent()
    assert (row.outcome, row.detail, row.subject) == ("refused", "insufficient_funds", "suspense")
    assert await log.differences() == []


ENDS = [
    # raised                       outcome    detail
    (None,                         "done",    "found"),
    (NotFound("no", code="gone"),  "refused", "gone"),
    (Unavailable("later"),         "failed",  "unavailable"),
]  # fmt: skip


@pytest.mark.parametrize(("raised", "outcome", "detail"), ENDS)
async def test_an_act_beside_the_book_is_noted_before_it_is_done_and_how_it_ended(log, clock, raised, outcome, detail):
    async def act() -> None:
        async with log.doing(log.act(ADA, "user.create")) as doing:
            assert [row.outcome for row in await log.recent()] == ["begun"]
            doing.subject, doing.detail = "usr_new", "found"
            clock.advance(timedelta(seconds=1))
            if raised is not None:
                raise raised

    if raised is None:
        await act()
    else:
        with pytest.raises(type(raised)):
            await act()
    end, begun = await log.recent()
    assert (end.act, begun.act, begun.subject) == (begun.id, begun.id, None)
    assert (end.outcome, end.detail, end.subject) == (outcome, detail, "usr_new")
    assert await log.differences() == []


async def test_what_breaks_off_for_no_known_reason_stays_begun(log):
    with pytest.raises(ZeroDivisionError):
        async with log.doing(log.act(ADA, "user.create")):
            raise ZeroDivisionError
    assert [row.outcome for row in await log.recent()] == ["begun"]


TAMPERING = {
    # what the intruder does                                                        what is found
    "UPDATE treasury_audit_log SET reason = 'another' WHERE id = :row":              "altered",
    "UPDATE treasury_audit_log SET actor_key = 'key_ben' WHERE id = :row":           "altered",
    "UPDATE treasury_audit_log SET at = at + interval '1 us' WHERE id = :row":       "altered",
    "UPDATE treasury_audit_log SET outcome = 'refused' WHERE id = :row":             "altered",
    "DELETE FROM treasury_audit_log WHERE id = :row":                                "missing",
}  # fmt: skip


async def test_each_row_that_was_altered_or_deleted_behind_its_back_is_found_and_named(database, log):
    for subject in "abcdefg":
        await log.note(log.act(ADA, "order.cancel", subject=subject))
    rows = [row.id for row in reversed(await log.recent())]
    async with tx(database.engine(admin=True)) as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        for row, statement in zip(rows, TAMPERING, strict=False):
            await connection.execute(text(statement), {"row": row})
        forged = "INSERT INTO treasury_audit_log SELECT book, 'aud_zz', act, at, actor_key, actor_user, action, subject"
        await connection.execute(
            text(f"{forged}, outcome, reason_code, reason, request, detail FROM treasury_audit_log WHERE id = :row"),
            {"row": rows[6]},
        )
    expected = [LogDifference(row, what) for row, what in zip(rows, TAMPERING.values(), strict=False)]
    assert await log.differences() == [*expected, LogDifference("aud_zz", "unsealed")]


async def test_nobody_changes_or_deletes_a_row_in_the_ordinary_way(database, log):
    await log.note(log.act(ADA, "order.cancel"))
    for statement in ("UPDATE treasury_audit_log SET reason = 'x'", "DELETE FROM treasury_audit_log"):
        with pytest.raises(Exception, match=r"rows of treasury_audit_log are never changed|lacks a privilege"):
            async with tx(database.engine()) as connection:
                await connection.execute(text(statement))


async def test_the_log_is_found_by_who_what_on_what_and_when(log, clock):
    ben = Actor("key_ben")
    for actor, action, subject in ((ADA, "freeze.set", ALICE), (ben, "freeze.set", "USD"), (ben, "freeze.lift", "USD")):
        await log.note(log.act(actor, action, subject=subject))
        clock.advance(timedelta(seconds=1))
    newest, middle, oldest = await log.recent()
    assert await log.recent(actor="key_ben") == [newest, middle]
    assert await log.recent(actor="usr_ada") == [oldest]
    assert await log.recent(action="freeze.set", subject="USD") == [middle]
    assert await log.recent(since=middle.at, until=newest.at) == [middle]
    assert await log.recent(before=middle.id) == [oldest]
    assert await log.recent(after=oldest.id, limit=1) == [middle]
