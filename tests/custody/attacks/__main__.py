"""Plays all attacks of the tables on a new signer and prints what each came to: `python -m tests.custody.attacks`."""

import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.custody.attacks.stage import Line, play
from tests.custody.attacks.tables import ATTACKS, attack_policy, chain_of
from tests.support.signer import start_signer


def main() -> int:
    tries, succeeded = Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        signer = start_signer(Path(folder), attack_policy(), afresh=True)
        try:
            with closing(Line(signer)) as line:
                for place, attack in enumerate(ATTACKS):
                    control = Path(folder) / f"control-{place}"
                    control.mkdir()
                    real, without = play(attack, chain_of(attack), line, signer.journal, control)
                    tries.update(real)
                    succeeded += without.count("signed")
                    print(f"{attack.name:58}{len(real):4} refused  {', '.join(sorted(set(real)))}")
        finally:
            signer.stop()
    print(f"{len(ATTACKS)} attacks, {tries.total()} tries, {tries['signed']} signed; {succeeded} without the defences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
