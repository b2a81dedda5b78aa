"""Traces: what a collector gets of a whole installation, what it never gets, and what a dead one costs."""

import asyncio
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from base import tracing
from base.children import free_port, start_child, stop_child
from base.clock import SystemClock
from base.entropy import SystemEntropy
from base.errors import ConfigError
from ledger.accounts import house_account
from ledger.commands import Post, Posting, alone
from ledger.money import Asset, AssetKind
from ledger.service import PostgresLedger
from tests.support.collector import Collector, Seen, collector
from tests.support.installation import Installation, start_installation
from tests.support.postgres import Database
from tests.support.waiting import until
from wiring.otlp import FORGOTTEN_MAX, HELD_SPANS_MAX, SEND_SECONDS, Otlp
from wiring.settings import load_settings

ATTRIBUTES = {
    *("http.request.method", "http.route", "http.response.status_code", "error.type"),
    *("rpc.system", "rpc.method", "onebook.calls", "onebook.request_id", "onebook.problem", "onebook.step"),
    *("onebook.moved", "onebook.commit.way", "onebook.commit.commands", "onebook.commit.callers"),
    "onebook.commit.lines",
}
"""All that a span may tell."""

ASSETS = '[[assets]]\ncode = "EUR"\nkind = "fiat"\nscale = 2\n'
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MEMO = "rent of Privet Drive 4"


def trace_from_now_on(house: Installation, url: str) -> None:
    """API and worker begin anew, with traces on."""
    with house.config.open("a") as file:
        file.write(f'\n[telemetry]\notlp_endpoint = "{url}"\n')
    house.stop("api")
    house.start("api")
    until("the API is ready", lambda: answers(f"{house.supervisor.api_url}/health/ready"))
    house.supervisor.start_worker()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(300)
def test_one_trace_leads_from_a_request_to_its_commit_and_from_a_step_to_the_node(tmp_path: Path):
    with collector() as got, start_installation(tmp_path) as house:
        trace_from_now_on(house, got.url)
        quirrell, hooch = house.user("quirrell"), house.user("hooch")
        house.deposit(quirrell, 1000)
        asked = {"recipient": "@hooch", "asset": "USDC", "amount": "641.73", "memo": MEMO}
        answer = quirrell.http.post(
            "/v1/transfers", json=asked, headers={"Idempotency-Key": "vault 713", "traceparent": TRACEPARENT}
        )
        assert answer.status_code == 201, answer.text
        refused = quirrell.http.post(
            "/v1/transfers", json=asked | {"amount": "9999.99"}, headers={"Idempotency-Key": "vault 714"}
        )
        assert refused.status_code >= 400
        assert hooch.get("/v1/balances/USDC")
        assert hooch.http.get("/v1/transfers/trf_made-up?email=hooch@example.org").status_code == 404

        def requests(status: int) -> list[Seen]:
            made = got.named("POST /v1/transfers")
            return [span for span in made if span.attributes["http.response.status_code"] == status]

        [request] = until("the transfer's span is there", lambda: requests(201))
        commit = until("its commit is there", lambda: booked_below(got, request))  # others open accounts
        assert commit is not None
        assert (request.trace, request.parent) == (TRACEPARENT[3:35], TRACEPARENT[36:52])
        assert request.service == commit.service == "onebook-api"
        assert request.attributes["onebook.request_id"] == answer.headers["Request-Id"]
        assert request.attributes["http.route"] == "/v1/transfers"
        assert commit.attributes["onebook.commit.commands"] == 1
        assert not request.failed
        [refusal] = until("the refusal's span is there", lambda: requests(refused.status_code))
        assert (refusal.attributes["onebook.problem"], refusal.failed) == (refused.json()["code"], False)
        assert until("the unknown one's", lambda: got.named("GET /v1/transfers/{transfer}"))

        until("a block was taken in", lambda: house.mined_on() and got.named("step follow:local"))
        followed = got.named("step follow:local")[0]
        assert {span.name for span in got.below(followed)} & {"node eth_getBlockByNumber", "node batch"}
        assert {span.service for span in got.below(followed)} == {"onebook-worker"}
        reserved = until("the signer was asked", lambda: got.named("signer reserve"))[0]
        assert [span.name for span in got.spans if span.id == reserved.parent] == ["step address-pool"]
        # a deposit takes several steps: not each of them books something
        until("the deposit is booked", lambda: any(booked_below(got, step) for step in got.named("step deposits")))
        steps = [span for span in list(got.spans) if span.name.startswith("step ")]
        assert [span for span in steps if not span.attributes.get("onebook.moved") and not span.failed] == []
        assert {span.parent for span in steps} == {""}
        known = {span.id for span in got.spans} | {TRACEPARENT[36:52], ""}
        worked = {span.trace for span in steps}
        assert [span for span in got.spans if span.trace in worked and span.parent not in known] == []
        only_what_may_be_told(got, house, quirrell.id, hooch.id, answer.json()["id"])


