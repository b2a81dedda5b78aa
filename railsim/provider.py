"""What all simulated providers have in common: state that changes at once, jobs, switches and webhooks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

from railsim.calls import Answer, Call, Json, Operation
from railsim.chance import Chance
from railsim.clock import Timeline
from railsim.money import Terms
from railsim.switches import Event, Switch, Switches
from railsim.webhooks import Courier


class World:
    """What the providers share: one clock, one source of randomness, the switches, the courier."""

    def __init__(self, *, timeline: Timeline, chance: Chance) -> None:
        self.timeline = timeline
        self.chance = chance
        self.switches = Switches(chance)
        self.courier = Courier(timeline, self.switches)


class Provider(ABC):
    """One simulated provider. Its handlers run to their end without waiting, so each request is atomic."""

    name: str
    terms: Terms

    def __init__(self, world: World) -> None:
        self.world = world
        self.timeline = world.timeline
        self.chance = world.chance
        self.url = ""

    @abstractmethod
    def operations(self) -> Sequence[Operation]:
        """All that it answers."""

    @abstractmethod
    def parse(self, call: Call) -> None:
        """Fill `call.body` from `call.raw`. Raises Refused."""

    def parse_query(self, text: str) -> Json:
        """The query's parameters by name. Raises Refused."""
        return dict(parse_qsl(text, keep_blank_values=True))

    @abstractmethod
    def answer(self, call: Call, operation: Operation) -> Answer:
        """Authenticate, look for a repeat, do the work. Refusals are answers."""

    @abstractmethod
    def failure(self, call: Call, status: int) -> Answer:
        """Its own body for 404 (no such path), 429 and 500."""

    @abstractmethod
    def secrets(self) -> Json:
        """What a client needs to know: keys, ids, webhook secrets."""

    @abstractmethod
    def sign(self, body: bytes, url: str, *, badly: bool) -> dict[str, str]:
        """The headers that sign a webhook now."""

    @abstractmethod
    def open_dispute(self, payment: str, *, amount: int | None, reason: str | None) -> Json:
        """A customer disputes a payment. Raises LookupError for an unknown one, ValueError for one that can't be."""

    @abstractmethod
    def end_dispute(self, dispute: str, *, won: bool) -> Json:
        """The dispute is decided. Raises LookupError, ValueError."""

    @abstractmethod
    def settle(self, *, everything: bool) -> Json | None:
        """Pay what is available (or `everything`) out to the merchant's bank; None if there is nothing."""

    def customer_acts(self) -> dict[str, Callable[[str], Json]]:
        """What a customer can do by hand, by name: given an id. Each raises LookupError or ValueError."""
        return {}

    def planned(self, event: Event) -> Switch | None:
        """How this event ends, if a switch says that it doesn't end well."""
        return self.world.switches.take(event, self.name, "", "")
