"""Signers without one of their defences: the controls of attacks. None of this is reachable from the shipped signer."""

from collections.abc import Mapping
from typing import Any

import cbor2

from custody.derivation import Role
from custody.intents import _FIELDS, _FORMS, Cancel, First, Intent, KeyRef, Leg
from custody.journal import Journal, Scope
from custody.judging import Denied, evaluate
from custody.nonces import Journalled
from custody.service import SignerService, _Refusal
from custody.timekeeping import Moment


class BelievesSignatures(SignerService):
    """Counts approvals without looking at them."""

    def _approved_by(self, intent: First, mandate: Any, at: Moment) -> frozenset[str]:
        return frozenset(f"{one.by} {place}" for place, one in enumerate(mandate.approvals))


class ForgetsHistory(SignerService):
    """Asks the policy, but neither nonces nor what was signed before."""

    def _settled(self, intent: Intent, mandate: Any, claims: Any, at: Moment) -> Any:
        if not isinstance(intent, Cancel):
            people = frozenset() if mandate is None else self._approved_by(intent, mandate, at)
            decision = evaluate(self._policy, self._situation(at, people), intent)
            if isinstance(decision, Denied):
                raise _Refusal(decision.code, decision.sentence)
        return self._ok(raw=self._bytes(intent))


class ForgetsRules(SignerService):
    """Asks the journal, but not the policy."""

    def _allowed(self, intent: First, facts: Any, mandate: Any, claims: Any, at: Moment) -> Journalled:
        return self._journal.record_intent(intent, rule="none", fee_wei_max=2**160, at=at)


class BuildsOnSand(SignerService):
    """Looks for neither a batch's allowance nor a relay's authorisation."""

    def _check_history(self, intent: First) -> None:
        pass


class TakesAnyJournal(SignerService):
    """Doesn't compare its journal with what askers have seen."""

    def _check_progress(self, highest: object) -> None:
        pass


class ForgetsBudgets(SignerService):
    """Lets replacements cost what they like."""

    def _check_budget(self, successor: Any, at: Moment) -> None:
        pass


class AnyOne(SignerService):
    """Lets one person do what several should."""

    def _enough(self, question: Any, statement: bytes, needed: int) -> frozenset[str]:
        return frozenset(str(one[0]) for one in question["signatures"])


class NeverFrozen(Journal):
    """A journal that forgets freezes."""

    def frozen_scope(self, intent: Intent, asset: str | None) -> Scope | None:
        return None


class TakesAnything(SignerService):
    """Reads whatever CBOR there is as best it can, checks no form, and signs."""

    def _decide(self, body: bytes) -> Any:
        question = cbor2.loads(body)
        if question.get("call") != "sign" or not isinstance(question.get("intent"), Mapping):
            return super()._decide(body)
        return self._ok(raw=self._bytes(formless(question["intent"])))


class SignsHashes(SignerService):
    """What no signer should be: signs any 32 bytes that it finds."""

    def _decide(self, body: bytes) -> Any:
        question = cbor2.loads(body)
        found = [one for one in _leaves(question) if isinstance(one, bytes) and len(one) == 32]
        if question.get("call") == "status" or not found:
            return super()._decide(body)
        return self._ok(raw=repr(self._keys[Role.HOT].sign(0, found[0])).encode())


def _leaves(told: Any) -> list[Any]:
    if isinstance(told, dict):
        return [leaf for value in told.values() for leaf in _leaves(value)]
    return [leaf for value in told for leaf in _leaves(value)] if isinstance(told, list) else [told]


def formless(told: Mapping[Any, Any]) -> Any:
    """An intent as it was told, without one check: missing numbers are 1, odd ones made whole."""
    form = _FORMS[_text(told["kind"])]
    intent = object.__new__(form)
    for name in _FIELDS[form.kind]:
        object.__setattr__(intent, name, _loosely(name, told.get(name, 1)))
    return intent


def _loosely(name: str, value: Any) -> Any:
    if name == "legs":
        return tuple(_unchecked(Leg, subject=leg[0], to=leg[1], amount=int(leg[2])) for leg in value)
    if isinstance(value, list | tuple) and len(value) == 2:
        return _unchecked(KeyRef, role=Role(value[0]), index=int(value[1]), generation=1)
    if isinstance(value, float | bool):
        return int(value)
    return _text(value) if name in ("subject", "epoch", "batch", "authorisation") else value


def _unchecked(form: type[Any], **values: Any) -> Any:
    made = object.__new__(form)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
