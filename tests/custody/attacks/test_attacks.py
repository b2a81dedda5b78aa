"""Every attack of the tables against the real signer's socket, its control, and its accepted twin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.custody.attacks import on_approvals, on_history, on_limits, on_places
from tests.custody.attacks.stage import Attack, Line, attack_policy, chain_of, play
from tests.support.signer import RunningSigner, start_signer

pytestmark = pytest.mark.slow

ATTACKS = [*on_limits.ATTACKS, *on_approvals.ATTACKS, *on_places.ATTACKS, *on_history.ATTACKS]


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSigner]:
    running = start_signer(tmp_path_factory.mktemp("attacked"), attack_policy(ATTACKS))
    yield running
    running.stop()


@pytest.fixture
def line(attacked: RunningSigner) -> Iterator[Line]:
    made = Line(attacked)
    yield made
    made.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])
def test_the_attack_is_refused_its_control_succeeds_its_twin_is_signed(
    attack: Attack, attacked: RunningSigner, line: Line, tmp_path: Path
):
    real, without = play(attack, chain_of(ATTACKS, attack), line, attacked.journal, tmp_path)
    print(f"{attack.name}: {', '.join(sorted(set(real)))}; without the defence: {without.count('signed')} signed")
    assert attacked.child.poll() is None


def test_there_are_enough_attacks_and_none_twice():
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names) >= 40
