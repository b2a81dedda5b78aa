"""What leaves the server's socket: whole answers, each in one piece."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from api.protocol import GATHERED_BYTES_MAX, Gathered, Http

HEAD = b"GET / HTTP/1.1\r\nHost: onebook.test\r\n"
PARTS = (b"first", b"second")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with a body in two parts."""
    assert scope["type"] == "http"
    length = str(sum(map(len, PARTS))).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": PARTS[0], "more_body": True})
    await send({"type": "http.response.body", "body": PARTS[1]})


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    config = uvicorn.Config(app, port=0, http=Http, ws="none", lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    await serving


async def test_head_and_body_of_an_answer_arrive_in_one_piece(address):
    reader, writer = await asyncio.open_connection(*address)
    for _ in range(20):
        writer.write(HEAD + b"\r\n")
        async with asyncio.timeout(20):
            piece = await reader.read(65_536)
        assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
        assert piece.endswith(b"\r\n\r\n" + b"".join(PARTS))
    writer.close()


async def test_requests_sent_at_once_are_answered_in_order(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write((HEAD + b"\r\n") * 30)
    for _ in range(30):
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(len(b"".join(PARTS))) == b"".join(PARTS)
    writer.close()


async def test_the_last_answer_of_a_connection_is_whole(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(HEAD + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert answer.endswith(b"\r\n\r\n" + b"".join(PARTS))
    writer.close()


async def test_a_client_that_sends_no_more_still_gets_its_answer(address):
    for _ in range(20):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(HEAD + b"\r\n")
        writer.write_eof()
        async with asyncio.timeout(20):
            answer = await reader.read()
        assert answer.endswith(b"\r\n\r\n" + b"".join(PARTS))
        writer.close()


async def test_a_client_that_goes_away_breaks_nothing(address):
    for _ in range(20):
        _, writer = await asyncio.open_connection(*address)
        writer.write((HEAD + b"\r\n") * 5)
        writer.transport.abort()
    await test_the_last_answer_of_a_connection_is_whole(address)


class Sink(asyncio.Transport):
    """Notes what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))


async def test_a_long_answer_reaches_the_transport_before_it_is_whole():
    sink = Sink()
    gathered = Gathered(sink, asyncio.get_running_loop())
    parts = [bytes([number % 256]) * 1_000 for number in range(1_000)]
    for number, part in enumerate(parts, start=1):
        gathered.write(part)
        assert number * 1_000 - sum(map(len, sink.written)) < GATHERED_BYTES_MAX
    await asyncio.sleep(0)
    assert b"".join(sink.written) == b"".join(parts)
