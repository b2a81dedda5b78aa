"""A whole installation for tests: local chain, PostgreSQL, signer, API, made and run by the code that the demo uses.

with start_installation(tmp_path) as house:
    alice = house.user("alice")
    alice.post("/v1/withdrawals", {...}).json()

No worker runs unless it's asked for: tests about workers bring their own. All processes are real and end on leaving.
API and worker are forked off a process that has imported everything, and the database's folder is a copy of one that
was made and migrated: `onebook demo` and `onebook init` are looked at for how those begin.
"""

import asyncio
import atexit
import itertools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import httpx

from base.children import free_port, stop_child
from base.clock import SystemClock
from base.entropy import SystemEntropy
from chain.local import NodeKind
from chain.signing import OwnKey, Role
from cli.install import BankChoice, ChainChoice, install
from cli.supervisor import Supervisor
from custody.keystore import Argon2Cost
from db.server import clean
from ledger.audit import audit
from tests.support.chain import RunningChain, start_local_chain
from tests.support.forked import Forked
from tests.support.initialised import Initialised
from tests.support.waiting import until
from wiring.parts import open_parts
from wiring.preparing import first_operator_key, prepare_book
from wiring.settings import Settings, load_settings
from wiring.signing import XpubAddresses

SPENDABLE_DEPTH, FINAL_DEPTH = 1, 3
"""Blocks; few, so that tests wait for few."""

LIGHT = Argon2Cost(memory_kib=64, passes=1, lanes=1)
"""A cost that takes no time: for tests only."""

PASSPHRASE = b"correct horse battery staple"

BLOCK_SECONDS = 0.2
"""Between two blocks that are mined because somebody waits: each gives every step of the worker something to do."""

Balances = dict[str, Decimal]
"""Signed balances by account: credits less debits."""


@dataclass(slots=True)
class Caller:
    """Somebody with an API key. Every POST has an idempotency key of its own, unless one is given."""

    id: str
    http: httpx.Client = field(repr=False)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def get(self, path: str, **query: str) -> Any:
        """Read a resource."""
        response = self.http.get(path, params=query)
        assert response.is_success, response.text
        return response.json()

    def ask(self, path: str, body: Mapping[str, object] | None = None, *, key: str | None = None) -> httpx.Response:
        """POST, whatever the answer."""
        headers = {"Idempotency-Key": key or f"{self.id}-{next(self.numbers)}"}
        return self.http.post(path, json=body, headers=headers)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """POST what must be accepted."""
        response = self.ask(path, body)
        assert response.is_success, response.text
        return response.json()


