"""Policies, intents and journals in words that people read: amounts with decimals, addresses in pieces, names. Pure.

Names and decimals come from a policy's `[[names]]` alone; what has none there is shown in smallest units, and the
network's own coin with 18 decimals, as every EVM network has it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from custody.derivation import checksummed
from custody.intents import NATIVE, KeyRef, keys_name
from custody.policy import UNLIMITED, Action, Anyone, Kind, Label, Listed, Match, Named, Own, Policy, Rule

NATIVE_DECIMALS: Final = 18

_CHUNK: Final = 4
_PHRASES: Final[dict[Kind, str]] = {
    Kind.TRANSFER: "pay {what} to {where}",
    Kind.PAYOUT: "pay {what} in batches through {where}",
    Kind.ALLOWANCE: "let {where} take {what} for a batch",
    Kind.SWEEP: "sweep {what} to {where}",
    Kind.TOP_UP: "give {what} for gas to {where}",
    Kind.AUTHORISATION: "authorise moving {what} to {where}",
    Kind.RELAY: "carry authorisations of {what}",
    Kind.DEPLOYMENT: "deploy {where}",
    Kind.ANCHOR: "write roots to {where}",
    Kind.PROOF: "prove control of {where}",
}
"""What a rule lets a key do."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What one policy calls things."""

    policy: Policy

    def network(self, chain_id: int) -> str:
        """`network 1 (mainnet)`."""
        name = self.policy.network_names.get(chain_id)
        return f"network {chain_id}" + (f" ({name})" if name else "")

    def asset(self, chain_id: int, asset: str) -> str:
        """`USDC`, `coins` (the network's own), or the contract."""
        label = self._label(chain_id, asset)
        if label is not None:
            return label.name
        return "coins" if asset == NATIVE else checksummed(bytes.fromhex(asset[2:]))

    def amount(self, chain_id: int, asset: str, units: int) -> str:
        """`12.5 USDC`; in smallest units where nobody says how many decimals there are."""
        told = self.quantity(chain_id, asset, units)
        if units >= UNLIMITED or told.endswith(self.asset(chain_id, asset)):
            return told
        return f"{told} of {self.asset(chain_id, asset)}"

    def quantity(self, chain_id: int, asset: str, units: int) -> str:
        """The same, where the asset is known already: a name that it has, but never its address."""
        if units >= UNLIMITED:
            return "any amount"
        decimals = self.decimals(chain_id, asset)
        if decimals is None:
            return f"{units} smallest units"
        label = self._label(chain_id, asset)
        return f"{decimal(units, decimals)} {label.name if label else 'coins'}"

    def decimals(self, chain_id: int, asset: str) -> int | None:
        """How many decimals an asset has; None where nobody says."""
        label = self._label(chain_id, asset)
        if label is not None and label.decimals is not None:
            return label.decimals
        return NATIVE_DECIMALS if asset == NATIVE else None

    def fee(self, chain_id: int, wei: int) -> str:
        """A network fee."""
        return self.amount(chain_id, NATIVE, wei)

    def address(self, chain_id: int, address: bytes) -> str:
        """EIP-55 spelling in pieces of four, and its name where the policy has one."""
        label = self._label(chain_id, "0x" + address.hex())
        return in_pieces(address) + (f" ({label.name})" if label is not None else "")

    def match(self, chain_id: int, match: Match | None) -> str:
        """Where a rule's intents go."""
        match match:
            case None:
                return ""
            case Anyone():
                return "anybody"
            case Own(role=role, index=None):
                return f"any {role.value} address of ours"
            case Own(role=role, index=index, generation=generation):
                return f"our {keys_name(role, generation)} address {index}"
            case Named(contract=name):
                return f"our contract {name!r}"
            case Listed(addresses=addresses):
                return ", ".join(self.address(chain_id, one) for one in sorted(addresses))

    def rule(self, rule: Rule) -> str:
        """A rule as one sentence."""
        what = self.asset(rule.chain_id, rule.asset) if rule.asset else ""
        done = _PHRASES[rule.kind].format(what=what, where=self.match(rule.chain_id, rule.to))
        may = "may" if rule.action is Action.ALLOW else "may never"
        text = f"the {rule.role.value} key {may} {done} on {self.network(rule.chain_id)}"
        return text if rule.action is Action.DENY else f"{text}: {'; '.join(self.limits(rule))}"

    def limits(self, rule: Rule) -> list[str]:
        """What holds a rule's intents back."""
        said = []
        if rule.asset is not None and rule.kind not in (Kind.PAYOUT, Kind.RELAY):
            for limit, when in ((rule.per_transfer, "at once"), (rule.per_hour, "an hour"), (rule.per_day, "a day")):
                if limit < UNLIMITED:
                    said.append(f"at most {self.quantity(rule.chain_id, rule.asset, limit)} {when}")
            if not said:
                said.append("any amount, at any time")
        if rule.kind not in (Kind.AUTHORISATION, Kind.PROOF):
            said.append(f"fee at most {self.fee(rule.chain_id, rule.fee_wei_max)}")
        if rule.approvals:
            after = ""
            if rule.approvals_above and rule.asset:
                after = f" once the day comes to over {self.quantity(rule.chain_id, rule.asset, rule.approvals_above)}"
            said.append(f"with {rule.approvals} approval{'s' if rule.approvals > 1 else ''}{after}")
        return said or ["without limits"]

    def _label(self, chain_id: int, place: str) -> Label | None:
        return next((one for one in self.policy.labels if (one.chain_id, one.place) == (chain_id, place)), None)


def in_pieces(address: bytes) -> str:
    """`0x7099 7970 C518 ...`: an address as people compare it, in EIP-55 spelling."""
    digits = checksummed(address)[2:]
    return "0x" + " ".join(digits[start : start + _CHUNK] for start in range(0, len(digits), _CHUNK))


def decimal(units: int, decimals: int) -> str:
    """Smallest units as an exact decimal string, without zeros at its end."""
    whole, rest = divmod(units, 10**decimals)
    digits = str(rest).zfill(decimals).rstrip("0") if decimals else ""
    return f"{whole}.{digits}" if digits else str(whole)


def key_text(key: KeyRef) -> str:
    """`our hot key 0`."""
    return f"our {key.keys} key {key.index}"


def instant_text(seconds: int) -> str:
    """Unix seconds as people write them."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {seconds} of the Unix epoch: thousands of years from now"
