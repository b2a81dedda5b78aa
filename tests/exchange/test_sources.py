"""Real sources: files, a feed over HTTP on this machine, price feed contracts on a local chain."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from base.clock import ManualClock
from chain.errors import PriceFeedBroken
from chain.evm.price_feed import ChainPriceFeed
from chain.evm.rpc import HttpRpc
from chain.local import NodeKind, rpc
from chain.local_prices import deploy_feed, tell_price
from exchange import sources
from exchange.errors import SourceFailed
from exchange.sources import FEED_BYTES_MAX, ChainSource, FeedPair, FileSource, HttpFeed
from tests.exchange.world import NOON
from tests.support.chain import start_local_chain
from tests.support.contracts import create
from wiring.exchange import feed_client

ETH_USD = FeedPair("ETH", "USD", "/data/amount", "/data/at")


@contextmanager
def feed(
    answers: dict[str, tuple[int, bytes]], *, hang: bool = False, packed: str | None = None
) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers these by path (or only at the end), and the headers of what it was asked."""
    asked: list[dict[str, str]] = []
    ending = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(dict(self.headers))
            if hang:
                ending.wait(30)
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            if packed is not None:
                self.send_header("Content-Encoding", packed)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        ending.set()
        server.shutdown()
        thread.join()
        server.server_close()


async def read(url: str, *pairs: FeedPair, secret: tuple[str, str] | None = None):
    async with feed_client() as client:
        return await HttpFeed("desk", url, pairs, clock=ManualClock(NOON), client=client, secret=secret).read()


@pytest.mark.parametrize(
    ("number", "rate"),
    [
        ("2500.50", Fraction(5001, 2)),
        ('"2500.50"', Fraction(5001, 2)),
        ("2.5005e3", Fraction(5001, 2)),
        ("0.1", Fraction(1, 10)),
        ("1e-18", Fraction(1, 10**18)),
        ("0.30000000000000004", Fraction(30000000000000004, 10**17)),
    ],
)
async def test_a_feeds_number_is_taken_by_its_digits(number, rate):
    with feed({"/": (200, f'{{"data": {{"amount": {number}, "at": "2026-11-30T11:59:00Z"}}}}'.encode())}) as (url, _):
        (found,) = await read(f"{url}/", ETH_USD)
    assert (found.value, found.as_of) == (rate, NOON - timedelta(minutes=1))


@pytest.mark.parametrize(
    ("at", "instant"),
    [
        ("1764503940", datetime(2025, 11, 30, 11, 59, tzinfo=UTC)),
        ("1764503940123", datetime(2025, 11, 30, 11, 59, tzinfo=UTC)),
        ('"2026-11-30T12:59:00+01:00"', datetime(2026, 11, 30, 11, 59, tzinfo=UTC)),
    ],
)
async def test_an_instant_is_iso_8601_or_a_unix_time(at, instant):
    with feed({"/": (200, f'{{"data": {{"amount": "1", "at": {at}}}}}'.encode())}) as (url, _):
        (found,) = await read(f"{url}/", ETH_USD)
    assert found.as_of == instant


async def test_pairs_of_one_address_are_asked_for_once_and_others_each_by_itself():
    pairs = [FeedPair("ETH", "USD", "/0/eth"), FeedPair("EUR", "USD", "/1/a~1b~0c")]
    body = json.dumps([{"eth": 2500}, {"a/b~c": "1.1"}]).encode()
    with feed({"/": (200, body), "/ETH-USD": (200, b'["2500"]')}) as (url, asked):
        found = await read(f"{url}/", *pairs)
        assert [(one.base, one.value, one.as_of) for one in found] == [
            ("ETH", 2500, NOON),
            ("EUR", Fraction(11, 10), NOON),
        ]
        assert len(asked) == 1
        assert (await read(f"{url}/{{base}}-{{quote}}", FeedPair("ETH", "USD", "/0")))[0].value == 2500