def booked_below(got: Collector, request: Seen) -> Seen | None:
    """The commit below a request that booked something."""
    commits = [span for span in got.below(request) if span.name == "ledger commit"]
    return next((span for span in commits if int(span.attributes["onebook.commit.lines"])), None)


def only_what_may_be_told(got: Collector, house: Installation, *more: str) -> None:
    """Nothing of anybody is in any byte that was sent, nor a secret, nor what isn't on the list."""
    sent = b"".join(got.bodies).lower()
    keys = [client.headers["Authorization"].removeprefix("Bearer ") for client in house.callers]
    address = house.hot.removeprefix("0x")
    database = house.settings.database_url
    assert database is not None
    url = database.get_secret_value()
    password = url.split("//")[1].split("@")[0].split(":")[1]
    for word in (MEMO, "privet", "quirrell", "hooch", "vault", "641.73", "64173", "9999", address, url, password):
        assert word.lower().encode() not in sent, word
    for word in (*keys, *more, house.chain.url, str(house.config)):
        assert word.lower().encode() not in sent, word
    assert not re.search(rb"0x[0-9a-f]{8}", sent)
    assert {name for span in got.spans for name in span.attributes} <= ATTRIBUTES
    assert [span.words for span in got.spans if span.words] == []
    assert {name for sender in got.resources for name in sender} == {
        *("service.name", "service.version", "service.instance.id")
    }
    assert not any(span.name.partition(" ")[2].startswith(("/health", "/metrics")) for span in got.spans)


# A collector that's away


