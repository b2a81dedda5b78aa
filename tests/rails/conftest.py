"""The simulator for the tests of rails: one per module, every exchange checked against the official files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from base.entropy import SeededEntropy
from base.ids import new_id
from railsim.house import House
from railsim.server import running
from tests.rails.counting import TOTALS
from tests.rails.inbox import Inbox, inbox
from tests.rails.schemas import Checker, folder

START = datetime(2030, 1, 31, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sim:
    """A running simulator, its control API, and what checks it."""

    house: House
    checker: Checker
    control: httpx.Client
    inbox: Inbox

    def tell(self, where: str, verb: str = "POST", /, **told: Any) -> Any:
        """Ask the control API; its refusals are failures of the test."""
        answer = self.control.request(verb, where, json=told)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def advance(self, *, days: int = 0, seconds: int = 0) -> None:
        self.tell("/clock", advance_seconds=days * 86_400 + seconds)

    def webhooks(self, provider: str) -> list[Any]:
        """All webhooks of a provider that have arrived, once none is on its way."""
        assert self.tell("/webhooks/wait", seconds=20)["idle"]
        return self.inbox.of(provider)


@pytest.fixture
def ids(sim: "Sim", entropy: SeededEntropy) -> Callable[[str], str]:
    """Fresh ids of ours, of the simulator's time."""
    return lambda prefix: new_id(prefix, sim.house.world.timeline, entropy)


@contextmanager
def fresh_sim(checker: Checker) -> Iterator[Sim]:
    """A simulator that nobody has used, whose webhooks come."""
    with (
        running(seed=7, start=START, wrap=checker.asgi) as house,
        inbox() as receiver,
        httpx.Client(base_url=house.control_url, timeout=60, trust_env=False) as control,
    ):
        made = Sim(house, checker, control, receiver)
        for provider in house.providers:
            made.tell(f"/webhooks/{provider}", "PUT", url=f"{receiver.url}/{provider}")
        yield made


@pytest.fixture(scope="module")
def _running() -> Iterator[Sim]:
    folder()
    checker = Checker()
    with fresh_sim(checker) as made:
        yield made
    for name, count in checker.counts.items():
        TOTALS[name] += count


@pytest.fixture
def sim(_running: Sim) -> Iterator[Sim]:
    """The module's simulator without switches; at the end everything that was exchanged must have fitted."""
    _running.tell("/switches", "DELETE")
    _running.inbox.clear()
    for provider in _running.house.providers:
        _running.tell(f"/webhooks/{provider}", "PUT", url=f"{_running.inbox.url}/{provider}")
    del _running.checker.problems[:]
    yield _running
    assert _running.tell("/webhooks/wait", seconds=20)["idle"]
    for got in _running.inbox.arrived:
        _running.checker.webhook(got.provider, got.json())
    assert _running.checker.problems == []
