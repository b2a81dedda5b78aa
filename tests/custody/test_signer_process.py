"""The real process and its real socket: what it signs, what a thief of the API gets, what kills and hangs change."""

import asyncio
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from custody import wire
from custody.client import Signed, SignerClient
from custody.derivation import Role
from custody.errors import SignerMismatch, SignerRefused, SignerUnavailable
from custody.intents import Intent, KeyRef, to_map
from tests.custody.samples import STRANGER, cancel, dearer, native_transfer, policy_text, sweep, token_transfer
from tests.support.signer import PROJECT, RunningSigner, start_signer

pytestmark = pytest.mark.slow


async def refusal(client: SignerClient, intent: Intent) -> str:
    with pytest.raises(SignerRefused) as caught:
        await client.sign(intent, highest=None)
    return caught.value.code


def speak(signer: RunningSigner, sent: bytes) -> list[dict[str, Any]]:
    """Everything that the signer answers to raw bytes, until it or we have nothing more to say."""
    answers = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(signer.socket))
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            while head := stream.read(4):
                answers.append(wire.decode(stream.read(int.from_bytes(head, "big"))))
    return answers


def refusals(signer: RunningSigner) -> int:
    with sqlite3.connect(signer.journal) as connection:
        (count,) = connection.execute("SELECT count(*) FROM rows WHERE kind = 'refused'").fetchone()
    connection.close()
    return int(count)


async def test_allowed_transfers_are_signed_by_the_right_keys(signer: RunningSigner):
    client = signer.client()
    status = await client.status()
    assert status.keys == signer.xpubs
    assert status.fingerprints == {role: key.fingerprint for role, key in signer.keys.items()}
    paid = await client.sign(token_transfer(), highest=None)
    swept = await client.sign(
        sweep(),
        highest=(paid.sequence, paid.head),
    )
    for signed, role, index in ((paid, Role.HOT, 0), (swept, Role.DEPOSIT, 3)):
        assert bytes.fromhex(Account.recover_transaction(signed.raw)[2:]) == signer.address(role, index)
    assert swept.sequence > paid.sequence
    listed = await client.addresses(Role.DEPOSIT, first=100, count=1000)
    assert listed == [signer.address(Role.DEPOSIT, index) for index in range(100, 1100)]
    await client.close()


async def test_f52_a_stolen_api_gets_nothing_that_the_policy_forbids(signer: RunningSigner):
    client = signer.client()
    paid = token_transfer()
    await client.sign(paid, highest=None)
    tries: list[tuple[Intent, str]] = [
        (token_transfer(subject="wdr_2", nonce=1, chain_id=1), "network_not_allowed"),
        (token_transfer(subject="wdr_2", nonce=1, amount=1_001), "over_transfer_limit"),
        (token_transfer(subject="wdr_2", nonce=1, contract=bytes([7]) * 20), "asset_not_listed"),
        (token_transfer(subject="wdr_2", sender=KeyRef(Role.DEPOSIT, 0)), "role_not_allowed"),
        (native_transfer(subject="wdr_2", sender=KeyRef(Role.GAS, 0)), "role_not_allowed"),
        (token_transfer(subject="wdr_2", nonce=1, gas_limit=10**9), "over_fee_cap"),
        (token_transfer(subject="wdr_2", sender=KeyRef(Role.HOT, 5)), "index_too_high"),
        (token_transfer(subject="wdr_2"), "nonce_taken"),
        (token_transfer(nonce=1, attempt=2), "second_nonce"),
        (token_transfer(nonce=1), "attempt_differs"),
        (token_transfer(to=bytes([9]) * 20), "attempt_differs"),
        (token_transfer(**dearer(paid), to=bytes([9]) * 20), "terms_differ"),
        (token_transfer(**dearer(paid), amount=501), "terms_differ"),
        (token_transfer(attempt=2), "fees_not_higher"),
        (cancel(subject="wdr_3", nonce=1), "nothing_to_cancel"),
        (token_transfer(subject="wdr_2", nonce=2), "nonce_not_next"),
    ]
    assert [await refusal(client, intent) for intent, _ in tries] == [code for _, code in tries]
    assert refusals(signer) == len(tries)
    twin = await client.sign(token_transfer(subject="wdr_2", nonce=1), highest=None)
    assert Account.recover_transaction(twin.raw), "the accepted twin of all these tries"
    await client.close()


async def test_f52_over_the_day_limit_nothing_is_signed_even_after_a_restart(signer: RunningSigner):
    client = signer.client()
    for number in range(2):
        await client.sign(token_transfer(subject=f"wdr_{number}", nonce=number, amount=1_000), highest=None)
    assert await refusal(client, token_transfer(subject="wdr_2", nonce=2, amount=501)) == "over_day_limit"
    signer.restart()
    assert await refusal(client, token_transfer(subject="wdr_2", nonce=2, amount=501)) == "over_day_limit"
    await client.sign(token_transfer(subject="wdr_2", nonce=2, amount=500), highest=None)
    await client.close()