@contextmanager
def silent_collector(kind: str) -> Iterator[str]:
    """An address where nobody listens, or one where connections are taken and nothing is ever said."""
    if kind == "closed":
        yield f"http://127.0.0.1:{free_port()}"
        return
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def api_process(folder: Path, telemetry: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An API in a new interpreter, without a database: it lives all the same."""
    port = free_port()
    (folder / "onebook.toml").write_text(f"api_port = {port}\n{telemetry}\n{ASSETS}")
    told = {"ONEBOOK_CONFIG": str(folder / "onebook.toml"), "ONEBOOK_DATABASE_URL": "postgresql://a:b@127.0.0.1:9/c"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONEBOOK_")}
    log = folder / "api.log"
    process = start_child([sys.executable, "-m", "api.serve"], log=log, env=kept | told | environment)
    url = f"http://127.0.0.1:{port}"
    try:
        until("the API lives", lambda: answers(f"{url}/health/live"), seconds=60)
        yield process, url
    finally:
        stop_child(process)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_collector_that_is_away_holds_up_no_request_and_no_end(tmp_path: Path, kind: str):
    with (
        silent_collector(kind) as nowhere,
        api_process(tmp_path, f'telemetry = {{ otlp_endpoint = "{nowhere}" }}') as (process, url),
        httpx.Client(base_url=url, trust_env=False, timeout=SEND_SECONDS) as http,
    ):
        for _ in range(600):  # more than one batch
            assert http.get("/openapi.json").status_code == 200
        deadline = time.monotonic() + 2 * SEND_SECONDS
        while time.monotonic() < deadline and "traces" not in (tmp_path / "api.log").read_text():
            assert http.get("/v1/me").status_code == 401
        assert '"event": "traces"' in (tmp_path / "api.log").read_text()
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(timeout=6 * SEND_SECONDS)
        assert time.monotonic() - began < 3 * SEND_SECONDS
        assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_without_an_endpoint_nothing_of_the_sdk_is_loaded(tmp_path: Path):
    loaded = {}
    for name, telemetry in (("off", ""), ("on", 'telemetry = { otlp_endpoint = "http://127.0.0.1:9" }')):
        folder = tmp_path / name
        folder.mkdir()
        with api_process(folder, telemetry, PYTHONPROFILEIMPORTTIME="1") as (process, url):
            assert answers(f"{url}/health/live")
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        lines = (folder / "api.log").read_text().splitlines()
        modules = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
        assert "api.serve" in modules or "api.app" in modules
        loaded[name] = {
            *(module for module in modules if module.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))),
            *(module for module in modules if module.partition(".")[0] in ("google", "requests")),
            *(found for found in ("google/_upb",) if found in maps),
        }
    assert loaded["off"] == set()
    assert {"opentelemetry.sdk.trace", "requests", "google/_upb"} <= loaded["on"]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('otlp_endpoint = "127.0.0.1:4318"', "an address such as http://127.0.0.1:4318"),
        ('otlp_endpoint = "http://user:secret@collector:4318"', "without a user"),
        ('otlp_endpoint = "http://collector:4318?key=secret"', "without a user, a query"),
        ('otlp_endpoint = "http://collector:4318/v1/traces"', "without /v1/traces"),
        ("sample_ratio = 1.5", "less than or equal to 1"),
        ("sample_ratio = -0.1", "greater than or equal to 0"),
        ('service_name = "One Book"', "should match pattern"),
        ('endpoint = "http://collector:4318"', "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_their_place(tmp_path: Path, told: str, said: str):
    path = tmp_path / "onebook.toml"
    path.write_text(f"{ASSETS}[telemetry]\n{told}\n")
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        load_settings(path)
    assert f"telemetry.{told.split()[0]}" in refused.value.message
    assert "secret" not in refused.value.message


# The recorder by itself


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """This very process's spans, as a collector gets them."""
    with recording(1.0, monkeypatch) as got:
        yield got


@contextmanager
def recording(ratio: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as got:
        otlp = Otlp(endpoint=got.url, service="test", version="0", ratio=ratio)
        monkeypatch.setattr(tracing, "active", otlp)
        try:
            yield got
        finally:
            otlp.close()


def active() -> tracing.Tracing:
    assert tracing.active is not None
    return tracing.active


def test_a_commit_for_many_is_below_the_first_of_them_and_linked_to_the_others(database: Database, recorded: Collector):
    numbers = itertools.count()

    async def ask(ledger: PostgresLedger) -> None:
        with active().span(f"caller {next(numbers)}", tracing.Kind.SERVER, {}):
            posting = Posting(house_account("capital", "EUR"), house_account("cash", "EUR"), "EUR", 5)
            await ledger.submit(alone(Post(id=f"test:{next(numbers)}", postings=(posting,))))

    async def many() -> None:
        engine = database.engine()
        ledger = PostgresLedger(engine, clock=SystemClock(), entropy=SystemEntropy())
        await ledger.create_book()
        await ledger.register_asset(Asset("EUR", AssetKind.FIAT, 2))
        await ledger.ensure_open(house_account("capital", "EUR"), house_account("cash", "EUR"))
        await asyncio.gather(*(ask(ledger) for _ in range(8)))
        await ledger.aclose()

    asyncio.run(many())
    until("all callers are there", lambda: len([s for s in recorded.spans if s.name.startswith("caller")]) == 8)
    commits = until("their commits are there", lambda: recorded.named("ledger commit"))
    callers = {span.id for span in recorded.spans if span.name.startswith("caller")}
    told = [span for commit in commits for span in (commit.parent, *commit.links)]
    assert sorted(told) == sorted(callers)
    assert sum(int(commit.attributes["onebook.commit.commands"]) for commit in commits) == 8
    assert any(commit.links for commit in commits)


def test_what_is_forgotten_is_not_sent_nor_what_ends_below_it_later(recorded: Collector):
    def step(*, moved: bool) -> None:
        with active().span("step", tracing.Kind.INTERNAL, {}, tentative=True) as span:
            for _ in range(HELD_SPANS_MAX + 50):
                with tracing.child("below"):
                    pass
            late.append(active().here())
            if not moved:
                span.forget()

    late: list[tracing.Place | None] = []
    step(moved=False)
    with active().span("late", tracing.Kind.INTERNAL, {}, parent=late[0]):
        pass
    step(moved=True)
    with active().span("last", tracing.Kind.INTERNAL, {}):
        pass
    until("the last is there", lambda: recorded.named("last"))
    assert len(recorded.named("step")) == 1
    assert recorded.named("late") == []
    assert len(recorded.named("below")) <= HELD_SPANS_MAX < FORGOTTEN_MAX + 1


def test_a_failure_tells_its_code_and_not_its_words(recorded: Collector):
    with pytest.raises(ConfigError), active().span("fails", tracing.Kind.INTERNAL, {}):
        raise ConfigError("the password is swordfish", code="wrong")
    [seen] = until("it's there", lambda: recorded.named("fails"))
    assert (seen.failed, seen.attributes["error.type"], seen.words) == (True, "wrong", "")
    assert b"swordfish" not in b"".join(recorded.bodies)


def test_outside_of_a_recorded_span_a_child_is_none(recorded: Collector):
    with tracing.child("alone") as span:
        assert span is tracing.SILENT
    with active().span("caller", tracing.Kind.SERVER, {}), tracing.child("within"):
        pass
    [caller] = until("the caller is there", lambda: recorded.named("caller"))
    assert [span.name for span in recorded.below(caller)] == ["within"]
    assert recorded.named("alone") == []


def test_the_ratio_decides_unless_a_caller_has(monkeypatch: pytest.MonkeyPatch):
    with recording(0.0, monkeypatch) as got:
        with active().span("ours", tracing.Kind.SERVER, {}):
            assert active().here() is None
        with active().span("asked for", tracing.Kind.SERVER, {}, traceparent=TRACEPARENT):
            pass
        with active().span("nonsense", tracing.Kind.SERVER, {}, traceparent="00-zz"):
            pass
        until("what a caller asked for is there", lambda: got.named("asked for"))
    assert {span.name for span in got.spans} == {"asked for"}
    with recording(1.0, monkeypatch) as got:
        with active().span("unwanted", tracing.Kind.SERVER, {}, traceparent=TRACEPARENT[:-1] + "0"):
            pass
        with active().span("ours", tracing.Kind.SERVER, {}, traceparent="00-zz"):
            pass
        until("ours is there", lambda: got.named("ours"))
    assert {span.name for span in got.spans} == {"ours"}
