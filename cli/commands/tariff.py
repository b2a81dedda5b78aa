"""`onebook tariff`: what users pay and may move, as the file says it; and what an operation would cost by it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from base.clock import SystemClock
from cli.options import Config, Json
from cli.output import Exit, fail, say, show_json, show_table
from ledger.money import Asset, format_amount, parse_amount
from tariff.pricing import Move, Price, allowance_of, price
from tariff.schedule import NOTHING, Allowance, Operation, Rule, Tariff, of_basis_points
from wiring.settings import Settings, find_config, load_settings

if TYPE_CHECKING:
    from fiat.payout_desk import PayoutTerms

app = typer.Typer(help="Fees, limits and tiers: check, show, explain.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def tariff() -> None:
    """Fees, limits and tiers: check, show, explain."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The tariff to look at; it needn't be the one in force.")],
    config: Config = None,
    json: Json = False,
) -> None:
    """Say whether a tariff can be put in force here; what can't be meant is named with its line.

    Exit code 2 for one that is refused, 1 if rates are missing that its limits need.

    Example: onebook tariff check next-tariff.toml
    """
    from exchange.rates_file import RatesFile
    from wiring.tariffs import read_tariff, unvalued

    settings = load_settings(find_config(config))
    told = read_tariff(file, settings)
    missing = []
    if not settings.exchange.sources:  # what they tell is in the database
        missing = unvalued(told, settings, RatesFile(settings.path(settings.rates), clock=SystemClock()).load())
    if json:
        show_json({"file": str(file), "tiers": list(told.tiers), "rules": len(told.rules), "without_rates": missing})
    else:
        say(f"{file}: {len(told.tiers)} tiers, {len(told.rules)} rules")
        for sentence in missing:
            say(f"  {sentence}")
    if missing:
        raise typer.Exit(Exit.DISAGREES)


@app.command()
def show(config: Config = None, json: Json = False) -> None:
    """Show the tariff in force: rules, and by tier what is free, limited, and charged a month.

    Example: onebook tariff show
    """
    from wiring.tariffs import load_tariff

    settings = load_settings(find_config(config))
    told, assets = load_tariff(settings), _assets(settings)
    if json:
        show_json(_document(told, assets))
        return
    rows = [[one["rule"], one["operation"], one["for"], one["costs"]] for one in _document(told, assets)["rules"]]
    show_table("Fees", ("rule", "operation", "for", "costs"), rows)
    for name, tier in _document(told, assets)["tiers"].items():
        say(f"tier {name}{' (default)' if name == told.default_tier else ''}")
        for what, words in tier.items():
            for key, text in words.items():
                say(f"  {what} {key}: {text}")