async def test_a_feeds_key_comes_from_the_environment(monkeypatch):
    with feed({"/": (200, b'["1"]')}) as (url, asked):
        with pytest.raises(SourceFailed, match="FEED_KEY"):
            await read(f"{url}/", FeedPair("ETH", "USD", "/0"), secret=("X-Key", "FEED_KEY"))
        monkeypatch.setenv("FEED_KEY", "sesame")
        await read(f"{url}/", FeedPair("ETH", "USD", "/0"), secret=("X-Key", "FEED_KEY"))
    assert [headers.get("X-Key") for headers in asked] == ["sesame"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b"", "status 500"),
        (302, b"", "status 302"),
        (200, b"<html>", "no JSON"),
        (200, b'{"data": {"amount": NaN, "at": 1}}', "no JSON"),
        (200, b"[" * 100_000, "nested deeper than 50"),
        (200, b"[" * 200 + b"]" * 200, "nested deeper than 50"),
        (200, b'{"data": {}}', "nothing at /data/amount"),
        (200, b'{"data": {"amount": -5, "at": 1}}', "no positive number"),
        (200, b'{"data": {"amount": true, "at": 1}}', "no positive number"),
        (200, b'{"data": {"amount": "1e999", "at": 1}}', "no positive number"),
        (200, b'{"data": {"amount": 0.0, "at": 1}}', "zero"),
        (200, b'{"data": {"amount": 1}}', "nothing at /data/at"),
        (200, b'{"data": {"amount": 1, "at": "yesterday"}}', "no instant"),
        (200, b'{"data": {"amount": 1, "at": "2026-11-30T12:00:00"}}', "no instant"),
        (200, b'{"data": {"amount": 1, "at": 1e30}}', "no instant"),
        (200, b" " * (FEED_BYTES_MAX + 1), "more than"),
    ],
)
async def test_a_feed_that_answers_nonsense_says_what(status, body, said):
    with feed({"/": (status, body)}) as (url, _), pytest.raises(SourceFailed, match=said):
        await read(f"{url}/", ETH_USD)


async def test_a_feed_that_is_away_says_so():
    async with feed_client() as client:
        source = HttpFeed("desk", "http://127.0.0.1:9/", [ETH_USD], clock=ManualClock(NOON), client=client)
        with pytest.raises(SourceFailed, match="ConnectError"):
            await source.read()


async def test_an_address_that_is_none_is_that_sources_failure():
    async with feed_client() as client:
        source = HttpFeed("desk", "https://rates.example:port/", [ETH_USD], clock=ManualClock(NOON), client=client)
        with pytest.raises(SourceFailed, match="can't be asked"):
            await source.read()


async def test_what_a_feed_packs_isnt_unpacked():
    """A thousandth of what it would come to is sent; nothing of it is read."""
    bomb = gzip.compress(b" " * 20 * FEED_BYTES_MAX + b'{"data": {"amount": 1, "at": 1}}')
    server = feed({"/": (200, bomb)}, packed="gzip")
    with server as (url, asked), pytest.raises(SourceFailed, match=r"packed \(gzip\)"):
        await read(f"{url}/", ETH_USD)
    assert asked[0]["accept-encoding"] == "identity"


async def test_a_hanging_feed_is_waited_for_only_so_long(monkeypatch):
    monkeypatch.setattr(sources, "FEED_SECONDS", 0.2)
    with feed({"/": (200, b"")}, hang=True) as (url, asked):
        with pytest.raises(SourceFailed, match="ReadTimeout"):
            await read(f"{url}/", ETH_USD)
        assert len(asked) == 1


async def test_a_file_tells_its_pairs_as_of_its_instant(tmp_path):
    path = tmp_path / "rates.toml"
    source = FileSource("file", path)
    with pytest.raises(SourceFailed, match=r"rates\.toml"):
        await source.read()
    path.write_text(
        "as_of = 2026-11-30T12:00:00Z\nmax_age_seconds = 1\nspread_basis_points = 0\n"
        'pairs = [{ base = "EUR", quote = "USD", rate = "1.1" }]\n'
    )
    (found,) = await source.read()
    assert (found.base, found.quote, found.value, found.as_of) == ("EUR", "USD", Fraction(11, 10), NOON)
    path.write_text("nonsense")
    with pytest.raises(SourceFailed):
        await source.read()


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(NodeKind))
async def test_a_price_feed_contract_tells_price_and_instant(tmp_path, kind):
    with start_local_chain(tmp_path, kind) as chain:
        address = deploy_feed(chain.url, "ETH/USD")
        node = HttpRpc(chain.url)
        source = ChainSource("chain", {("ETH", "USD"): ChainPriceFeed(node, address)})
        try:
            with pytest.raises(PriceFeedBroken, match="no answer yet"):
                await source.read()
            tell_price(chain.url, address, 2500_50000000)
            (found,) = await source.read()
            head = int(rpc(chain.url, "eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            assert (found.value, found.as_of) == (Fraction(5001, 2), datetime.fromtimestamp(head, UTC))
            tell_price(chain.url, address, 2600_00000000, at=1_700_000_000)
            (found,) = await source.read()
            assert (found.value, found.as_of) == (Fraction(2600), datetime.fromtimestamp(1_700_000_000, UTC))
            for nonsense in (0, -1):
                tell_price(chain.url, address, nonsense)
                with pytest.raises(SourceFailed, match="no price"):
                    await source.read()
            other = create(chain, "SanctionsList")
            for wrong in (other, "0x" + "11" * 20):
                with pytest.raises(PriceFeedBroken):
                    await ChainPriceFeed(node, wrong).latest()
        finally:
            await node.close()
