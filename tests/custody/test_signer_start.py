"""Starting and ending the signer: one sentence and exit code 2 where it can't, no trace of secrets where it can."""

import asyncio
import os
import resource
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from base.children import stop_child
from custody import keystore
from custody.client import SignerClient
from custody.clocks import SystemClocks
from custody.derivation import Role
from custody.errors import SignerUnavailable
from custody.journal import Journal
from custody.launcher import launch_signer
from custody.passphrases import CREDENTIAL, PASSPHRASE_ENV
from custody.policy_file import parse
from custody.service import SignerService
from custody.signer import Desk
from custody.stores import FileStore
from tests.custody.samples import policy_text, token_transfer
from tests.support import forked
from tests.support.signer import PASSPHRASE, PROJECT, RunningSigner, start_signer

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh_signer(tmp_path: Path) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path, policy_text(), afresh=True)
    yield running
    running.stop()


def run(
    signer: RunningSigner, *, env: dict[str, str] | None = None, **changes: Path
) -> subprocess.CompletedProcess[str]:
    """Start a signer that is expected to end by itself; the passphrase through the environment."""
    places = {
        "socket": signer.socket,
        "keys": signer.folder / "keys",
        "policy": signer.folder / "policy.toml",
        "journal": signer.journal,
    }
    options = [text for name, path in places.items() for text in (f"--{name}", str(path))]
    base = {name: value for name, value in os.environ.items() if name != PASSPHRASE_ENV}
    return forked.run(
        "custody.signer:_run",
        ["signer", *options],
        cwd=PROJECT,
        env=base | ({PASSPHRASE_ENV: PASSPHRASE.decode()} if env is None else env),
        timeout=30,
    )


def open_to_others(signer: RunningSigner) -> None:
    (signer.folder / "keys" / "gas.key").chmod(0o644)


def without_key(signer: RunningSigner) -> None:
    (signer.folder / "keys" / "gas.key").unlink()
    (signer.folder / "keys" / "gas.key.copy").unlink()


def both_damaged(signer: RunningSigner) -> None:
    for name in ("hot.key", "hot.key.copy"):
        path = signer.folder / "keys" / name
        path.write_bytes(path.read_bytes()[:-1])


def without_journal(signer: RunningSigner) -> None:
    signer.journal.unlink()


def altered_journal(signer: RunningSigner) -> None:
    signer.journal.write_bytes(b"x" * 8192)


def without_policy(signer: RunningSigner) -> None:
    (signer.folder / "policy.toml").unlink()


def readable_policy(signer: RunningSigner) -> None:
    (signer.folder / "policy.toml").chmod(0o604)


def writable_journal(signer: RunningSigner) -> None:
    signer.journal.chmod(0o620)


def broken_policy(signer: RunningSigner) -> None:
    (signer.folder / "policy.toml").write_text("version = one")


def other_policy(signer: RunningSigner) -> None:
    (signer.folder / "policy.toml").write_text(policy_text().replace('"1000"', '"100000"'))


def open_folder(signer: RunningSigner) -> None:
    signer.socket.parent.chmod(0o755)


def file_at_socket(signer: RunningSigner) -> None:
    signer.socket.write_text("not a socket")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (open_to_others, "can be read by others"),
        (without_key, "no gas key"),
        (both_damaged, "wrong passphrase, or damaged"),
        (without_journal, "is missing"),
        (altered_journal, "isn't a journal"),
        (without_policy, "policy.toml"),
        (readable_policy, "open to others than its owner: chmod 600"),
        (writable_journal, "open to others than its owner: chmod 600"),
        (broken_policy, "isn't TOML"),
        (other_policy, "isn't the one accepted last"),
        (open_folder, "open to others"),
        (file_at_socket, "isn't a socket"),
    ],
)
def test_it_says_in_one_sentence_why_it_cannot_start(
    signer: RunningSigner, spoil: Callable[[RunningSigner], None], told: str
):
    signer.stop()
    spoil(signer)
    ended = run(signer)
    lines = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "warning" in lines[0]
    assert [line for line in lines if "warning" not in line] == lines[-1:], ended.stderr
    assert told in lines[-1]


def test_f49_wrong_passphrase_ends_it_with_the_constant_message_slowly(signer: RunningSigner):
    signer.stop()
    began = os.times().elapsed
    for _ in range(2):  # the second waits for the first
        ended = run(signer, env={PASSPHRASE_ENV: "wrong"})
    assert (ended.returncode, "wrong passphrase, or damaged" in ended.stderr) == (2, True)
    assert os.times().elapsed - began >= 1
    assert "no passphrase" in run(signer, env={}).stderr
    assert "1 to 1024 bytes" in run(signer, env={PASSPHRASE_ENV: ""}).stderr


