"""Why an intent would be signed or not, without a signer: by a policy, and a journal's copy where there is one. Pure.

It decides nothing and proves nothing: signatures aren't looked at, approvals are supposed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from custody.counting import Counts, value_key
from custody.intents import Cancel, Intent, KeyRef, asset_of, keys_of
from custody.journal import Journal
from custody.judging import Allowed, Situation, evaluate, speaking_rule
from custody.nonces import Conflict, Fresh, Repeat, Successor, judge, nonce_conflict
from custody.policy import UNLIMITED, Policy, Rule
from custody.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Explanation:
    """A yes or a no: its code (`allowed`, or a refusal's), sentence and rule; what was counted; what's missing for a
    yes, and what was supposed because nobody said."""

    code: str
    sentence: str
    rule: Rule | None = None
    counted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    supposed: tuple[str, ...] = ()

    @property
    def is_allowed(self) -> bool:
        return self.code == "allowed"


def explain(
    policy: Policy,
    intent: Intent,
    *,
    seconds: int,
    journal: Journal | None = None,
    approved_by: frozenset[str] = frozenset(),
    own_addresses: Mapping[KeyRef, bytes] | None = None,
) -> Explanation:
    """What the signer would say at `seconds` (Unix), had `approved_by` signed. `own_addresses` are of the keys that
    create the policy's contracts."""
    supposed = list(_supposed(policy, journal, own_addresses))
    situation = Situation(
        counts=Counts() if journal is None else journal.counts,
        window_us=_window_us(journal, seconds),
        seconds=seconds,
        approved_by=approved_by,
        own_addresses=own_addresses or {},
    )
    found = _by_journal(policy, intent, situation, journal)
    return replace(found, supposed=tuple(supposed))


def _supposed(policy: Policy, journal: Journal | None, own_addresses: Mapping[KeyRef, bytes] | None) -> tuple[str, ...]:
    said = []
    if journal is None:
        said.append("nothing was signed before: without a journal every window is empty, and every nonce right")
    elif journal.enrolment.policy_fingerprint != policy.fingerprint:
        said.append(f"this policy is in force; the journal's is version {journal.enrolment.policy_version}")
    if policy.contracts and not own_addresses:
        said.append("contracts of our own match nothing, since their creator's address isn't known here")
    return tuple(said)


def _window_us(journal: Journal | None, seconds: int) -> int:
    """The windows' measure then, had the clocks run on undisturbed since the journal's last row."""
    if journal is None:
        return seconds * 1_000_000
    return journal.last.window_us + max(0, seconds * 1_000_000 - journal.last.at_us)


def _by_journal(policy: Policy, intent: Intent, situation: Situation, journal: Journal | None) -> Explanation:
    if journal is None:
        if isinstance(intent, Cancel):
            return Explanation("nothing_to_cancel", "a cancellation is judged by the journal: give a copy of it")
        return _by_policy(policy, intent, situation)
    if journal.halted is not None:
        return Explanation("journal_halted", "the signer waits for a resync")
    frozen = journal.frozen_scope(intent, asset_of(intent))
    if frozen is not None:
        return Explanation("frozen", f"{frozen} is frozen", missing=(f"the freeze of {frozen} is lifted",))
    facts = journal.nonce_facts(intent, first_nonce=policy.first_nonce(intent.chain_id, intent.sender))
    verdict = judge(intent, facts)
    match verdict:
        case Repeat(journalled=journalled):
            return Explanation("allowed", f"asked before, in row {journalled.sequence}: the same bytes again")
        case Successor(of=of):
            said = f"replaces attempt {of.intent.attempt} of {intent.subject}: no new decision, within its first fee"
            return Explanation("allowed", said)
        case Conflict(code=code, sentence=sentence):
            return Explanation(code, sentence)
        case Fresh(intent=fresh):
            decided = _by_policy(policy, fresh, situation)
            conflict = nonce_conflict(fresh, facts) if decided.is_allowed else None
            if conflict is not None:
                missing = (f"nonce {facts.next_nonce}",)
                return replace(decided, code=conflict.code, sentence=conflict.sentence, missing=missing)
            return decided


def _by_policy(policy: Policy, intent: Intent, situation: Situation) -> Explanation:
    assert not isinstance(intent, Cancel)
    rule = speaking_rule(policy, situation, intent)
    decision = evaluate(policy, situation, intent)
    counted = _counted(policy, intent, situation)
    if isinstance(decision, Allowed):
        return Explanation("allowed", f"rule {decision.rule.name!r} allows it", decision.rule, counted)
    missing = _missing(policy, intent, situation, decision.code, rule)
    return Explanation(decision.code, decision.sentence, rule, counted, missing)


def _counted(policy: Policy, intent: Intent, situation: Situation) -> tuple[str, ...]:
    key = value_key(intent)
    if key is None:
        return ()
    counts, at_us, words = situation.counts, situation.window_us, Vocabulary(policy)

    def spell(units: int) -> str:
        return "a full window" if units >= UNLIMITED else words.amount(key.chain_id, key.asset, units)

    said = [
        f"{spell(counts.spent_in_hour(key, at_us=at_us))} signed within an hour",
        f"{spell(counts.spent_in_day(key, at_us=at_us))} within 24 hours",
    ]
    return tuple(said)


def _missing(policy: Policy, intent: Intent, situation: Situation, code: str, rule: Rule | None) -> tuple[str, ...]:
    """What would turn the no into a yes, where that is a plain thing."""
    assert not isinstance(intent, Cancel)
    given = len(situation.approved_by)
    match code:
        case "approvals_missing" if rule is not None:
            return (_approvals(policy, situation, rule.approvals - given),)
        case "over_ceiling" if policy.ceilings is not None:
            return (_approvals(policy, situation, policy.ceilings.approvals - given),)
        case "network_not_allowed" | "asset_not_listed" | "role_not_allowed" | "destination_not_listed":
            return ("a rule that speaks of it",)
        case "contract_unknown":
            return ("the contract under [[contracts]]",)
        case "domain_differs":
            return ("the token's EIP-712 domain under [[tokens]]",)
        case "no_value":
            return ("a value of the asset that hasn't ended, under [[values]]",)
        case "index_too_high":
            beyond = [key for key in keys_of(intent) if key.index > policy.highest_index.get(key.role, -1)]
            return tuple(f"a highest_index of {key.role.value} that reaches {key.index}" for key in beyond)
        case _:
            return ()


def _approvals(policy: Policy, situation: Situation, count: int) -> str:
    left = sorted({person.name for person in policy.people} - situation.approved_by)
    return f"{count} more approval{'s' if count > 1 else ''}, of {', '.join(left)}; never its maker's"
