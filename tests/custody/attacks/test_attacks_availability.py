"""Who only wants to be a nuisance: floods, half questions, slow ones, huge numbers, rows that can't be read, strangers.

An intruder who may ask can always make the signer refuse. But one connection, or all of them, keep nobody else waiting
for longer than a few seconds, and nothing said to it kills it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from custody import wire
from custody.approvals import mandate_map
from custody.clocks import SystemClocks
from custody.enrolment import enrol
from custody.journal import Journal
from custody.policy_file import parse
from custody.service import SignerService
from custody.signer import Desk
from tests.custody.attacks.stage import ACCOUNTS, Line, Scene
from tests.custody.samples import deployment, full_policy, token_transfer
from tests.support.signer import PROJECT, RunningSigner

pytestmark = pytest.mark.slow

BOUND_SECONDS = 8.0
"""Below a client's patience (`custody.client.ANSWER_SECONDS`)."""
CONNECTIONS = 64


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def connect(signer: RunningSigner, stack: ExitStack) -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_UNIX))
    made.connect(str(signer.socket))
    made.settimeout(30)
    return made


def served(signer: RunningSigner, scene: Scene) -> float:
    """How long an honest question takes on a new connection, in seconds."""
    began = time.monotonic()
    fresh = Line(signer)
    replace(scene, answer=fresh.answer).honest(
        token_transfer(
            subject=f"wdr_{time.time_ns()}",
            chain_id=scene.chain,
            nonce=scene.next_nonce(token_transfer().sender),
            amount=1,
            max_fee_per_gas=1,
            max_priority_fee_per_gas=0,
        )
    )
    fresh.close()
    return time.monotonic() - began


def test_one_connection_that_floods_keeps_nobody_waiting(attacked: RunningSigner, scene: Scene, stack: ExitStack):
    """A thousand questions at once, of which no answer is read."""
    flood = connect(attacked, stack)
    flood.setblocking(False)
    frames = wire.encode({"call": "status"}) * 500 + wire.encode({"call": "nonsense"}) * 500
    try:
        while frames:
            frames = frames[flood.send(frames) :]
    except BlockingIOError:
        pass  # it takes no more: that's the point
    assert served(attacked, scene) < BOUND_SECONDS


def test_all_connections_held_by_one_leave_room_for_another(attacked: RunningSigner, scene: Scene, stack: ExitStack):
    for place in range(2 * CONNECTIONS):
        held = connect(attacked, stack)
        held.sendall((b"", b"\0", b"\0\0\x10\0half")[place % 3])
    assert served(attacked, scene) < BOUND_SECONDS


class Crowded(Desk):
    """The control: who came first keeps the place."""

    def _has_room(self) -> bool:
        return len(self._open) < CONNECTIONS


@pytest.mark.parametrize("desk", [Desk, Crowded])
async def test_only_since_the_longest_silent_one_ends_there_is_room(desk: type[Desk], tmp_path: Path):
    policy, path = parse(full_policy()), tmp_path / "journal.sqlite"
    enrol(path, ACCOUNTS, policy, clocks=SystemClocks())
    with closing(Journal.open(path, SystemClocks())) as journal:
        service = SignerService(ACCOUNTS, policy, journal)
        server = await asyncio.start_unix_server(
            desk(service, frozenset({os.geteuid()})).meet, tmp_path / "s", backlog=9
        )
        held = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(CONNECTIONS)]
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(wire.encode({"call": "status"}))
        told = b""
        with suppress(ConnectionError):
            told = await reader.read(4)
        assert bool(told) == (desk is Desk)
        for _, one in (*held, (reader, writer)):
            one.close()
        server.close()


def test_all_connections_asking_for_addresses_keep_nobody_waiting(
    attacked: RunningSigner, scene: Scene, stack: ExitStack
):
    """Each costs a tenth of a second or more: those who ask together are told to ask again, and signing goes on."""
    for place in range(CONNECTIONS - 4):
        asker = connect(attacked, stack)
        asker.sendall(wire.encode({"call": "addresses", "keys": "deposit", "first": place * 60, "count": 1000}) * 3)
    assert served(attacked, scene) < BOUND_SECONDS


@pytest.mark.parametrize(
    "asked",
    [
        {"call": "rows", "first": 2**64, "count": 1},
        {"call": "rows", "first": 2**63, "count": 200},
        {"call": "rows", "first": 2**20_000, "count": 1},
        {"call": "sign", "intent": None, "highest": [2**20_000, b""]},
        {"call": "addresses", "keys": "hot", "first": 2**70, "count": 1},
        {"call": "addresses", "keys": ["hot"], "first": 0, "count": 1},
        {"call": "reserve", "keys": "hot", "count": 2**70, "highest": None},
        {"call": "freeze", "chain_id": 2**20_000, "asset": None, "serial": 0, "signatures": []},
        {"call": "lift", "chain_id": 2**20_000, "asset": None, "serial": 0, "signatures": []},
        {"call": "confirm_time", "seconds": 2**20_000, "serial": 2**20_000, "signatures": []},
    ],
    ids=lambda asked: f"{asked['call']}",
)
def test_numbers_that_no_store_holds_are_refused_at_once(asked: dict[str, Any], attacked: RunningSigner, line: Line):
    told = line.answer(wire.encode(asked)[4:])
    assert told is not None
    assert told["refused"]["code"] in (
        "malformed",
        "addresses_out_of_range",
        "role_not_held",
        "serial_differs",
        "scope_unknown",
        "approvals_missing",
    )
    assert "couldn't be judged" not in attacked.log()


