"""Fixtures for every test: a database of its own, a clock that stands still, bytes that can be drawn again."""

import gc
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import hypothesis
import pytest
import structlog

from base.clock import ManualClock
from base.entropy import SeededEntropy
from db.server import Running
from tests.rails import counting
from tests.support.compiled import share_compiled_statements
from tests.support.postgres import Database, fresh_database, throwaway_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell ignores Ctrl-C, and so would every process that a test starts and then interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


structlog.configure(  # plain tracebacks: coloured ones take a tenth of the time where much is refused
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
gc.set_threshold(50_000, 20, 100)  # most of what is made lives as long as its test


share_compiled_statements()

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("onebook", deadline=None)
hypothesis.settings.load_profile("onebook")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests first: while one process has them, the others take what comes behind, and all end together."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """The collector looks at what the tests make, and never again at hundreds of modules and thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Running]:
    """One throwaway server per test process."""
    with throwaway_server() as running:
        yield running


@pytest.fixture
async def database(postgres: Running) -> AsyncIterator[Database]:
    """A fresh, migrated database for this test."""
    async with fresh_database(postgres) as fresh:
        yield fresh


@pytest.fixture
def clock() -> ManualClock:
    """Stands at 2026-01-01T00:00Z until told to move."""
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def entropy() -> SeededEntropy:
    """Another seed in every test; a failing test shows it, so that it can be set by hand to repeat the run."""
    seed = secrets.randbits(64)
    print(f"entropy seed: {seed}")
    return SeededEntropy(seed)


def pytest_sessionfinish(session: pytest.Session) -> None:
    counting.hand_up(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    counting.take_from(node)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counting.summarise(terminalreporter)
