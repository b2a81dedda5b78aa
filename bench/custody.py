"""The area `custody`: deriving addresses from a public key, and signatures through the socket of a real signer process.

The signer runs as it does in an installation, policy and journal included; each of its clients has a sender of its own,
asks again as soon as it's answered, and checks each answer as the service does. Clients and signer share the machine.
"""

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psutil
from coincurve import PrivateKey

from base.children import stop_child
from base.clock import SystemClock
from base.entropy import SeededEntropy, SystemEntropy
from base.files import write_atomically
from base.ids import new_id
from base.progress import Progress
from bench.frame import Better, Figure, Options, Report, median, number, percentile
from bench.machine import describe_machine
from bench.stage import FOLDER
from bench.yardsticks.disk import fsyncs_per_s
from custody.ceremony import create_keys, keys_of
from custody.client import SignerClient
from custody.clocks import SystemClocks
from custody.derivation import MAX_INDEX, AccountKeys, AddressSource, Role
from custody.enrolment import enrol
from custody.intents import KeyRef, NativeTransfer
from custody.keystore import Argon2Cost
from custody.launcher import launch_signer
from custody.policy_file import parse
from custody.policy_starter import Limits, NetworkStart, starter_policy

CLIENTS = 16

TARGETS = {
    "xpub_addresses_per_s": 10_000.0,
    "signatures_per_s": 500.0,
    "signature_p99_ms": 20.0,
    "signer_mib": 150.0,
}
"""What figures must reach."""

CHAIN = 31_337
GWEI = 10**9
RECIPIENT = bytes.fromhex("70997970c51812dc3a010c7d01b50e0d17dc79c8")

_PASSPHRASE = b"a passphrase for a bench"
_COST = Argon2Cost(memory_kib=64, passes=1, lanes=1)
"""Opening a key file isn't measured."""

_LIMITS = Limits(per_transfer=10**24, per_day=10**27)
_DERIVED_AT_ONCE, _SIGNED_AT_ONCE = 1_000, 200
_WARM_SECONDS = 0.5
_CLOCK, _ENTROPY = SystemClock(), SystemEntropy()
_PROJECT = Path(__file__).parents[1]


async def measure(options: Options, progress: Progress) -> Report:
    """Measure the wanted rows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    bench = _Bench(options, progress)
    bench.derivation()
    bench.curve()
    await bench.signer()
    bench.disk()
    return Report(
        area="custody",
        machine=describe_machine(),
        settings={
            "run": {
                "seconds": options.seconds,
                "seed": options.seed,
                "clients": CLIENTS,
                "subjects": "ULIDs, as the service makes them",
                "quick": options.quick,
                "signatures": bench.signed,
            }
        },
        at=datetime.now(UTC),
        figures=bench.figures,
    )


class _Bench:
    """The rows, one method for each family of them."""

    def __init__(self, options: Options, progress: Progress) -> None:
        self.figures: list[Figure] = []
        self.signed = 0
        self._options = options
        self._progress = progress

    def derivation(self) -> None:
        """Addresses from an account's extended public key, one core, indexes of the whole range."""
        if not self._options.wants(name := "xpub_addresses_per_s"):
            return
        source = AddressSource(AccountKeys(Role.DEPOSIT, SeededEntropy(self._options.seed).draw(64)).xpub)
        indexes = itertools.count(self._options.seed * 7_919)

        def derive() -> None:
            for index in itertools.islice(indexes, _DERIVED_AT_ONCE):
                source.address(index * 104_729 % MAX_INDEX)

        self._tell(name, self._options.rate(derive, _DERIVED_AT_ONCE), "addresses/s")

    def curve(self) -> None:
        """Yardstick: signatures of libsecp256k1 alone, one core. No signer can be faster on it."""
        if not self._options.wants(name := "curve_signatures_per_s"):
            return
        key, digest = PrivateKey(b"\x01" * 32), sha256(b"a hash").digest()

        def sign() -> None:
            for _ in range(_SIGNED_AT_ONCE):
                key.sign_recoverable(digest, hasher=None)

        self._tell(name, self._options.rate(sign, _SIGNED_AT_ONCE), "signatures/s")

    async def signer(self) -> None:
        """Clients that ask at once, and what the signer's process holds in memory afterwards."""
        if not self._options.wants_any("signatures_per_s", "signature_p50_ms", "signature_p99_ms", "signer_mib"):
            return
        with _signer() as running:
            async with _clients(running) as clients:
                await _ask(clients, _WARM_SECONDS)
                runs = [await _ask(clients, self._options.seconds) for _ in range(self._options.repeats)]
            memory = psutil.Process(running.pid).memory_info().rss / 2**20
        self.signed = sum(len(run.latencies_ms) for run in runs)
        self._tell("signatures_per_s", median([len(run.latencies_ms) / run.seconds for run in runs]), "signatures/s")
        for name, share in (("signature_p50_ms", 0.5), ("signature_p99_ms", 0.99)):
            value = median([percentile(run.latencies_ms, share) for run in runs])
            self._tell(name, value, "ms", Better.LOWER)
        self._tell("signer_mib", memory, "MiB", Better.LOWER)

    def disk(self) -> None:
        """Yardstick: what the journal's disk makes durable, one page after the other."""
        if self._options.wants("fsyncs_per_s"):
            runs = [fsyncs_per_s(FOLDER, min(self._options.seconds, 2)) for _ in range(self._options.repeats)]
            self._tell("fsyncs_per_s", median(runs), "flushes/s")

    def _tell(self, name: str, value: float, unit: str, better: Better = Better.HIGHER) -> None:
        self.figures.append(Figure(name, value, unit, TARGETS.get(name), better))
        self._progress.note(f"{name}: {number(value)} {unit}")


