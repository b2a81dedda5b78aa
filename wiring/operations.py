"""Building what people do by hand: the audit log, freezes, adjustments and their limits, proposals, periods."""

import hashlib
from datetime import timedelta
from zoneinfo import ZoneInfo

from base.errors import ConfigError, OnebookError
from fiat.top_ups import BANK
from ledger.canonical import dump
from ledger.money import Asset, parse_amount
from treasury.adjustments import Adjustments
from treasury.approvals import PolicyCopy
from treasury.errors import ApprovalsUnavailable
from treasury.freezes import Freezes
from treasury.operations.acts import Actor
from treasury.operations.audit_log import AuditLog
from treasury.operations.manual_limits import ManualLimit, ManualLimits
from treasury.periods import Periods
from treasury.proposals import Proposals
from wiring.parts import Parts
from wiring.settings import Settings


def build_audit_log(parts: Parts) -> AuditLog:
    """What people did."""
    return AuditLog(parts.engine, ledger=parts.ledger, clock=parts.clock, entropy=parts.entropy)


def build_freezes(parts: Parts) -> Freezes:
    """Freezes, of the networks, rails and bank accounts that are configured among others."""
    accounts = [account.name for account in parts.settings.bank_accounts]
    rails = [name for name, told in parts.settings.rails if name != "fee_bearer" and told is not None]
    places = {*parts.registry.networks, *accounts, BANK, *rails}
    return Freezes(parts.engine, ledger=parts.ledger, clock=parts.clock, entropy=parts.entropy, networks=places)


def build_adjustments(parts: Parts) -> Adjustments:
    """Adjustments, as much as the settings let one treasurer move alone. Raises ConfigError, InvalidAmount."""
    return Adjustments(
        parts.engine,
        ledger=parts.ledger,
        clock=parts.clock,
        entropy=parts.entropy,
        limits=manual_limits(parts.settings),
    )


def build_proposals(parts: Parts, adjustments: Adjustments) -> Proposals:
    """What needs a second treasurer."""
    return Proposals(
        parts.engine,
        ledger=parts.ledger,
        adjustments=adjustments,
        clock=parts.clock,
        entropy=parts.entropy,
        valid_for=timedelta(hours=parts.settings.treasury.proposal_hours),
    )


def build_periods(parts: Parts) -> Periods:
    """Periods by the treasury's own days and months."""
    zone = ZoneInfo(parts.settings.treasury.time_zone)
    return Periods(parts.engine, ledger=parts.ledger, clock=parts.clock, entropy=parts.entropy, zone=zone)


def manual_limits(settings: Settings) -> ManualLimits:
    """The limits of the settings, in smallest units. Raises ConfigError for an asset that isn't there."""
    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
    found: dict[str, ManualLimit] = {}
    for number, told in enumerate(settings.treasury.manual):
        where = settings.where("treasury", "manual", number, "asset")
        if told.asset not in assets:
            raise ConfigError(f"{where}: there is no asset {told.asset}; add it under [[assets]]", param="asset")
        if told.asset in found:
            raise ConfigError(f"{where}: {told.asset} has a limit already", param="asset")
        asset = assets[told.asset]
        found[told.asset] = ManualLimit(
            per_entry=None if told.per_entry is None else parse_amount(told.per_entry, asset, least=0),
            per_day=None if told.per_day is None else parse_amount(told.per_day, asset, least=0),
        )
    return ManualLimits(found, ZoneInfo(settings.treasury.time_zone))


async def note_start(parts: Parts, process: str) -> str | None:
    """Note in the audit log with which configuration and policy a process starts; else say why that can't be now.

    `config` is the SHA-256 of all settings, secrets left out; the policy is the copy that this process reads.
    """
    settings = parts.settings
    told: dict[str, object] = {"config": hashlib.sha256(dump(settings.model_dump(mode="json"))).hexdigest()}
    try:
        policy = PolicyCopy(settings.path(settings.policy))()
        told |= {"policy_version": policy.version, "policy_fingerprint": policy.fingerprint.hex()}
    except ApprovalsUnavailable:
        pass  # no policy can be read here: nothing is signed by it either
    log = build_audit_log(parts)
    try:
        await parts.gate.require()
        await log.note(
            log.act(Actor(f"process:{process}"), "process.start", subject=process, detail=dump(told).decode())
        )
    except OnebookError as problem:
        return problem.message
    return None