@app.command()
def explain(
    operation: Annotated[str, typer.Argument(help="transfer, hold, withdrawal, payout, conversion or top_up.")],
    asset: Annotated[str, typer.Argument(help="Which asset is moved.")],
    amount: Annotated[str, typer.Argument(help="How much, as a decimal string.")],
    tier: Annotated[str | None, typer.Option(help="By which tier; else the default one.")] = None,
    place: Annotated[
        str | None, typer.Option(help="The network of a withdrawal, the rail of a payout or top-up.")
    ] = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what an operation costs by the file, by which rule, and why: every step with its exact figures.

    What a user has used up of an allowance is in the book, so it's told as if nothing were.

    Example: onebook tariff explain withdrawal USDC 250.00 --tier verified --place local
    """
    from wiring.tariffs import load_tariff

    settings = load_settings(find_config(config))
    told, assets = load_tariff(settings), _assets(settings)
    if operation not in list(Operation):
        fail(f"{operation!r} is no operation; there is {', '.join(Operation)}", Exit.USAGE)
    if asset not in assets:
        fail(f"{asset!r} is no asset here; there is {', '.join(sorted(assets))}", Exit.USAGE)
    chosen = tier or told.default_tier
    if chosen not in told.tiers:
        fail(f"{chosen!r} is no tier; there is {', '.join(told.tiers)}", Exit.USAGE)
    what, units = Operation(operation), parse_amount(amount, assets[asset])
    fallback = _fallback(settings, what, asset, place)
    found = price(told, chosen, Move("", what, asset, units, place, otherwise=fallback))
    allowance = allowance_of(told, chosen, what)
    document = _explained(found, assets[asset]) | {"free": _free(allowance, told) if allowance else None}
    if json:
        show_json(document)
        return
    for name, value in document.items():
        say(f"{name:16} {'-' if value is None else value}")


def _explained(found: Price, asset: Asset) -> dict[str, Any]:
    shown = {
        "operation": found.operation.value,
        "tier": found.tier,
        "amount": f"{format_amount(found.amount, asset)} {asset.code}",
        "rule": found.rule,
    }
    if found.rule is None:
        return shown | {"why": "no rule fits, and no older setting: nothing is taken", "fee": format_amount(0, asset)}
    part = found.percent.of(found.amount)
    steps = [f"{format_amount(found.flat, asset)} flat"] if found.flat else []
    if found.percent != NOTHING:
        steps.append(f"{found.percent.text} % of {format_amount(found.amount, asset)} = {format_amount(part, asset)}")
    why = " + ".join(steps) or "nothing"
    if found.flat + part < found.minimum:
        why += f", at least {format_amount(found.minimum, asset)}"
    if found.maximum is not None and max(found.flat + part, found.minimum) > found.maximum:
        why += f", at most {format_amount(found.maximum, asset)}"
    return shown | {"why": why, "fee": format_amount(found.full, asset)}


def _fallback(settings: Settings, operation: Operation, asset: str, place: str | None) -> Rule | None:
    """What the older settings take."""
    points = settings.transfer_fee_basis_points
    if operation in (Operation.TRANSFER, Operation.HOLD) and points:
        return Rule("transfer_fee_basis_points", Operation.TRANSFER, percent=of_basis_points(points))
    if operation is Operation.PAYOUT and place is not None:
        terms = _payout_terms(settings).get((place, asset))
        if terms is not None and terms.fee:
            return Rule("payout_fee", Operation.PAYOUT, flat=terms.fee)
    return None


def _payout_terms(settings: Settings) -> "Mapping[tuple[str, str], PayoutTerms]":
    from wiring.banking import bank_terms, paypal_terms

    return {(one.rail, one.asset): one for one in (*bank_terms(settings), *paypal_terms(settings))}


def _assets(settings: Settings) -> dict[str, Asset]:
    return {one.code: Asset(one.code, one.kind, one.scale) for one in settings.assets}


def _document(told: Tariff, assets: Mapping[str, Asset]) -> dict[str, Any]:
    return {
        "default_tier": told.default_tier,
        "reference": None if told.reference is None else told.reference.code,
        "rules": [
            {
                "rule": rule.name,
                "operation": rule.operation.value,
                "for": ", ".join(f"{kind} {name}" for kind, name in rule.named.items()) or "any",
                "costs": _costs(rule, assets),
            }
            for rule in told.rules
        ],
        "tiers": {name: _tier(told, name, assets) for name in told.tiers},
    }


def _costs(rule: Rule, assets: Mapping[str, Asset]) -> str:
    if rule.asset is None:
        return f"{rule.percent.text} %"
    asset = assets[rule.asset]
    parts = [f"{format_amount(rule.flat, asset)} flat"] if rule.flat else []
    parts += [f"{rule.percent.text} %"] if rule.percent != NOTHING else []
    parts += [f"at least {format_amount(rule.minimum, asset)}"] if rule.minimum else []
    parts += [] if rule.maximum is None else [f"at most {format_amount(rule.maximum, asset)}"]
    return ", ".join(parts) or "nothing"


def _tier(told: Tariff, name: str, assets: Mapping[str, Asset]) -> dict[str, dict[str, str]]:
    tier, shown = told.tiers[name], dict[str, dict[str, str]]()
    if told.reference is not None:
        reference = told.reference
        shown["limits"] = {
            what.value: ", ".join(
                f"{period} {format_amount(cap, reference)} {reference.code}"
                for period, cap in (("operation", limit.operation), ("day", limit.day), ("month", limit.month))
                if cap is not None
            )
            for what, limit in tier.limits.items()
        }
    shown["free"] = {what.value: _free(allowance, told) for what, allowance in tier.free.items()}
    if (fee := tier.account_fee) is not None:
        text = f"{format_amount(fee.amount, assets[fee.asset])} {fee.asset} a month; short: {fee.short}"
        shown["account"] = {"fee": text}
    return shown


def _free(allowance: Allowance, told: Tariff) -> str:
    parts = [] if allowance.operations is None else [f"{allowance.operations} operations"]
    if allowance.value is not None and told.reference is not None:
        parts.append(f"{format_amount(allowance.value, told.reference)} {told.reference.code}")
    return " and ".join(parts) + " a month"
