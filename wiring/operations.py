"""Building what people do by hand: the audit log, freezes, adjustments and their limits, proposals, periods."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from typing_extensions import TypedDict

from base.clock import Clock
from base.entropy import Entropy
from base.errors import ConfigError, OnebookError
from fiat.top_ups import BANK
from ledger.canonical import dump
from ledger.engine import Ledger
from ledger.money import Asset, parse_amount
from treasury.adjustments import Adjustments
from treasury.approvals import PolicyCopy
from treasury.by_hand_alone import ByHandAlone
from treasury.credit_lines import CreditLines
from treasury.errors import ApprovalsUnavailable
from treasury.freezes import Freezes
from treasury.operations.acts import Actor
from treasury.operations.audit_log import AuditLog
from treasury.operations.manual_limits import ManualLimit, ManualLimits, WorthLimit
from treasury.periods import Periods
from treasury.proposals import Proposals
from treasury.reversals import Reversals
from wiring.exchange import build_rates
from wiring.parts import Parts
from wiring.settings import Settings
from wiring.treasury_settings import ManualLimitSettings, ManualWorthSettings, treasury_faults


class Common(TypedDict):
    ledger: Ledger
    clock: Clock
    entropy: Entropy


@dataclass(frozen=True, slots=True)
class ByHand:
    """The services of what people move by hand; they share one set of limits."""

    adjustments: Adjustments
    reversals: Reversals
    credit_lines: CreditLines
    periods: Periods
    proposals: Proposals


def build_audit_log(parts: Parts) -> AuditLog:
    """What people did."""
    return AuditLog(parts.engine, ledger=parts.ledger, clock=parts.clock, entropy=parts.entropy)


def build_freezes(parts: Parts) -> Freezes:
    """Freezes, of the networks, rails and bank accounts that are configured among others."""
    accounts = [account.name for account in parts.settings.bank_accounts]
    rails = [name for name, told in parts.settings.rails if name != "fee_bearer" and told is not None]
    places = {*parts.registry.networks, *accounts, BANK, *rails}
    return Freezes(parts.engine, ledger=parts.ledger, clock=parts.clock, entropy=parts.entropy, networks=places)


def build_alone(parts: Parts) -> ByHandAlone:
    """How much the settings let one treasurer move alone. Raises ConfigError, InvalidAmount."""
    return ByHandAlone(
        manual_limits(parts.settings),
        ledger=parts.ledger,
        clock=parts.clock,
        rates=build_rates(parts.settings, parts.engine, parts.clock),
    )


def build_by_hand(parts: Parts) -> ByHand:
    """All that people move by hand, alone and by two."""
    common: Common = {"ledger": parts.ledger, "clock": parts.clock, "entropy": parts.entropy}
    alone, periods = build_alone(parts), build_periods(parts)
    adjustments = Adjustments(parts.engine, alone=alone, **common)
    reversals = Reversals(alone=alone, **common)
    credit_lines = CreditLines(parts.ledger, alone=alone)
    proposals = Proposals(
        parts.engine,
        adjustments=adjustments,
        reversals=reversals,
        credit_lines=credit_lines,
        periods=periods,
        valid_for=timedelta(hours=parts.settings.treasury.proposal_hours),
        **common,
    )
    return ByHand(adjustments, reversals, credit_lines, periods, proposals)


def build_periods(parts: Parts) -> Periods:
    """Periods by the treasury's own days and months."""
    zone = ZoneInfo(parts.settings.treasury.time_zone)
    return Periods(parts.engine, ledger=parts.ledger, clock=parts.clock, entropy=parts.entropy, zone=zone)


def manual_limits(settings: Settings) -> ManualLimits:
    """The limits of the settings, in smallest units. Raises ConfigError, InvalidAmount, where the settings weren't read
    from a file that was checked."""
    assets = {asset.code: Asset(asset.code, asset.kind, asset.scale) for asset in settings.assets}
    treasury, exchange = settings.treasury, settings.exchange
    for fault in treasury_faults(treasury, assets, exchange.reference, settings.where):
        raise ConfigError(fault)
    worth, reference = treasury.manual_worth, exchange.reference
    of_all = None
    if worth is not None:
        asset = assets[worth.asset or reference or ""]
        of_all = WorthLimit(asset, _limit(worth, asset))
    by_asset = {told.asset: _limit(told, assets[told.asset]) for told in treasury.manual}
    return ManualLimits(by_asset, ZoneInfo(treasury.time_zone), of_all)


def _limit(told: ManualLimitSettings | ManualWorthSettings, asset: Asset) -> ManualLimit:
    return ManualLimit(
        per_entry=None if told.per_entry is None else parse_amount(told.per_entry, asset, least=0),
        per_day=None if told.per_day is None else parse_amount(told.per_day, asset, least=0),
    )


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
