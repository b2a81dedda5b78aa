"""The payment providers' rails, as the settings name them, and all that follows what happens there."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError
from chain.incarnation import incarnation
from fiat.payout_steps import Gathering, PayoutSteps
from fiat.rails.balances import RailBalances
from fiat.rails.booking import FeeBearer
from fiat.rails.desk import Desk, Rails
from fiat.rails.disputes import Disputes
from fiat.rails.effects import Effects
from fiat.rails.inbox import Inbox
from fiat.rails.methods import PaymentMethods
from fiat.rails.protocol import Capability, Rail
from fiat.rails.provider_payouts import PayoutFollowing, ProviderEnding, ProviderPayouts
from fiat.rails.refund_endings import RefundEndings
from fiat.rails.refunds import Refunds
from fiat.rails.sandbox import Sandbox
from fiat.rails.sandbox_acts import SandboxActs, SandboxDelivery
from fiat.rails.sandbox_record import Record
from fiat.rails.sealed import sealer_of
from fiat.rails.settlements import Settlements
from fiat.rails.top_ups import TopUps
from ledger.engine import Ledger
from ledger.money import Asset
from tariff.desk import Desk as TariffDesk
from wiring.banking import build_vault
from wiring.settings import Environment, Settings

Step = Callable[[], Awaitable[int]]


class Asking(Protocol):
    """A step over what some rails are asked."""

    def __call__(self, *, rails: Collection[str] = ()) -> Awaitable[int]: ...


class Following(Protocol):
    """A step over what is due, of some rails or of all but some."""

    def __call__(self, *, rails: Collection[str] = (), but: Collection[str] = ()) -> Awaitable[int]: ...


PAYOUTS_PER_STEP = 20
"""Payouts of one asset that one step asks a provider for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RailServices:
    """What there is of one book's rails. `acts` and `delivery` only where the sandbox is."""

    rails: Rails
    top_ups: TopUps
    refunds: Refunds
    refund_endings: RefundEndings
    disputes: Disputes
    settlements: Settlements
    methods: PaymentMethods
    inbox: Inbox
    effects: Effects
    payouts: PayoutFollowing
    outgoing: list[PayoutSteps]
    ending: ProviderEnding
    balances: RailBalances
    acts: SandboxActs | None = None
    delivery: SandboxDelivery | None = None


def build_rails(
    settings: Settings,
    engine: AsyncEngine,
    ledger: Ledger,
    *,
    clock: Clock,
    entropy: Entropy,
    tariff: TariffDesk | None = None,
) -> RailServices:
    """All rails of the settings; `tariff`: what top-ups cost and use up. Raises ConfigError."""
    rails: list[Rail] = []
    record = Record(engine, book=ledger.book, clock=clock)
    sandbox = _sandbox(settings, record, clock)
    if sandbox is not None:
        rails.append(sandbox)
    rails += _cards(settings, clock) + _paypal(settings, clock)
    bearer = FeeBearer(settings.rails.fee_bearer)
    desk = Desk(
        engine=engine,
        ledger=ledger,
        rails=Rails(rails),
        vault=build_vault(settings),
        clock=clock,
        entropy=entropy,
        bearer=bearer,
        accounts=tuple(account.name for account in settings.bank_accounts),
        tariff=tariff or TariffDesk(),
    )
    inbox, acts, delivery = Inbox(desk, sealer=sealer_of(desk.vault)), None, None
    if sandbox is not None:
        acts = SandboxActs(sandbox, record, clock=clock)
        delivery = SandboxDelivery(sandbox, acts, record, inbox)
    return services_of(desk, inbox, acts=acts, delivery=delivery)


def services_of(
    desk: Desk, inbox: Inbox, *, acts: SandboxActs | None = None, delivery: SandboxDelivery | None = None
) -> RailServices:
    """The services over one desk."""
    top_ups = TopUps(desk)
    payouts = PayoutFollowing(desk)
    refunds, disputes, settlements = Refunds(desk, top_ups), Disputes(desk), Settlements(desk)
    return RailServices(
        rails=desk.rails,
        top_ups=top_ups,
        refunds=refunds,
        refund_endings=RefundEndings(desk, refunds),
        disputes=disputes,
        settlements=settlements,
        methods=PaymentMethods(desk),
        inbox=inbox,
        effects=Effects(
            desk,
            top_ups=top_ups,
            refunds=refunds,
            disputes=disputes,
            settlements=settlements,
            payouts=payouts.hear,
        ),
        payouts=payouts,
        ending=ProviderEnding(desk, payouts, here=incarnation),
        balances=RailBalances(desk),
        outgoing=[
            payout_steps(desk, rail) for rail in desk.rails.all.values() if Capability.PAYOUT in rail.capabilities
        ],
        acts=acts,
        delivery=delivery,
    )


