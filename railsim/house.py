"""All simulated providers in one world."""

from datetime import datetime

from railsim.calls import Json
from railsim.chance import Chance
from railsim.clock import Timeline
from railsim.paypal.provider import PayPal
from railsim.provider import Provider, World
from railsim.square.provider import Square
from railsim.stripe.provider import Stripe


class House:
    """Stripe, PayPal and Square on one clock and one source of randomness."""

    def __init__(self, *, seed: int, start: datetime | None = None) -> None:
        """`start`: the clock stands there until it's moved; None: it runs with the machine's."""
        self.world = World(timeline=Timeline(start), chance=Chance(seed))
        self.stripe, self.paypal, self.square = Stripe(self.world), PayPal(self.world), Square(self.world)
        self.providers: dict[str, Provider] = {one.name: one for one in (self.stripe, self.paypal, self.square)}
        self.control_url = ""

    def shown(self) -> Json:
        """Where everything is, and every secret that a client needs. Play money: nothing here is to be kept."""
        return {
            "control_url": self.control_url,
            "seed": self.world.chance.seed,
            "now": self.world.timeline.now().isoformat(),
            "providers": {name: {"base_url": one.url, **one.secrets()} for name, one in self.providers.items()},
        }
