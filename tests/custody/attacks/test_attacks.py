"""Every attack of the tables against the real signer's socket, its control, and its accepted twin."""

from pathlib import Path

import pytest

from tests.custody.attacks.stage import Attack, Line, play
from tests.custody.attacks.tables import ATTACKS, OF_A_THIEF, ON_APPROVALS, ON_FREEZES, chain_of
from tests.support.signer import RunningSigner

pytestmark = pytest.mark.slow


def name_of(attack: Attack) -> str:
    return attack.name


def show(attack: Attack, signer: RunningSigner, line: Line, folder: Path) -> None:
    real, without = play(attack, chain_of(attack), line, signer.journal, folder)
    told = f"{len(real)} tries: {', '.join(sorted(set(real)))}"
    print(f"{attack.name:58}{told}; {without.count('signed')} signed without the defence; twin signed")
    assert signer.child.poll() is None


@pytest.mark.parametrize("attack", OF_A_THIEF, ids=name_of)
def test_f52_the_attack_is_refused_its_control_succeeds_its_twin_is_signed(
    attack: Attack, attacked: RunningSigner, line: Line, tmp_path: Path
):
    show(attack, attacked, line, tmp_path)


@pytest.mark.parametrize("attack", ON_APPROVALS, ids=name_of)
def test_f54_an_approval_is_good_for_what_was_approved_and_for_nothing_else(
    attack: Attack, attacked: RunningSigner, line: Line, tmp_path: Path
):
    show(attack, attacked, line, tmp_path)


@pytest.mark.parametrize("attack", ON_FREEZES, ids=name_of)
def test_f80_what_one_person_froze_only_several_can_lift(
    attack: Attack, attacked: RunningSigner, line: Line, tmp_path: Path
):
    show(attack, attacked, line, tmp_path)


def test_there_are_enough_attacks_and_none_twice():
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names) >= 40
