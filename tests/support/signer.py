"""A real signer process for tests: keys of light Argon2id cost in a folder, a given policy, a fresh journal.

It is forked off a process that has imported everything (tests/support/forked.py), or started as the launcher starts it
where a test asks what the signer's own process is like.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from base.children import stop_child
from base.entropy import Entropy, SystemEntropy
from custody.ceremony import CreatedKey, PublicKey, create_keys, draw_keys, keys_of, store_keys
from custody.client import SignerClient
from custody.clocks import SystemClocks
from custody.derivation import AddressSource, Role
from custody.enrolment import enrol
from custody.keystore import Argon2Cost, PassphraseWrap
from custody.launcher import LaunchedSigner, launch_signer
from custody.policy_file import parse
from custody.policy_starter import Limits, NetworkStart, starter_policy
from tests.support.forked import Forked

PASSPHRASE = b"correct horse battery staple"
LIGHT = Argon2Cost(memory_kib=64, passes=1, lanes=1)
"""A cost that takes no time: for tests only."""

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class RunningSigner:
    """A signer's process, its files and keys."""

    folder: Path
    keys: Mapping[Role, CreatedKey]
    child: subprocess.Popen[bytes] = field(repr=False)
    afresh: bool = False

    @property
    def socket(self) -> Path:
        return self.folder / "run" / "signer.sock"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite"

    @property
    def xpubs(self) -> dict[Role, str]:
        return {role: key.xpub for role, key in self.keys.items()}

    def client(self, *, seconds: float = 10.0) -> SignerClient:
        """A new client with this signer's xpubs pinned."""
        return SignerClient(self.socket, xpubs=self.xpubs, seconds=seconds)

    def address(self, role: Role, index: int = 0) -> bytes:
        """The 20 bytes of one of the signer's addresses."""
        return AddressSource(self.keys[role].xpub).address(index)

    def rotate(self, role: Role = Role.DEPOSIT, generation: int = 2) -> PublicKey:
        """The next key of a role among its files, which no policy names yet."""
        drawn = draw_keys(SystemEntropy(), [role], generation=generation)
        store_keys(self.folder / "keys", drawn, wrap=PassphraseWrap(PASSPHRASE, LIGHT), entropy=SystemEntropy())
        return drawn[0].public()

    def log(self) -> str:
        return (self.folder / "signer.log").read_text()

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        return stop_child(self.child)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.child.kill()
        self.child.wait()

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same files."""
        self.stop()
        self.child = _launch(self.folder) if self.afresh else _fork(self.folder)


def start_signer(
    folder: Path, policy_toml: str, *, entropy: Entropy | None = None, afresh: bool = False
) -> RunningSigner:
    """New keys, journal and socket under `folder`, and a signer that listens. The caller stops it.

    `afresh`: in a new interpreter, by the launcher.
    """
    source = entropy or SystemEntropy()
    keys = create_keys(folder / "keys", passphrase=PASSPHRASE, entropy=source, cost=LIGHT)
    write_policy(folder, policy_toml)
    enrol(folder / "journal.sqlite", keys_of(keys), parse(policy_toml), clocks=SystemClocks())
    return RunningSigner(folder, keys, _launch(folder) if afresh else _fork(folder), afresh)


def write_policy(folder: Path, text: str) -> Path:
    """The policy's file, for its owner alone."""
    path = folder / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def generous_policy(
    chain_id: int,
    *contracts: str,
    hot_senders: int = 1,
    domains: Mapping[str, tuple[str, str]] | None = None,
    beside: Mapping[int, Sequence[str]] | None = None,
) -> str:
    """A policy that lets a test pay: 10**24 units at once and a hundred times that in a day, 1 ETH of gas at most.

    `domains`: of which tokens sweeps may be authorised, with their names and versions for EIP-712. `beside`: the tokens
    of other networks, by chain id.
    """
    much = Limits(per_transfer=10**24, per_day=10**26)
    networks = [
        NetworkStart(
            chain_id=number,
            tokens=dict.fromkeys(tokens, much),
            native=much,
            top_ups=much,
            fee_wei_max=10**18,
            domains=(domains or {}) if number == chain_id else {},
        )
        for number, tokens in ({chain_id: contracts} | dict(beside or {})).items()
    ]
    return starter_policy(*networks, hot_senders=hot_senders)


def _launch(folder: Path) -> subprocess.Popen[bytes]:
    launched = launch_signer(
        socket=folder / "run" / "signer.sock",
        keys=folder / "keys",
        policy=folder / "policy.toml",
        journal=folder / "journal.sqlite",
        passphrase=PASSPHRASE,
        log=folder / "signer.log",
        cwd=PROJECT,
    )
    launched.await_ready()
    return launched.child


def _fork(folder: Path) -> subprocess.Popen[bytes]:
    log = folder / "signer.log"
    log.touch()
    log_start = log.stat().st_size
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE)
    os.close(writing)
    arguments: list[str | Path] = [
        "signer",
        "--passphrase-fd",
        str(reading),
        "--socket",
        folder / "run" / "signer.sock",
    ]
    arguments += ["--keys", folder / "keys", "--policy", folder / "policy.toml", "--journal", folder / "journal.sqlite"]
    environment = {name: told for name, told in os.environ.items() if not name.startswith("ONEBOOK_")}
    try:
        with log.open("ab") as said:
            forked = Forked(
                "custody.signer:_run",
                arguments,
                cwd=PROJECT,
                env=environment,
                stdout=said,
                stderr=said,
                pass_fds=[reading],
            )
    finally:
        os.close(reading)
    child = cast("subprocess.Popen[bytes]", forked)
    LaunchedSigner(child, log, log_start).await_ready()
    return child
