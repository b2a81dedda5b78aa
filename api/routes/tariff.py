"""What the house takes and allows, to the users whom it concerns: fees, previews of them, limits."""

from typing import Annotated

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from api.amounts import AmountText, AssetCode
from api.answers import Assets, answer, instant, maybe_instant, maybe_money, money
from api.auth import owner
from api.door import resource
from api.parts import Parts, assets_of
from api.schemas import Asked
from identity.scopes import Scope
from ledger.money import parse_amount
from tariff.limits import AllowanceState, LimitState
from tariff.schedule import Operation, Rule
from tariff.tariff_file import ON_NETWORKS
from wallet.fee_previews import FeePreview

router = resource("tariff")


class LimitView(TypedDict):
    sum: str
    limit: str
    cap: str
    used: str
    remaining: str
    frees_at: str | None


class LimitList(TypedDict):
    tier: str
    reference: str | None
    items: list[LimitView]


class AllowanceView(TypedDict):
    operation: str
    operations: int | None
    operations_left: int | None
    value: str | None
    value_left: str | None
    frees_at: str


class RuleView(TypedDict):
    rule: str
    operation: str
    asset: str | None
    network: str | None
    rail: str | None
    flat: str | None
    percent: str
    minimum: str | None
    maximum: str | None


class AccountFeeView(TypedDict):
    asset: str
    amount: str
    short: str


class FeesView(TypedDict):
    tier: str
    reference: str | None
    rules: list[RuleView]
    free: list[AllowanceView]
    account_fee: AccountFeeView | None


class FeePreviewView(TypedDict):
    operation: str
    tier: str
    asset: str
    amount: str
    rule: str | None
    flat: str
    percent: str
    minimum: str
    maximum: str | None
    free: bool
    fee: str
    network_fee: str
    network_fee_expected: str
    total: str
    arrives: str | None
    allowance: AllowanceView | None
    limits: list[LimitView]


class FeeToPreview(Asked):
    """An operation whose cost is wanted."""

    operation: Annotated[
        Operation,
        Field(
            strict=False,
            description="`transfer`, `hold`, `withdrawal`, `payout`, `conversion` or `top_up`.",
            examples=["transfer"],
        ),
    ]
    asset: AssetCode
    amount: AmountText
    network: str | None = Field(default=None, max_length=64, description="Of a withdrawal, its network.")
    address: str | None = Field(
        default=None, max_length=200, description="Of a withdrawal, whom it pays: makes the network's fee exact."
    )
    rail: str | None = Field(
        default=None,
        max_length=40,
        examples=["bank"],
        description="Of a payout, `bank` or `paypal`; of a top-up, its payment provider.",
    )


@router.post("/fee-previews", response_model=FeePreviewView, summary="What an operation would cost you now")
async def preview_fee(parts: Parts, asked: FeeToPreview, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    """`fee` is `min(max(flat + percent of amount rounded up, minimum), maximum)`, or 0 where it's `free`.

    `total` is all that is taken or held; a top-up's fee is off it, so that `arrives` is what you get."""
    assets = await assets_of(parts)
    named = await assets_of(parts, asked.asset)
    preview = await parts.fee_previews.make(
        user,
        asked.operation,
        asset=asked.asset,
        amount=parse_amount(asked.amount, named[asked.asset]),
        network=asked.network,
        address=asked.address,
        rail=asked.rail,
    )
    return answer(preview_view(preview, _reference(parts), assets))


@router.get("/fees", response_model=FeesView, summary="What you are charged, by your tier")
async def read_fees(parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    """The rules for your tier, in the order of the file; of those that fit, the one that names most holds."""
    assets, tariff = await assets_of(parts), parts.terms.tariff
    tier = tariff.tiers[await parts.terms.tier_of(user)]
    fee = tier.account_fee
    view: FeesView = {
        "tier": tier.name,
        "reference": _reference(parts),
        "rules": [rule_view(rule, assets) for rule in tariff.rules if rule.tier in (None, tier.name)],
        "free": [_allowance_view(one, _reference(parts), assets) for one in await parts.terms.allowances(user)],
        "account_fee": None
        if fee is None
        else {"asset": fee.asset, "amount": money(fee.amount, fee.asset, assets), "short": fee.short.value},
    }
    return answer(view)


@router.get("/limits", response_model=LimitList, summary="How much you may still move")
async def read_limits(parts: Parts, user: Annotated[str, owner(Scope.WALLET_READ)]) -> Response:
    """Days and months are those of UTC; values are told in the reference."""
    assets, reference = await assets_of(parts), _reference(parts)
    states = await parts.terms.limits(user)
    view: LimitList = {
        "tier": await parts.terms.tier_of(user),
        "reference": reference,
        "items": [_limit_view(state, reference, assets) for state in states],
    }
    return answer(view)


def preview_view(preview: FeePreview, reference: str | None, assets: Assets) -> FeePreviewView:
    """All that the fee is computed from beside it."""
    price, asset = preview.terms.price, preview.terms.price.asset
    left = preview.terms.allowance
    return {
        "operation": price.operation.value,
        "tier": price.tier,
        "asset": asset,
        "amount": money(price.amount, asset, assets),
        "rule": price.rule,
        "flat": money(price.flat, asset, assets),
        "percent": price.percent.text,
        "minimum": money(price.minimum, asset, assets),
        "maximum": maybe_money(price.maximum, asset, assets),
        "free": price.free,
        "fee": money(price.fee, asset, assets),
        "network_fee": money(preview.network_fee, asset, assets),
        "network_fee_expected": money(preview.network_fee_expected, asset, assets),
        "total": money(preview.total, asset, assets),
        "arrives": maybe_money(preview.arrives, asset, assets),
        "allowance": None if left is None else _allowance_view(left, reference, assets),
        "limits": [_limit_view(state, reference, assets) for state in preview.terms.limits],
    }


def rule_view(rule: Rule, assets: Assets) -> RuleView:
    """Amounts are of the rule's asset; a rule for any asset has none."""
    on_network = rule.operation in ON_NETWORKS
    return {
        "rule": rule.name,
        "operation": rule.operation.value,
        "asset": rule.asset,
        "network": rule.place if on_network else None,
        "rail": None if on_network else rule.place,
        "flat": maybe_money(rule.flat, rule.asset, assets),
        "percent": rule.percent.text,
        "minimum": maybe_money(rule.minimum, rule.asset, assets),
        "maximum": maybe_money(rule.maximum, rule.asset, assets),
    }


def _limit_view(state: LimitState, reference: str | None, assets: Assets) -> LimitView:
    assert reference is not None
    return {
        "sum": state.sum.value,
        "limit": state.period.value,
        "cap": money(state.cap, reference, assets),
        "used": money(state.used, reference, assets),
        "remaining": money(state.remaining, reference, assets),
        "frees_at": maybe_instant(state.frees_at),
    }


def _allowance_view(state: AllowanceState, reference: str | None, assets: Assets) -> AllowanceView:
    left = None if state.operations is None else max(0, state.operations - (state.operations_used or 0))
    value_left = None if state.value is None else max(0, state.value - (state.value_used or 0))
    return {
        "operation": state.operation.value,
        "operations": state.operations,
        "operations_left": left,
        "value": maybe_money(state.value, reference, assets),
        "value_left": maybe_money(value_left, reference, assets),
        "frees_at": instant(state.frees_at),
    }


def _reference(parts: Parts) -> str | None:
    reference = parts.terms.tariff.reference
    return None if reference is None else reference.code
