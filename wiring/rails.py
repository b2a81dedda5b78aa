"""The payment providers' rails, as the settings name them, and all that follows what happens there."""

from dataclasses import dataclass
from pathlib import Path

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
from ledger.money import Asset
from wiring.settings import Environment, PayPalMode, PayPalSettings, Settings


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
    if settings.rails.paypal is not None:
        rails.append(_paypal(settings, settings.rails.paypal, clock))
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


def _paypal(settings: Settings, told: PayPalSettings, clock: Clock) -> Rail:
    """PayPal's account. Raises ConfigError."""
    from fiat.rails.paypal.account import LIVE_URL, SANDBOX_URL, PayPalAccount
    from fiat.rails.paypal.rail import PayPal

    if told.mode is PayPalMode.SANDBOX and settings.environment is not Environment.TEST:
        raise ConfigError(
            f"{settings.where('rails', 'paypal')}: PayPal's sandbox has no real money, so it runs only in a test book:"
            ' set mode = "live" with the keys of a live app, or environment = "test" for an installation without real'
            " value",
            code="sandbox_in_live_book",
            param="rails.paypal.mode",
        )
    if told.base_url is not None and told.mode is PayPalMode.LIVE:
        raise ConfigError(
            f"{settings.where('rails', 'paypal', 'base_url')}: live PayPal has one address: take base_url out, or set"
            ' mode = "sandbox" for a simulator',
            param="rails.paypal.base_url",
        )
    account = PayPalAccount(
        client_id=told.client_id,
        client_secret=told.client_secret.get_secret_value(),
        webhook_id=told.webhook_id,
        base_url=told.base_url or (LIVE_URL if told.mode is PayPalMode.LIVE else SANDBOX_URL),
        certificate_hosts=told.certificate_hosts,
        certificate_roots=_roots(settings, told.certificate_roots),
        cancel_url=told.cancel_url,
        brand_name=told.brand_name,
    )
    assets = {one.code: Asset(code=one.code, kind=one.kind, scale=one.scale) for one in settings.assets}
    return PayPal(account, assets=assets, clock=clock)


def _roots(settings: Settings, named: Path | None) -> bytes | None:
    if named is None:
        return None
    try:
        return settings.path(named).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{settings.where('rails', 'paypal', 'certificate_roots')}: {settings.path(named)} can't be read:"
            f" {error.strerror}",
            param="rails.paypal.certificate_roots",
        ) from None
