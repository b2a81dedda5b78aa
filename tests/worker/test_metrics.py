"""What the worker tells Prometheus is what the installation's own answers tell, and no scrape waits for it."""

import asyncio
import re
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql

from base.children import listen
from base.clock import SystemClock
from base.errors import Unavailable
from custody.derivation import Role
from db.engine import tx
from tests.support.chain import start_local_chain
from tests.support.signer import generous_policy, start_signer
from tests.support.whole_house import whole_house
from wiring.measures import QUEUES, build_measures
from worker import metrics
from worker.gauges import SETTLING
from worker.metrics import InstallationCollector, serving

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs" / "operations"
OWN = {"python_info", "process_"}
ALWAYS = timedelta(0)


@pytest.fixture
def chain(tmp_path):
    with start_local_chain(tmp_path) as running:
        yield running


@contextmanager
def scraped(measures, *, every: timedelta = ALWAYS, scrape_seconds: float = 8.0):
    """A scrape of a real server over these measures: a function that gives values by name and labels."""
    listener = listen("127.0.0.1", 19464)
    url = "http://{}:{}/metrics".format(*listener.getsockname())
    collector = InstallationCollector(measures, every=every, clock=SystemClock(), scrape_seconds=scrape_seconds)

    async def scrape() -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await client.get(url)
        assert answer.status_code == 200
        families = text_string_to_metric_families(answer.text)
        return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}

    with serving(listener, collector):
        yield scrape


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def test_every_figure_of_the_positions_is_a_gauge_and_what_waits_or_differs_shows(chain, database, tmp_path):
    signer = start_signer(tmp_path / "signer", generous_policy(chain.chain_id, chain.token("USDC").lower()))
    usdc = {"hot_floor": "40", "hot_target": "60"}
    try:
        async with whole_house(chain, database, tmp_path, signer=signer, usdc=usdc) as house:
            hot = "0x" + signer.address(Role.HOT).hex()
            await house.work()
            chain.faucet(hot, 10**18)
            chain.transfer("USDC", hot, 10_000_000)
            chain.transfer("USDC", await house.address(house.alice), 25_500_000)
            await house.work(blocks=5)
            body = {"asset": "USDC", "network": "local", "address": "0x" + "7e" * 20, "amount": "20"}
            assert (await house.alice.post("/v1/withdrawals", body)).status_code == 201
            await house.work()  # it waits: ten lie at the hot address
            with scraped(build_measures(house.parts)) as scrape:
                before = await scrape()
                async with tx(database.engine(owner=True)) as connection:
                    await connection.execute(
                        text(
                            "UPDATE ledger_accounts SET debits_posted = debits_posted + 1"
                            " WHERE owner = 'house' AND purpose = 'custody:local:hot' AND asset = 'USDC'"
                        )
                    )
                await house.services.reconciler.run()
                after = await scrape()

            told = (await house.treasurer.get("/v1/treasury/positions?reference=USD")).json()
            (usdc_told,) = [one for one in told["items"] if one["asset"] == "USDC"]
            for figure in ("owed", "in_transit", "receivable", "unassigned", "stock", "equity"):
                assert of(before, "onebook_position", asset="USDC", figure=figure) == float(usdc_told[figure])
            assert of(before, "onebook_position", asset="USDC", figure="owed") == 25.5
            assert of(before, "onebook_position", asset="USDC", figure="held") == 35.5
            assert of(before, "onebook_custody", asset="USDC", network="local", role="deposit") == 25.5
            assert of(before, "onebook_hot", asset="USDC", network="local") == 10
            assert of(before, "onebook_hot_share_ratio", asset="USDC", network="local") == 10 / 35.5
            assert of(before, "onebook_hot_floor", asset="USDC", network="local") == 40
            assert of(before, "onebook_hot_target", asset="USDC", network="local") == 60
            assert of(before, "onebook_gas_coins", asset="ETH", network="local") == 1
            assert of(before, "onebook_coverage_ratio", asset="USDC") == 35.5 / 25.5
            assert (of(before, "onebook_balanced", asset="USDC"), of(after, "onebook_balanced", asset="USDC")) == (1, 0)
            assert of(before, "onebook_covered", asset="USDC") == 1
            assert of(before, "onebook_queue_items", queue="withdrawals", place="local", state="approved") == 1
            assert of(before, "onebook_queue_oldest_seconds", queue="withdrawals", place="local", state="approved") > 0
            assert of(before, "onebook_settlement_lag_seconds", place="local") > 0
            assert of(before, "onebook_queue_items", queue="payouts", place="", state="") == 0
            assert of(before, "onebook_follower_lag_blocks", network="local") == 0
            assert of(before, "onebook_chain_height", network="local") == chain.height()
            assert of(before, "onebook_chain_halted", network="local") == 0
            assert of(before, "onebook_breaks", kind="counter_drift", explained="false") == 0
            assert of(after, "onebook_breaks", kind="counter_drift", explained="false") == 1
            assert of(after, "onebook_break_oldest_seconds", kind="counter_drift") > 0
            assert of(after, "onebook_reconcile_judged", place="local") == 1
            assert of(after, "onebook_unsealed_commands") > 0
            assert of(after, "onebook_unsealed_seconds") > 0
            names = {name for name, _ in after if not name.startswith(tuple(OWN))}
            assert names <= documented()
    finally:
        signer.stop()


