"""The payment providers of the demo: `onebook rails sim` as a child process, and what a payer does at a provider.

The service knows it by its configuration alone, as it would know the real ones.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx

from base.children import start_child, stop_child
from base.errors import Unavailable
from base.files import write_atomically

START_SECONDS = 20.0
"""How long the simulator may take to say where it is."""

PAYPAL_KEYS = ("client_id", "client_secret", "webhook_id", "merchant_id", "base_url")
"""What `[rails.paypal]` takes over as the simulator names it."""

ROOTS = "paypal-roots.pem"
"""Where the certificates' authority of the simulated PayPal is kept, in the installation's folder."""


@dataclass(frozen=True, slots=True)
class DemoRails:
    """The running simulator, by what it printed: base URLs, keys and secrets of play money."""

    shown: Mapping[str, Any]
    process: Popen[bytes]

    @property
    def control_url(self) -> str:
        return str(self.shown["control_url"])

    def settings(self, home: Path) -> dict[str, dict[str, object]]:
        """What `[rails.stripe]` and `[rails.paypal]` say in an installation in `home`; writes the file they name."""
        stripe, paypal = (self.shown["providers"][name] for name in ("stripe", "paypal"))
        write_atomically(home / ROOTS, paypal["certificate_authority"].encode())
        return {
            "stripe": {name: stripe[name] for name in ("api_key", "webhook_secret", "base_url")},
            "paypal": {
                "environment": "sandbox",
                "certificate_hosts": [paypal["base_url"].partition("://")[2]],
                "certificate_roots": ROOTS,
                **{name: paypal[name] for name in PAYPAL_KEYS},
            },
        }

    def send_webhooks_to(self, api_url: str) -> None:
        """From now on the providers tell the API what happens."""
        for rail in ("stripe", "paypal"):
            self.call("PUT", f"/webhooks/{rail}", url=f"{api_url}/v1/rails/{rail}/webhooks")

    def approve(self, order: str) -> None:
        """What the payer does on PayPal's page."""
        self.call("POST", "/customers/acts", provider="paypal", act="approve", id=order)

    def call(self, method: str, path: str, **told: object) -> Any:
        """Ask the control API. Raises Unavailable with what it said if it refused."""
        try:
            answer = httpx.request(method, self.control_url + path, json=told, timeout=10, trust_env=False)
        except httpx.HTTPError as error:
            raise Unavailable(f"the rail simulator doesn't answer: {error}") from error
        if answer.is_error:
            raise Unavailable(f"the rail simulator refused {method} {path}: {answer.text[:300]}")
        return answer.json()


@contextmanager
def running_rails(*, log: Path) -> Iterator[DemoRails]:
    """The simulator for the length of a `with` block. Raises Unavailable if it doesn't start; `log` then says why."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    process = start_child([sys.executable, "-m", "cli", "rails", "sim", "--json"], log=log)
    try:
        yield DemoRails(_shown(process, log), process)
    finally:
        stop_child(process, seconds=5)


def _shown(process: Popen[bytes], log: Path) -> Mapping[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            shown: Mapping[str, Any] = json.loads(log.read_text(encoding="utf-8"))
            return shown
        except ValueError:  # not all of it is written yet
            time.sleep(0.05)
    raise Unavailable(f"the rail simulator (onebook rails sim) didn't start; see {log}")
