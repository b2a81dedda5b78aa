"""All attacks that are played on one signer, and its policy."""

from tests.custody.attacks import on_approvals, on_fields, on_history, on_limits, on_places
from tests.custody.attacks.stage import Attack, Edit, network_part, shared_part, unchanged

OF_A_THIEF = [*on_limits.ATTACKS, *on_places.ATTACKS, *on_history.ATTACKS]
ON_APPROVALS = [*on_approvals.ATTACKS, *on_fields.ATTACKS]
ON_FREEZES = on_history.FREEZES
ATTACKS: list[Attack] = [*OF_A_THIEF, *ON_APPROVALS, *ON_FREEZES]

SPARE: dict[int, Edit] = dict.fromkeys(range(50_000, 50_040), unchanged)
"""Networks for the tests that aren't in a table."""


def chain_of(attack: Attack) -> int:
    return 40_000 + ATTACKS.index(attack)


def attack_policy() -> str:
    """One policy with a network for each attack."""
    networks = [network_part(chain_of(attack), attack.policy) for attack in ATTACKS]
    return "\n".join([shared_part(), *networks, *(network_part(chain, edit) for chain, edit in SPARE.items())])
