"""What is asked of approvers, as JSON: an intent's terms and the mandate, in files and at the API. Pure.

{"terms": {...}, "maker": "cleo", "not_after": "2027-01-01T00:00:00Z", "fee_wei_max": "1000", "policy_version": 3,
 "policy_fingerprint": "HEX", "made_by": {"by": "cleo", "scheme": "ed25519", "signature": "HEX"}}

`made_by` is null for a user's withdrawal, whose maker is a claim. A signature in a file of its own says what it's under
as well: {"statement": "HEX", "by": ..., "scheme": ..., "signature": ...}.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from custody.approvals import Mandate, Signature, approval_statement, maker_statement
from custody.errors import IntentInvalid
from custody.intent_json import intent_from_terms_json, terms_to_json
from custody.intents import First

USER_WITHDRAWAL: Final = "wdr_"
"""Subjects whose maker is a user: a claim, not a signature."""

_TEXT_MAX: Final = 256 * 1024
_FIELDS: Final = frozenset(
    {"terms", "maker", "not_after", "fee_wei_max", "policy_version", "policy_fingerprint", "made_by"}
)
_HEX: Final = re.compile(r"([0-9a-f]{2}){1,8192}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """What is asked: of the intent only its terms count. The mandate has no approvals yet."""

    intent: First
    mandate: Mandate

    @property
    def statement(self) -> bytes:
        """What approvers sign."""
        return approval_statement(self.intent, self.mandate)

    @property
    def made(self) -> bytes:
        """What the maker signs."""
        return maker_statement(self.intent, self.mandate)

    @property
    def needs_maker(self) -> bool:
        """Whether its maker must be one of the people, and sign it."""
        return not self.intent.subject.startswith(USER_WITHDRAWAL)


def request_to_json(request: ApprovalRequest) -> dict[str, object]:
    """A request as JSON values."""
    mandate = request.mandate
    return {
        "terms": terms_to_json(request.intent),
        "maker": mandate.maker,
        "not_after": datetime.fromtimestamp(mandate.not_after, UTC).strftime(_INSTANT),
        "fee_wei_max": str(mandate.fee_wei_max),
        "policy_version": mandate.policy_version,
        "policy_fingerprint": mandate.policy_fingerprint.hex(),
        "made_by": None if mandate.made_by is None else signature_to_json(mandate.made_by),
    }


def request_from_json(told: object) -> ApprovalRequest:
    """The request that JSON values mean. Raises IntentInvalid naming the field at fault."""
    if not isinstance(told, dict) or told.keys() != _FIELDS:
        raise IntentInvalid(f"a request has exactly {', '.join(sorted(_FIELDS))}")
    fee = told["fee_wei_max"]
    if not isinstance(fee, str) or not fee.isdecimal() or not fee.isascii() or len(fee) > 60:
        raise IntentInvalid("fee_wei_max is a whole number as a string of digits", param="fee_wei_max")
    mandate = Mandate(
        maker=told["maker"],
        not_after=_seconds(told["not_after"]),
        fee_wei_max=int(fee),
        policy_version=told["policy_version"],
        policy_fingerprint=fingerprint_from_text(told["policy_fingerprint"]),
        made_by=None if told["made_by"] is None else signature_from_json(told["made_by"]),
    )
    return ApprovalRequest(intent_from_terms_json(told["terms"]), mandate)


def read_request(text: str) -> ApprovalRequest:
    """The request in a file's text. Raises IntentInvalid."""
    return request_from_json(_parsed(text, "a request"))


def signature_to_json(signature: Signature) -> dict[str, object]:
    """A signature as JSON values."""
    return {"by": signature.by, "scheme": signature.scheme, "signature": signature.signature.hex()}


def signature_from_json(told: object) -> Signature:
    """The signature that JSON values mean. Raises IntentInvalid."""
    match told:
        case {"by": str(by), "scheme": str(scheme), "signature": str(signature), **rest} if not rest:
            if len(by) <= 64 and len(scheme) <= 64 and _HEX.fullmatch(signature):
                return Signature(by, bytes.fromhex(signature), scheme)
    raise IntentInvalid("a signature has by, scheme and signature (hexadecimal)", param="signature")


def signed_to_text(statement: bytes, signature: Signature) -> str:
    """A signature's file."""
    return json.dumps({"statement": statement.hex(), **signature_to_json(signature)}, indent=2) + "\n"


def signed_from_text(text: str) -> tuple[bytes, Signature]:
    """The statement and the signature in a file. Raises IntentInvalid."""
    told = _parsed(text, "a signature")
    if not isinstance(told, dict) or not isinstance(told.get("statement"), str):
        raise IntentInvalid("a signature's file says under which statement it is")
    statement = told.pop("statement")
    if not _HEX.fullmatch(statement):
        raise IntentInvalid("a statement is written in hexadecimal")
    return bytes.fromhex(statement), signature_from_json(told)


def fingerprint_from_text(told: object) -> bytes:
    """A policy's fingerprint out of 64 hexadecimal digits. Raises IntentInvalid."""
    if not isinstance(told, str) or not _FINGERPRINT.fullmatch(told):
        raise IntentInvalid("policy_fingerprint is 64 hexadecimal digits", param="policy_fingerprint")
    return bytes.fromhex(told)


def _parsed(text: str, what: str) -> object:
    if len(text) > _TEXT_MAX:
        raise IntentInvalid(f"the file is too long for {what}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise IntentInvalid(f"{what} is JSON, and this isn't: {problem}") from problem


def _seconds(told: object) -> int:
    try:
        return int(datetime.strptime(str(told), _INSTANT).replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError) as problem:
        raise IntentInvalid('not_after is written "2027-01-01T00:00:00Z"', param="not_after") from problem