@pytest.mark.parametrize(
    "sent",
    [
        wire.encode({"call": "sign_hash", "hash": bytes(32)}),
        wire.encode({"call": "sign", "intent": {"kind": "sign_hash", "hash": bytes(32)}, "highest": None}),
        wire.encode({"call": "sign", "intent": to_map(token_transfer()) | {"payload": b"x"}, "highest": None}),
        wire.encode({"call": "sign", "intent": to_map(token_transfer()), "highest": None, "force": True}),
        (2**20).to_bytes(4, "big") + b"x" * 1000,
        b"\xff\xff\xff\xff",
        b"GET /sign HTTP/1.1\r\nHost: signer\r\n\r\n",
        (5).to_bytes(4, "big") + b"\xbf\x61v\x01\xff",
        (60_000).to_bytes(4, "big") + b"\x81" * 60_000,
    ],
    ids=["hash", "hash intent", "extra field", "extra word", "oversized", "4 GiB", "http", "not canonical", "nested"],
)
async def test_f52_what_is_no_question_is_refused_and_journalled(signer: RunningSigner, sent: bytes):
    answers = await asyncio.to_thread(speak, signer, sent)
    assert ["refused" in answer for answer in answers] == [True]
    assert refusals(signer) == 1
    client = signer.client()
    await client.sign(token_transfer(), highest=None)
    await client.close()


async def test_half_a_frame_is_owed_no_answer_and_harms_nobody(signer: RunningSigner):
    for sent in (b"", b"\0", b"\0\0\0\x09abc"):
        assert await asyncio.to_thread(speak, signer, sent) == []
    client = signer.client()
    await client.sign(token_transfer(), highest=None)
    await client.close()


async def test_slow_connections_starve_nobody_and_are_ended(signer: RunningSigner):
    dawdlers = [await asyncio.open_unix_connection(str(signer.socket)) for _ in range(20)]
    for _, writer in dawdlers:
        writer.write(b"\0\0")
    client = signer.client(seconds=2)
    began = time.monotonic()
    await client.sign(token_transfer(), highest=None)
    assert time.monotonic() - began < 2
    async with asyncio.timeout(wire.FRAME_SECONDS + 5):
        assert {await reader.read() for reader, _ in dawdlers} == {b""}
    for _, writer in dawdlers:
        writer.close()
    await client.close()


async def test_fifty_askers_at_once_get_one_answer_per_nonce(signer: RunningSigner):
    clients = [signer.client() for _ in range(5)]
    asked = [token_transfer(subject=f"wdr_{number % 10}", amount=1) for number in range(50)]
    told = await asyncio.gather(
        *(clients[place % 5].sign(intent, highest=None) for place, intent in enumerate(asked)), return_exceptions=True
    )
    signed = {answer.raw for answer in told if isinstance(answer, Signed)}
    refused = {answer.code for answer in told if not isinstance(answer, Signed) and isinstance(answer, SignerRefused)}
    assert (len(signed), refused) == (1, {"nonce_taken"})
    assert sum(isinstance(answer, Signed) for answer in told) == 5
    for client in clients:
        await client.close()


async def test_f30_killed_after_signing_the_repeat_gets_identical_bytes(signer: RunningSigner):
    client = signer.client()
    first = await client.sign(token_transfer(), highest=None)
    signer.kill()
    signer.restart()
    again = await client.sign(token_transfer(), highest=None)
    assert again == first
    await client.close()


async def test_f30_killed_at_any_moment_no_nonce_is_signed_twice(signer: RunningSigner):
    """The question is sent, the answer not awaited, the process killed at a random moment; then everything is asked."""
    draw = random.Random(30)
    answers: dict[int, bytes] = {}
    for number in range(8):
        intent = token_transfer(subject=f"wdr_{number}", nonce=number, amount=10)
        _, writer = await asyncio.open_unix_connection(str(signer.socket))
        writer.write(wire.encode({"call": "sign", "intent": to_map(intent), "highest": None}))
        await writer.drain()
        await asyncio.sleep(draw.random() * 0.006)  # the fault: not a wait for anything
        signer.kill()
        writer.close()
        signer.restart()
        client = signer.client()
        answers[number] = (await client.sign(intent, highest=None)).raw
        assert await refusal(client, token_transfer(subject=f"oth_{number}", nonce=number, amount=10)) == "nonce_taken"
        await client.close()
    client = signer.client()
    for number, raw in answers.items():
        intent = token_transfer(subject=f"wdr_{number}", nonce=number, amount=10)
        assert (await client.sign(intent, highest=None)).raw == raw
    await client.close()