def rail_steps(services: RailServices) -> dict[str, Step]:
    """What a worker does for each rail, by name: one that doesn't answer keeps nobody else's from going on.

    What is left of rails that aren't in the settings any more has steps of its own.
    """
    known = tuple(services.rails.all)
    asked: dict[str, tuple[Capability, Asking]] = {
        "payout-ends": (Capability.PAYOUT, services.payouts.step),
        "disputes": (Capability.DISPUTE, services.effects.look_through),
        "settlements": (Capability.SETTLEMENT, services.settlements.step),
    }
    steps: dict[str, Step] = {} if services.delivery is None else {"sandbox": services.delivery.step}
    steps |= {"webhook-bodies": services.inbox.drop_bodies}
    followed: dict[str, Following] = {
        "webhooks": services.effects.step,
        "top-ups": services.top_ups.steps.step,
        "refunds": services.refunds.step,
    }
    steps |= {name: partial(step, but=known) for name, step in followed.items()}
    for rail in known:
        mine = (rail,)
        steps |= {f"{name}:{rail}": partial(step, rails=mine) for name, step in followed.items()}
        able = services.rails.get(rail).capabilities
        steps |= {
            f"{name}:{rail}": partial(step, rails=mine) for name, (needed, step) in asked.items() if needed in able
        }
    return steps | {f"payouts:{one.rail}": one.step for one in services.outgoing}


def payout_steps(desk: Desk, rail: Rail) -> PayoutSteps:
    """What brings payouts out over a provider: each by itself and at once. An unclaimed one is silent for a month."""
    return PayoutSteps(
        desk.engine,
        desk.ledger,
        desk.vault,
        ProviderPayouts(rail, clock=desk.clock),
        gathering=Gathering(
            payouts_max=1, batches_max=PAYOUTS_PER_STEP, wait=timedelta(), silent_after=timedelta(days=45)
        ),
        clock=desk.clock,
        entropy=desk.entropy,
    )


def _cards(settings: Settings, clock: Clock) -> list[Rail]:
    """Stripe and Square, where they're told. Imported here: most commands need neither."""
    assets = [Asset(one.code, one.kind, one.scale) for one in settings.assets]
    stripe, square, found = settings.rails.stripe, settings.rails.square, list[Rail]()
    if stripe is not None:
        from fiat.rails.stripe.settings import TEST_PREFIXES, StripeSettings
        from fiat.rails.stripe.settings import build as build_stripe

        key = stripe.api_key.get_secret_value()
        _require_real(settings, "stripe", play=key.startswith(TEST_PREFIXES) or stripe.base_url is not None)
        told = StripeSettings(
            api_key=key, webhook_secret=stripe.webhook_secret.get_secret_value(), base_url=stripe.base_url
        )
        found.append(build_stripe(told, assets=assets, clock=clock))
    if square is not None:
        from fiat.rails.square.settings import SquareSettings
        from fiat.rails.square.settings import build as build_square

        play = square.environment == "sandbox" or square.base_url is not None
        _require_real(settings, "square", play=play)
        given = SquareSettings(
            access_token=square.access_token.get_secret_value(),
            webhook_signature_key=square.webhook_signature_key.get_secret_value(),
            location_id=square.location_id,
            notification_url=square.notification_url,
            merchant_id=square.merchant_id,
            environment=square.environment,
            base_url=square.base_url,
        )
        found.append(build_square(given, assets=assets, clock=clock))
    return found


def _require_real(settings: Settings, rail: str, *, play: bool) -> None:
    """A provider's test mode takes test cards: what it says that it captured is no money."""
    if play and settings.environment is not Environment.TEST:
        raise ConfigError(
            f"{settings.where('rails', rail)}: these are settings of {rail}'s test mode or of a simulator, which credit"
            ' users money that nobody paid: give those of the live mode, or set environment = "test"',
            code="play_rail_in_live_book",
            param=f"rails.{rail}",
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


def _paypal(settings: Settings, clock: Clock) -> list[Rail]:
    told = settings.rails.paypal
    if told is None:
        return []
    from fiat.rails.paypal.account import LIVE_URL, SANDBOX_URL, PayPalAccount
    from fiat.rails.paypal.rail import PayPal

    _require_real(settings, "paypal", play=told.environment == "sandbox" or told.base_url is not None)
    account = PayPalAccount(
        client_id=told.client_id,
        client_secret=told.client_secret.get_secret_value(),
        webhook_id=told.webhook_id,
        merchant_id=told.merchant_id,
        base_url=told.base_url or (LIVE_URL if told.environment == "live" else SANDBOX_URL),
        certificate_hosts=told.certificate_hosts,
        certificate_roots=_roots(settings, told.certificate_roots),
        cancel_url=told.cancel_url,
        brand_name=told.brand_name,
    )
    assets = {one.code: Asset(code=one.code, kind=one.kind, scale=one.scale) for one in settings.assets}
    return [PayPal(account, assets=assets, clock=clock)]


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
