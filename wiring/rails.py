"""The payment providers' rails, as the settings name them, and all that follows what happens there."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError
from fiat.rails.booking import FeeBearer
from fiat.rails.desk import Desk, Rails
from fiat.rails.disputes import Disputes
from fiat.rails.effects import Effects
from fiat.rails.inbox import Inbox
from fiat.rails.methods import PaymentMethods
from fiat.rails.protocol import Rail
from fiat.rails.refunds import Refunds
from fiat.rails.sandbox import Sandbox
from fiat.rails.sandbox_acts import SandboxActs, SandboxDelivery
from fiat.rails.sandbox_record import Record
from fiat.rails.settlements import Settlements
from fiat.rails.top_ups import TopUps
from ledger.engine import Ledger
from wiring.settings import Environment, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RailServices:
    """What there is of one book's rails. `acts` and `delivery` only where the sandbox is."""

    rails: Rails
    top_ups: TopUps
    refunds: Refunds
    disputes: Disputes
    settlements: Settlements
    methods: PaymentMethods
    inbox: Inbox
    effects: Effects
    acts: SandboxActs | None = None
    delivery: SandboxDelivery | None = None


def build_rails(
    settings: Settings, engine: AsyncEngine, ledger: Ledger, *, clock: Clock, entropy: Entropy
) -> RailServices:
    """All rails of the settings. Raises ConfigError."""
    rails: list[Rail] = []
    record = Record(engine, book=ledger.book, clock=clock)
    sandbox = _sandbox(settings, record, clock)
    if sandbox is not None:
        rails.append(sandbox)
    bearer = FeeBearer(settings.rails.fee_bearer)
    desk = Desk(engine=engine, ledger=ledger, rails=Rails(rails), clock=clock, entropy=entropy, bearer=bearer)
    inbox, acts, delivery = Inbox(desk), None, None
    if sandbox is not None:
        acts = SandboxActs(sandbox, record, clock=clock)
        delivery = SandboxDelivery(sandbox, acts, record, inbox)
    return services_of(desk, inbox, acts=acts, delivery=delivery)


def services_of(
    desk: Desk, inbox: Inbox, *, acts: SandboxActs | None = None, delivery: SandboxDelivery | None = None
) -> RailServices:
    """The services over one desk."""
    top_ups = TopUps(desk)
    refunds, disputes, settlements = Refunds(desk, top_ups), Disputes(desk), Settlements(desk)
    return RailServices(
        rails=desk.rails,
        top_ups=top_ups,
        refunds=refunds,
        disputes=disputes,
        settlements=settlements,
        methods=PaymentMethods(desk),
        inbox=inbox,
        effects=Effects(desk, top_ups=top_ups, refunds=refunds, disputes=disputes, settlements=settlements),
        acts=acts,
        delivery=delivery,
    )


def _sandbox(settings: Settings, record: Record, clock: Clock) -> Sandbox | None:
    told = settings.rails.sandbox
    if told is None:
        return None
    if settings.environment is not Environment.TEST:
        raise ConfigError(
            f"{settings.where('rails', 'sandbox')}: the sandbox credits users money that nobody paid, so it runs only"
            ' in a test book: take it out, or set environment = "test" for an installation without real value',
            code="sandbox_in_live_book",
            param="rails.sandbox",
        )
    return Sandbox(record, clock=clock, secret=told.webhook_secret.get_secret_value())
