"""Alerts stand as long as their cause does; the worker's log tells when one comes up and when it has gone."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from chain import disagreements, token_store
from chain.observations import Disagreement
from chain.status import network_status
from chain.tokens import TokenState
from db.engine import tx
from ledger.accounts import house_account
from ledger.owing import receivable_account
from tests.wallet.conftest import ALICE, USDC, fund
from tests.wallet.scripted_chain import digest
from treasury.alerts import AlertCode, Alerts, Severity
from worker.alerts import EVERY, AlertLog

pytestmark = pytest.mark.slow


@pytest.fixture
def alerts(house, clock):
    return Alerts(house.chain.engine, ledger=house.ledger, registry=house.registry, clock=clock)


async def codes(alerts) -> set[AlertCode]:
    return {alert.code for alert in await alerts.open()}


async def test_nothing_stands_while_all_is_well(house, alerts):
    await house.chain.mine_empty(5)
    assert await alerts.open() == []


async def test_a_halted_network_stays_halted_since_the_first_time(house, alerts, clock):
    await house.chain.mine_empty(8)
    await house.chain.reorg(6, halted="reorg_below_final")
    since = clock.now()
    clock.advance(timedelta(hours=1))
    await house.chain.mine_empty(3)
    await house.chain.reorg(1)
    await house.chain.reorg(2, halted="reorg_below_final")
    (alert,) = await alerts.open()
    assert (alert.code, alert.severity, alert.subject) == (AlertCode.NETWORK_HALTED, Severity.CRITICAL, "local")
    assert (alert.since, "until somebody has looked" in alert.text) == (since, True)


async def test_debts_and_quarantine_are_told_with_their_amounts(house, alerts):
    await fund(house.ledger, house_account("quarantine", "USDC"), 7_000_000, name="listed")
    debt = receivable_account(ALICE, "USDC")
    await fund(house.ledger, debt, 1, name="open")
    assert await codes(alerts) == {AlertCode.QUARANTINE_HELD}  # what is overpaid is no debt
    (alert,) = await alerts.open()
    assert (alert.severity, alert.subject, alert.since) == (Severity.WARNING, "USDC", None)
    assert alert.text.startswith("7.00 USDC of listed senders")


async def test_a_stopped_token_is_told(house, alerts, clock):
    async with tx(house.chain.engine) as connection:
        known = (await token_store.load_tokens(connection, "local", [USDC]))[USDC]
        await token_store.write_finding(
            connection,
            known,
            TokenState(code_hash=digest("other"), decimals=6),
            ["its code changed"],
            upgraded_height=None,
            height=1,
            block_hash=house.chain.hashes[0],
            now=clock.now(),
        )
    (alert,) = await alerts.open()
    assert (alert.code, alert.subject, alert.since) == (AlertCode.TOKEN_STOPPED, "USDC on local", clock.now())
    assert alert.text == "it's neither credited nor paid: its code changed"


async def test_the_log_tells_when_one_comes_up_and_when_it_has_gone_and_not_in_between(house, alerts, clock):
    log = AlertLog(alerts, clock=clock)
    told = Disagreement(7, (("1 (a)", "0xaa"), ("2 (b)", "0xbb")), stops=True)

    async def lines(expected: int) -> list[str]:
        with capture_logs() as captured:
            assert await log.step() == expected
        clock.advance(EVERY)
        return [f"{entry['log_level']} {entry['event']} {entry['code']} {entry['subject']}" for entry in captured]

    assert await lines(0) == []
    async with tx(house.chain.engine) as connection:
        await disagreements.note(connection, "local", told, now=clock.now())
    assert await lines(1) == ["critical alert nodes_disagree local"]
    async with tx(house.chain.engine) as connection:
        moved = Disagreement(8, told.told, stops=True)
        await disagreements.note(connection, "local", moved, now=clock.now())
        status = await network_status(connection, house.chain.network)
    assert status.disagreement is not None
    assert (status.halted, status.disagreement.found) == ("nodes_disagree", moved)
    assert status.halted_at == status.disagreement.first_seen_at < status.disagreement.last_seen_at
    assert await lines(0) == []
    async with tx(house.chain.engine) as connection:
        await disagreements.end(connection, "local", now=clock.now())
        assert (await network_status(connection, house.chain.network)).halted is None
    assert await lines(1) == ["info alert has ended nodes_disagree local"]
    assert await log.step() == 0
