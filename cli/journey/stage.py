"""What the story plays on, and how it ended."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chain import local
from cli.demo_bank import DemoBank
from cli.demo_rails import DemoRails
from cli.journey.people import Person

OUTSIDER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
"""Where withdrawals go: a development account that is nobody of ours, on every local chain."""


@dataclass(frozen=True, slots=True)
class Net:
    """A network: its name in the book, and the local chain that it is."""

    name: str
    url: str
    block_seconds: int

    @contextmanager
    def blocks_by_hand(self) -> Iterator[None]:
        """No block comes by itself, so that a scene is the same on every machine; afterwards they come again."""
        local.mine_at_once(self.url, False)
        try:
            yield
        finally:
            local.mine_every(self.url, self.block_seconds)


@dataclass(frozen=True, slots=True)
class BankAccount:
    """An account of the house: what the bank calls it, its IBAN, and what it holds."""

    name: str
    iban: str
    asset: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What the story plays on. USDC is on both networks, DAI on the second one alone."""

    api_url: str
    operator_key: str = field(repr=False)
    first: Net
    second: Net
    hot_address: str
    bank: DemoBank
    euros: BankAccount
    pounds: BankAccount
    bank_folder: Path
    rails: DemoRails


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: the people (with their keys) and what reconciliation found, of how much that it looked at.

    `blocks`: by network, the block at which it was compared.
    """

    people: Mapping[str, Person]
    assets: int
    accounts: int
    blocks: Mapping[str, int]
    breaks: int
    agrees: bool