def test_no_row_gets_too_long_to_be_read(scene: Scene):
    """An auditor reads rows in frames: one that fits into none would hide what comes after it."""
    asked = scene.make(token_transfer, amount=1)
    stuffed: dict[str, Any] = {**mandate_map(scene.mandate(asked, maker="user", approvers=()))}
    for size in (1025, 60_000, 64_900):
        scene.theft("intent_invalid", asked, stuffed | {"made_by": ["user", "ed25519", bytes(size)]})
    scene.theft("maker_unproven", asked, stuffed | {"made_by": ["user", "ed25519", bytes(64)]})
    scene.theft("intent_invalid", asked, claims={"account": "a" * 201, "asset": "x", "amount": "1", "key_hash": None})
    scene.theft("intent_invalid", asked, claims={"account": "a", "asset": "x", "amount": "٣", "key_hash": None})
    widest = {"account": "\U0001f4b0" * 200, "asset": "\U0001f4b0" * 200, "amount": "9" * 200, "key_hash": bytes(32)}
    scene.honest(asked, stuffed, claims=widest)
    scene.theft("contract_unknown", scene.make(deployment, code=bytes(49_152)))
    first, highest = 1, scene.rows("SELECT max(sequence) FROM rows")[0][0]
    while first <= highest:
        told = scene.ask({"call": "rows", "first": first, "count": 200})
        assert told is not None
        assert "ok" in told, f"row {first} can't be read: {told}"
        first += len(told["ok"]["rows"])


STATUS = wire.encode({"call": "status"})
FRAMES = {
    "nothing": b"",
    "a length of zero": b"\0\0\0\0",
    "a length alone": b"\0\0\1\0",
    "a frame cut short": STATUS[:-1],
    "a length one too long": b"\0\0\0" + bytes([STATUS[3] + 1]) + STATUS[4:],
    "a length one too short": b"\0\0\0" + bytes([STATUS[3] - 1]) + STATUS[4:],
    "64 KiB and a byte": (2**16 + 1).to_bytes(4, "big") + bytes(2**16 + 1),
    "4 GiB": b"\xff\xff\xff\xff" + bytes(1000),
    "NaN": b"\0\0\0\x09\xa2an\xf9\x7e\x00av\x01",
    "nested deeply": (60_000).to_bytes(4, "big") + b"\x81" * 60_000,
    "an array for a map": b"\0\0\0\x02\x81\x01",
    "undefined": b"\0\0\0\x01\xf7",
    "a text that isn't UTF-8": b"\0\0\0\x03\x62\xff\xfe",
    "bytes that never come": b"\0\0\0\x09\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
    "a negative bignum": b"\0\0\0\x05\xa1av\xc3\x40",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", FRAMES)
def test_what_is_no_frame_gets_no_signature_and_harms_nobody(
    name: str, attacked: RunningSigner, scene: Scene, stack: ExitStack
):
    before = scene.rows("SELECT count(*) FROM rows WHERE kind = 'signed'")
    talker = connect(attacked, stack)
    talker.sendall(FRAMES[name])
    talker.shutdown(socket.SHUT_WR)
    told = b""
    while piece := talker.recv(65536):
        told += piece
    assert not told or "refused" in wire.decode(told[4 : 4 + int.from_bytes(told[:4], "big")])
    assert scene.rows("SELECT count(*) FROM rows WHERE kind = 'signed'") == before
    assert attacked.child.poll() is None
    assert scene.status()["halted"] is False


def test_another_user_of_the_machine_gets_no_answer(attacked: RunningSigner):
    """The folder keeps them out; with the folder open, the peer's uid does."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    code = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
        "try: s.connect(sys.argv[1]); s.sendall(b'\\0\\0\\0\\x01\\xa0'); print(len(s.recv(100)))\n"
        "except OSError as problem: print(type(problem).__name__)"
    )
    run = attacked.socket.parent
    place = os.open(run, os.O_PATH | os.O_DIRECTORY)
    try:
        for mode, expected in ((0o700, {"PermissionError"}), (0o777, {"0", "ConnectionResetError", "BrokenPipeError"})):
            run.chmod(mode)
            attacked.socket.chmod(0o600 if mode == 0o700 else 0o777)
            told = subprocess.run(
                [sys.executable, "-c", code, f"/proc/self/fd/{place}/{attacked.socket.name}"],
                cwd=PROJECT,
                pass_fds=[place],
                capture_output=True,
                text=True,
                check=True,
            )
            assert told.stdout.strip() in expected
    finally:
        os.close(place)
        run.chmod(0o700)
        attacked.socket.chmod(0o600)
    assert "uid 65534 tried to connect" in attacked.log()
    assert Line(attacked).answer(wire.encode({"call": "status"})[4:]) is not None, "the twin: ourselves"