def test_a_systemd_credential_is_taken_before_the_environment(signer: RunningSigner, tmp_path: Path):
    signer.stop()
    (tmp_path / CREDENTIAL).write_bytes(PASSPHRASE + b"\n")
    spoiled = {"CREDENTIALS_DIRECTORY": str(tmp_path), PASSPHRASE_ENV: "wrong"}
    other_policy(signer)
    ended = run(signer, env=spoiled)
    assert "accepted last" in ended.stderr, "it got past the keys"
    assert "the passphrase comes from" not in ended.stderr


def test_f50_a_damaged_key_file_is_reported_and_the_copy_serves(signer: RunningSigner):
    signer.stop()
    path = keystore.key_path(signer.folder / "keys", Role.HOT)
    path.write_bytes(path.read_bytes()[:-1])
    signer.restart()
    assert "hot.key is damaged or missing; the copy opened" in signer.log()


def test_no_secret_stands_in_arguments_environment_or_log(fresh_signer: RunningSigner):
    proc = Path(f"/proc/{fresh_signer.child.pid}")
    seen = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes() + fresh_signer.log().encode()
    assert PASSPHRASE not in seen
    assert not any(" ".join(key.words.split()[:3]) in fresh_signer.log() for key in fresh_signer.keys.values())
    assert resource.prlimit(fresh_signer.child.pid, resource.RLIMIT_CORE) == (0, 0)


def test_socket_folder_and_files_are_for_their_owner_only(signer: RunningSigner):
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert (mode(signer.socket.parent), mode(signer.socket)) == (0o700, 0o600)
    assert mode(signer.folder / "keys") == 0o700
    assert {mode(path) for path in (signer.folder / "keys").iterdir()} == {0o600}


async def test_sigterm_ends_it_cleanly_though_clients_are_connected(signer: RunningSigner):
    client = signer.client()
    await client.sign(token_transfer(), highest=None)
    assert await asyncio.to_thread(signer.stop) == 0
    assert not signer.socket.exists()
    assert "Traceback" not in signer.log()
    await client.close()


async def test_a_dead_socket_is_replaced_a_live_one_never(signer: RunningSigner):
    signer.kill()
    assert signer.socket.exists()
    signer.restart()
    ended = await asyncio.to_thread(run, signer)
    assert (ended.returncode, "stop it first" in ended.stderr) == (2, True), "its journal is taken"
    signer.stop()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(signer.socket))
        other.listen()
        ended = await asyncio.to_thread(run, signer)
    assert (ended.returncode, "another process listens" in ended.stderr) == (2, True)


def test_a_socket_too_deep_for_its_address_works_all_the_same(signer: RunningSigner):
    signer.stop()
    deep = signer.folder / ("d" * 60) / ("e" * 60)
    launched = launch_signer(
        socket=deep / "signer.sock",
        keys=signer.folder / "keys",
        policy=signer.folder / "policy.toml",
        journal=signer.journal,
        passphrase=PASSPHRASE,
        log=signer.folder / "deep.log",
        cwd=PROJECT,
    )
    try:
        launched.await_ready()
        client = SignerClient(deep / "signer.sock", xpubs=signer.xpubs)
        assert asyncio.run(client.status()).keys == signer.xpubs
    finally:
        stop_child(launched.child)


def test_a_launch_that_fails_tells_the_signers_own_sentence(signer: RunningSigner):
    signer.stop()
    without_policy(signer)
    launched = launch_signer(
        socket=signer.socket,
        keys=signer.folder / "keys",
        policy=signer.folder / "policy.toml",
        journal=signer.journal,
        passphrase=PASSPHRASE,
        log=signer.folder / "signer.log",
        cwd=PROJECT,
    )
    with pytest.raises(SignerUnavailable, match="No such file"):
        launched.await_ready()


async def test_a_user_who_is_not_allowed_is_shown_out(
    signer: RunningSigner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    signer.stop()
    journal = Journal.open(signer.journal, SystemClocks())
    store = FileStore(signer.folder / "keys", PASSPHRASE)
    keys = {role.value: store.find(role, key.fingerprint) for role, key in signer.keys.items()}
    service = SignerService(keys, parse(policy_text()), journal)
    for allowed in (frozenset({os.geteuid()}), frozenset({os.geteuid() + 1})):
        path = tmp_path / f"desk-{min(allowed)}.sock"
        server = await asyncio.start_unix_server(Desk(service, allowed).meet, path)
        client = SignerClient(path, xpubs=signer.xpubs, seconds=2)
        if os.geteuid() in allowed:
            assert (await client.status()).policy_version == 1
        else:
            with pytest.raises(SignerUnavailable):
                await client.status()
        assert ("isn't allowed" in capsys.readouterr().err) == (os.geteuid() not in allowed)
        await client.close()
        server.close()
    journal.close()
