"""The signatures under a policy, in a file beside it (`policy.toml.signatures`). Pure, but for reading and writing it.

{"version": 3, "policy": "FINGERPRINT", "signatures": [{"by": "ada", "scheme": "ed25519", "signature": "HEX"}, ...]}
"""

import json
from dataclasses import dataclass
from pathlib import Path

from base.files import write_atomically
from custody.approvals import SIGNATURES_MAX, Signature
from custody.errors import PolicyInvalid

_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class PolicySignatures:
    """Who signed which policy."""

    version: int
    fingerprint: bytes
    signatures: tuple[Signature, ...]


def signatures_path(policy: Path) -> Path:
    """Where the signatures under a policy lie."""
    return policy.with_name(policy.name + ".signatures")


def read_signatures(policy: Path) -> PolicySignatures | None:
    """The signatures beside a policy's file; None when there are none. Raises PolicyInvalid."""
    path = signatures_path(policy)
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise ValueError("it is too long")
        told = json.loads(path.read_text(encoding="utf-8"))
        signatures = tuple(
            Signature(str(one["by"]), bytes.fromhex(one["signature"]), str(one["scheme"]))
            for one in told["signatures"][:SIGNATURES_MAX]
        )
        return PolicySignatures(int(told["version"]), bytes.fromhex(told["policy"]), signatures)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise PolicyInvalid(f"{path} isn't a file of signatures: {problem}") from problem


def encode_signatures(signed: PolicySignatures) -> str:
    """The file's text."""
    listed = [{"by": one.by, "scheme": one.scheme, "signature": one.signature.hex()} for one in signed.signatures]
    told = {"version": signed.version, "policy": signed.fingerprint.hex(), "signatures": listed}
    return json.dumps(told, indent=2) + "\n"


def add_signature(policy: Path, *, version: int, fingerprint: bytes, signature: Signature) -> PolicySignatures:
    """Put a signature beside those under a policy's file. Raises PolicyInvalid when they are under another policy, or
    somebody signs twice."""
    known = read_signatures(policy) or PolicySignatures(version, fingerprint, ())
    if (known.version, known.fingerprint) != (version, fingerprint):
        raise PolicyInvalid(
            f"{signatures_path(policy)} has signatures under another policy (version {known.version}): move it away"
        )
    if any(one.by == signature.by for one in known.signatures):
        raise PolicyInvalid(f"{signature.by} has signed this policy already")
    if len(known.signatures) >= SIGNATURES_MAX:
        raise PolicyInvalid(f"at most {SIGNATURES_MAX} signatures are kept")
    signed = PolicySignatures(version, fingerprint, (*known.signatures, signature))
    write_atomically(signatures_path(policy), encode_signatures(signed).encode())
    return signed