async def test_f53_signer_down_is_unavailable_at_once_and_back_by_itself(signer: RunningSigner):
    client = signer.client()
    await client.status()
    signer.kill()
    for _ in range(2):
        with pytest.raises(SignerUnavailable):
            await client.sign(token_transfer(), highest=None)
    signer.restart()
    assert (await client.sign(token_transfer(), highest=None)).raw
    await client.close()


async def test_f53_a_hung_signer_is_waited_for_only_so_long(signer: RunningSigner):
    client, patient = signer.client(seconds=0.5), signer.client()
    await client.status()
    signer.child.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    told = await asyncio.gather(
        *(client.sign(token_transfer(), highest=None) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, SignerUnavailable) for answer in told)
    assert time.monotonic() - began < 3
    signer.child.send_signal(signal.SIGCONT)
    expected = await patient.sign(token_transfer(), highest=None)
    assert await client.sign(token_transfer(), highest=None) == expected, "asked five times, signed once"
    await client.close()
    await patient.close()


async def test_f53_another_signer_at_the_socket_is_not_believed(signer: RunningSigner, tmp_path: Path):
    client = signer.client()
    await client.status()
    signer.stop()
    (tmp_path / "thief").mkdir()
    thief = start_signer(tmp_path / "thief", policy_text())
    try:
        signer.socket.symlink_to(thief.socket)
        with pytest.raises(SignerMismatch, match="isn't signed by hot:0"):
            await client.sign(token_transfer(), highest=None)
        with pytest.raises(SignerMismatch, match="other keys"):
            await client.status()
        assert issubclass(SignerMismatch, SignerUnavailable), "so the withdrawal waits"
    finally:
        thief.stop()
    signer.socket.unlink()
    signer.restart()
    assert (await client.sign(token_transfer(), highest=None)).raw
    await client.close()


async def test_f53_an_answer_to_another_attempt_is_not_believed(signer: RunningSigner, tmp_path: Path):
    true = signer.client()
    asked = token_transfer(**dearer(token_transfer()))
    others = [await true.sign(token_transfer(), highest=None), await true.sign(asked, highest=None)]
    bad_answers: list[bytes] = [
        wire.encode({"ok": {"raw": others[0].raw}, "sequence": 1, "head": bytes(32)}),
        wire.encode({"ok": {"raw": others[1].raw + b"\0"}, "sequence": 1, "head": bytes(32)}),
        wire.encode({"ok": {"raw": b""}, "sequence": 1, "head": bytes(32)}),
        wire.encode({"ok": {"raw": others[1].raw}, "sequence": 1}),
        wire.encode({"ok": {}, "sequence": 1, "head": bytes(32)}),
        wire.encode({"ok": None}),
        wire.encode({}),
        b"\0\0\0\x03abc",
        b"\xff" * 10,
        b"",
    ]

    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.read_body(reader, first_byte_seconds=5)
        writer.write(bad_answers[0])
        writer.close()

    impostor = await asyncio.start_unix_server(lie, tmp_path / "impostor.sock")
    fooled = SignerClient(tmp_path / "impostor.sock", xpubs=signer.xpubs, seconds=2)
    while bad_answers:
        with pytest.raises(SignerUnavailable):
            await fooled.sign(asked, highest=None)
        bad_answers.pop(0)
    bad_answers.append(wire.encode({"ok": {"raw": others[1].raw}, "sequence": 1, "head": bytes(32)}))
    assert (await fooled.sign(asked, highest=None)).raw == others[1].raw, "the accepted twin"
    impostor.close()
    await fooled.close()
    await true.close()


async def test_f47_a_journal_put_back_from_before_signs_nothing(signer: RunningSigner, tmp_path: Path):
    client = signer.client()
    first = await client.sign(token_transfer(), highest=None)
    signer.stop()
    shutil.copy(signer.journal, tmp_path / "backup")
    signer.restart()
    second = await client.sign(token_transfer(subject="wdr_2", nonce=1), highest=(first.sequence, first.head))
    signer.stop()
    shutil.copy(tmp_path / "backup", signer.journal)
    signer.restart()
    seen = (second.sequence, second.head)
    for code, intent, highest in (
        ("journal_behind", token_transfer(subject="wdr_3", nonce=1, to=STRANGER), seen),
        ("journal_differs", token_transfer(), seen),
        ("journal_halted", token_transfer(), None),
    ):
        with pytest.raises(SignerRefused) as caught:
            await client.sign(intent, highest=highest)
        assert caught.value.code == code
    await client.close()


def test_the_signer_process_loads_no_web_framework_database_or_node_client():
    forbidden = (
        "{'fastapi', 'starlette', 'sqlalchemy', 'asyncpg', 'web3', 'httpx', 'aiohttp', 'requests', 'eth_account'}"
    )
    code = f"import sys, custody.signer; print(sorted({forbidden} & {{name.split('.')[0] for name in sys.modules}}))"
    told = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