class ForkingSupervisor(Supervisor):
    """The supervisor, but that it forks API and worker: a new interpreter takes seconds to import all they use."""

    def _python(
        self, name: str, module: str, *arguments: str, pass_fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        self._log(name).parent.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("ab") as log:
            child = Forked(
                f"{module}:main",
                [module, *arguments],
                cwd=Path.cwd(),
                env=self._environment(),
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )
        return cast("subprocess.Popen[bytes]", child)


@dataclass(slots=True, kw_only=True)
class Installation:
    """What runs, and the people's hands on it."""

    config: Path
    chain: RunningChain
    supervisor: Supervisor
    hot: str
    operator: Caller
    treasurer: Caller
    callers: list[httpx.Client] = field(default_factory=list, repr=False)
    mined_at: float = 0.0

    @property
    def settings(self) -> Settings:
        return self.supervisor.settings

    def user(self, handle: str) -> Caller:
        """A new user with a key of their own."""
        user = self.operator.post("/v1/users", {"handle": handle, "name": handle.title()})
        asked = {"label": handle, "scopes": ["user"], "user": user["id"]}
        return self._caller(user["id"], self.operator.post("/v1/api-keys", asked)["secret"])

    def fund_house(self, *, usdc: int, ether: int) -> None:
        """The house brings so many whole USDC and ETH to its hot address, as capital. Needs a running worker."""
        self.chain.faucet(self.hot, usdc * 10**6, "USDC")
        self.chain.faucet(self.hot, ether * 10**18, "ETH")
        for asset, whole in (("USDC", usdc), ("ETH", ether)):
            suspense = f"house/suspense/{asset}"
            until(f"the {asset} is booked", lambda s=suspense: self.mined_on() and self.balances().get(s))  # type: ignore[misc]
            self.treasurer.post(
                "/v1/treasury/adjustments",
                {"asset": asset, "amount": str(whole), "debit": "suspense", "credit": "capital", "reason": "opening"},
            )

    def deposit(self, user: Caller, usdc: int) -> None:
        """Somebody outside sends the user so many whole USDC, which then can be spent. Needs a running worker."""
        before = self.available(user)
        address = user.post("/v1/deposit-addresses", {"network": "local"})["address"]
        self.chain.transfer("USDC", address, usdc * 10**6)
        until("the deposit can be spent", lambda: self.mined_on() and self.available(user) == before + usdc)

    def available(self, user: Caller, asset: str = "USDC") -> Decimal:
        return Decimal(user.get(f"/v1/balances/{asset}")["available"])

    def balances(self) -> Balances:
        """Every account that isn't at zero; and nothing may be pending in it that isn't in the sums."""
        found = self.treasurer.get("/v1/treasury/trial-balance")
        assert found["balanced"], found["sums"]
        return {row["account"]: Decimal(row["balance"]) for row in found["accounts"] if Decimal(row["balance"])}

    def pending(self) -> list[str]:
        """Accounts in which something is held or expected."""
        rows = self.treasurer.get("/v1/treasury/trial-balance")["accounts"]
        return [row["account"] for row in rows if Decimal(row["debits_pending"]) or Decimal(row["credits_pending"])]

    def stop(self, name: str) -> None:
        """End one of the supervisor's processes."""
        stop_child(self.supervisor._processes[name].child)

    def start(self, name: str) -> None:
        """Start it again, as the supervisor does, with the files as they are now."""
        self.supervisor._restart(self.supervisor._processes[name])

    def mined_on(self) -> bool:
        """One block more, if it's time for one, as time brings them; always True."""
        if time.monotonic() >= self.mined_at + BLOCK_SECONDS:
            self.chain.mine()
            self.mined_at = time.monotonic()
        return True

    def must_agree(self) -> None:
        """The audit finds every row as the journal says, and reconciliation finds no break up to a final block."""
        report = asyncio.run(self._audit())
        assert report.clean, report.disagreements
        found = self.treasurer.post("/v1/treasury/reconciliations")
        assert found["breaks"] == [], found
        assert [network["skipped"] for network in found["networks"]] == [None], found

    async def _audit(self) -> Any:
        async with open_parts(self.settings, name="test audit") as parts:
            return await audit(parts.engine, self.settings.book)

    def _caller(self, name: str, secret: str) -> Caller:
        http = httpx.Client(
            base_url=self.supervisor.api_url,
            headers={"Authorization": f"Bearer {secret}"},
            timeout=30,
            trust_env=False,
        )
        self.callers.append(http)
        return Caller(name, http)


@contextmanager
def start_installation(
    folder: Path, kind: NodeKind | str = NodeKind.ANVIL, *, worker: bool = False, banks: tuple[BankChoice, ...] = ()
) -> Iterator[Installation]:
    """Install into `folder` and start everything, the worker only if asked for. ONEBOOK_* variables don't reach it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ONEBOOK_")}
    home = folder / "house"
    with patch.dict(os.environ, kept, clear=True), start_local_chain(folder, kind) as chain:
        config = _install(home, chain, banks)
        try:
            _migrated().put(home / "postgres")
            settings = load_settings(config)
            with ForkingSupervisor(settings, config=config, passphrase=PASSPHRASE, say=lambda _: None) as supervisor:
                house = _start(supervisor, config, chain, worker=worker)
                try:
                    yield house
                finally:
                    for client in house.callers:
                        client.close()
        finally:
            clean(home / "postgres")


@cache
def _migrated() -> Initialised:
    """Whence each installation of this test process has its database's folder."""
    made = Initialised(Path(tempfile.mkdtemp(prefix="installed-")), migrated=True)
    atexit.register(_remove, made, os.getpid())
    return made


def _remove(made: Initialised, pid: int) -> None:
    if os.getpid() == pid:  # not in what was forked off us
        made.clean()
        made.folder.rmdir()


def _install(home: Path, chain: RunningChain, banks: tuple[BankChoice, ...]) -> Path:
    token = chain.node.tokens["USDC"]
    made = install(
        home,
        passphrase=PASSPHRASE,
        chains=[
            ChainChoice(
                name="local",
                url=chain.url,
                chain_id=chain.chain_id,
                genesis_hash=chain.genesis_hash,
                tokens={"USDC": (token.address.lower(), token.decimals)},
                spendable_depth=SPENDABLE_DEPTH,
                final_depth=FINAL_DEPTH,
            )
        ],
        banks=banks,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        api_port=free_port(),
        worker_pause_ms=20,
        requests_per_minute=100_000,
        cost=LIGHT,
    )
    return made.config


def _start(supervisor: Supervisor, config: Path, chain: RunningChain, *, worker: bool) -> Installation:
    supervisor.start_database()
    asyncio.run(prepare_book(supervisor.settings, report=lambda _: None))
    operator_key = asyncio.run(first_operator_key(supervisor.settings))
    supervisor.start_signer()
    if worker:
        supervisor.start_worker()
    supervisor.start_api()
    supervisor.record()
    addresses = XpubAddresses(supervisor.settings.xpubs)
    nobody = Caller("nobody", httpx.Client())
    house = Installation(
        config=config,
        chain=chain,
        supervisor=supervisor,
        hot=addresses.address(OwnKey(Role.HOT, 0)),
        operator=nobody,
        treasurer=nobody,
    )
    nobody.http.close()
    house.operator = house._caller("operator", operator_key)
    treasury = house.operator.post("/v1/api-keys", {"label": "treasurer", "scopes": ["treasury"]})
    house.treasurer = house._caller("treasurer", treasury["secret"])
    return house