def documented() -> set[str]:
    """The metrics of the page about them, with what Prometheus adds to a counter's or histogram's name."""
    told = set(re.findall(r"^\| `(onebook_\w+)", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    assert told
    return (
        told
        | {name + more for name in told for more in ("_bucket", "_sum", "_count", "_created", "_total")}
        | {name.removesuffix("_total") + "_created" for name in told}
    )


class Slow:
    """Measures that wait to be let go; `asked` is how often they were."""

    def __init__(self, measured=None) -> None:
        self.go = asyncio.Event()
        self.asked = 0
        self._measured = measured

    async def read(self):
        self.asked += 1
        await self.go.wait()
        if self._measured is None:
            raise Unavailable("the database went away", code="database_away")
        return self._measured


async def test_nothing_is_measured_before_a_scrape_and_scrapes_close_together_share_one(database, tmp_path, chain):
    async with whole_house(chain, database, tmp_path) as house:
        slow = Slow(await build_measures(house.parts).read())
        slow.go.set()
        with scraped(slow, every=timedelta(hours=1)) as scrape:
            assert slow.asked == 0
            for _ in range(3):
                assert of(await scrape(), "onebook_balanced", asset="USDC") == 1
            assert slow.asked == 1


async def test_a_measurement_that_takes_long_holds_no_scrape_up_and_is_told_by_a_later_one(database, tmp_path, chain):
    async with whole_house(chain, database, tmp_path) as house:
        slow = Slow(await build_measures(house.parts).read())
        with scraped(slow, scrape_seconds=0.2) as scrape:
            began = time.monotonic()
            assert ("onebook_balanced", frozenset({("asset", "USDC")})) not in await scrape()
            await scrape()
            assert slow.asked == 1  # the second one waited for the same
            assert time.monotonic() - began < 10
            slow.go.set()
            assert of(await scrape(), "onebook_balanced", asset="USDC") == 1


async def test_a_measurement_that_fails_is_counted_and_old_figures_are_told_no_more(
    database, tmp_path, chain, monkeypatch
):
    async with whole_house(chain, database, tmp_path) as house:
        measures = Slow(await build_measures(house.parts).read())
        measures.go.set()
        key = ("onebook_measure_failures_total", frozenset({("code", "database_away")}))
        with scraped(measures) as scrape:
            first = await scrape()
            assert of(first, "onebook_balanced", asset="USDC") == 1
            measures._measured = None
            second = await scrape()
            assert second[key] == first.get(key, 0) + 1
            assert of(second, "onebook_balanced", asset="USDC") == 1  # of a moment ago still
            assert of(second, "onebook_measured_timestamp_seconds") == of(first, "onebook_measured_timestamp_seconds")
            monkeypatch.setattr(metrics, "STALE_AFTER", timedelta(0))
            assert ("onebook_balanced", frozenset({("asset", "USDC")})) not in await scrape()


def test_each_queue_has_a_name_of_its_own_and_is_explained():
    names = [queue.name for queue in QUEUES]
    assert len(names) == len(set(names))
    assert set(names) >= SETTLING
    page = (DOCS / "metrics.md").read_text()
    table = page.partition("| queue |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(names)


async def test_each_queue_is_counted_by_an_index_however_long_its_table_is(database):
    async with tx(database.engine()) as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        for queue in QUEUES:
            query = select(func.count(), func.min(queue.since)).where(queue.book == "main", queue.waits)
            explained = text(
                f"EXPLAIN {query.compile(dialect=postgresql.dialect(), compile_kwargs={'literal_binds': True})}"
            )
            plan = "\n".join((await connection.execute(explained)).scalars())
            assert "Seq Scan" not in plan, f"{queue.name}: {plan}"
            assert re.search(r"using \w*ix_|using \w*uq_|on \w*ix_|on \w*uq_", plan), f"{queue.name}: {plan}"