# The signer and those who ask it


@dataclass(frozen=True, slots=True)
class _Running:
    """A signer that listens, and the public keys it must answer for."""

    pid: int
    socket: Path
    xpubs: dict[Role, str]


@dataclass(slots=True)
class _Client:
    """One who asks for its own sender's transactions, one nonce after the other."""

    number: int
    signer: SignerClient
    nonce: int = 0


@dataclass(frozen=True, slots=True)
class _Run:
    """How long all clients asked, and how long each answer took."""

    seconds: float
    latencies_ms: list[float] = field(repr=False)


@contextmanager
def _signer() -> Iterator[_Running]:
    """New keys, a policy, an empty journal, and a signer over them; all of it is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="signer-", dir=FOLDER))
    try:
        keys = create_keys(folder / "keys", passphrase=_PASSPHRASE, entropy=SystemEntropy(), cost=_COST)
        policy = _policy()
        write_atomically(folder / "policy.toml", policy.encode(), mode=0o600)
        enrol(folder / "journal.sqlite", keys_of(keys), parse(policy), clocks=SystemClocks())
        launched = launch_signer(
            socket=folder / "run" / "signer.sock",
            keys=folder / "keys",
            policy=folder / "policy.toml",
            journal=folder / "journal.sqlite",
            passphrase=_PASSPHRASE,
            log=folder / "signer.log",
            cwd=_PROJECT,
        )
        try:
            launched.await_ready()
            xpubs = {role: key.xpub for role, key in keys.items()}
            yield _Running(launched.child.pid, folder / "run" / "signer.sock", xpubs)
        finally:
            stop_child(launched.child)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _policy() -> str:
    """The starter's, with a hot sender for each client."""
    text = starter_policy(NetworkStart(chain_id=CHAIN, tokens={}, native=_LIMITS, top_ups=_LIMITS, fee_wei_max=10**18))
    one_sender = "\nhot = 0\n"
    assert one_sender in text, "the starter policy names the highest index of each role"
    return text.replace(one_sender, f"\nhot = {CLIENTS - 1}\n")


@asynccontextmanager
async def _clients(running: _Running) -> AsyncIterator[list[_Client]]:
    clients = [_Client(number, SignerClient(running.socket, xpubs=running.xpubs)) for number in range(CLIENTS)]
    try:
        yield clients
    finally:
        for client in clients:
            await client.signer.close()


async def _ask(clients: list[_Client], seconds: float) -> _Run:
    """Let every client ask until the time is over. Each sends the highest row of the journal that any has seen."""
    latencies: list[float] = []
    highest: tuple[int, bytes] | None = None
    start = time.perf_counter()
    end = start + seconds

    async def ask(client: _Client) -> None:
        nonlocal highest
        while (sent := time.perf_counter()) < end:
            signed = await client.signer.sign(_transfer(client), highest=highest)
            latencies.append((time.perf_counter() - sent) * 1000)
            client.nonce += 1
            if highest is None or signed.sequence > highest[0]:
                highest = (signed.sequence, signed.head)

    await asyncio.gather(*(ask(client) for client in clients))
    return _Run(time.perf_counter() - start, latencies)


def _transfer(client: _Client) -> NativeTransfer:
    return NativeTransfer(
        subject=new_id("wdr", _CLOCK, _ENTROPY),
        attempt=1,
        chain_id=CHAIN,
        sender=KeyRef(Role.HOT, client.number),
        nonce=client.nonce,
        gas_limit=21_000,
        max_fee_per_gas=30 * GWEI,
        max_priority_fee_per_gas=2 * GWEI,
        to=RECIPIENT,
        amount=10**15,
    )
