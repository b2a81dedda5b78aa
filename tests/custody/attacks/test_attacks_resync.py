"""What a resync gives back stays paid: a batch, and every leg of it."""

from contextlib import closing
from pathlib import Path

import pytest

from custody.enrolment import enrol
from custody.intents import Intent, subjects_of
from custody.journal import Journal, TakenBack
from custody.policy_file import parse
from custody.service import SignerService
from custody.timekeeping import Reading
from tests.custody.attacks.stage import ACCOUNTS, Scene
from tests.custody.samples import CHAIN, HOT, batch, full_policy, legs, native_transfer

DAY_SECONDS = 86_400


class Passing:
    """Clocks that go together."""

    seconds = 1_800_000_000

    def read(self) -> Reading:
        return Reading(self.seconds * 1_000_000, self.seconds * 1_000_000, "boot")


class ForgetsLegs(Journal):
    """The control: of a batch that was taken back it knows nothing but its own subject."""

    def _used(self, intent: Intent) -> str | None:
        for subject in subjects_of(intent):
            if self._one("subject = ? AND kind IN ('intent', 'resynced')", subject):
                return subject
        return None


def begun(folder: Path, clocks: Passing, kind: type[Journal] = Journal) -> Journal:
    folder.mkdir()
    enrol(folder / "journal.sqlite", ACCOUNTS, parse(full_policy()), clocks=clocks)
    return kind.open(folder / "journal.sqlite", clocks)


@pytest.mark.parametrize("kind", [Journal, ForgetsLegs])
def test_f47_the_legs_of_a_batch_that_a_resync_gave_back_are_not_paid_again(kind: type[Journal], tmp_path: Path):
    clocks, policy = Passing(), parse(full_policy())
    with closing(begun(tmp_path / "lost", clocks)) as lost:
        scene = Scene(CHAIN, tmp_path / "lost" / "journal.sqlite", SignerService(ACCOUNTS, policy, lost).answer)
        raw = scene.honest(batch(scene.payout(), legs=legs(100, 200)))
    with closing(begun(tmp_path / "new", clocks, kind)) as journal:
        service = SignerService(ACCOUNTS, policy, journal)
        journal.record_resync([TakenBack("bat_1", 1, HOT, CHAIN, 0, raw)], approved_by=frozenset({"ada", "ben"}))
        clocks.seconds += DAY_SECONDS + 1  # every window was full for a day
        scene = Scene(CHAIN, tmp_path / "new" / "journal.sqlite", service.answer, is_control=kind is ForgetsLegs)
        for asked in (
            native_transfer(subject="wdr_leg-0", nonce=1, amount=100),
            batch(scene.payout(), subject="bat_2", nonce=1, legs=legs(100, 200)),
        ):
            scene.theft("subject_used", asked)
        if kind is Journal:
            scene.honest(native_transfer(subject="wdr_other", nonce=1, amount=100))
        else:
            assert scene.thefts[0] == "signed"
    Journal.open(tmp_path / "new" / "journal.sqlite", clocks).close()  # verified with its index
