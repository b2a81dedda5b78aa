"""A small haystack: a hand for each check; its needle is found, and missed without the check. And cycles stay quiet.

All hands, in a book of 100,000 accounts and with a thousand clean cycles: `make needle`.
"""

import pytest

from tests.needle.__main__ import play
from tests.needle.hands import HANDS

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]

ACCOUNTS, CYCLES, SECONDS, SEED = 500, 30, 500, 20261130


def test_f57_one_unit_is_found_in_one_cycle_whatever_check_it_takes_and_clean_cycles_find_nothing(tmp_path):
    one_each = list({hand.check: hand for hand in HANDS}.values())
    found, quiet = play(tmp_path, one_each, ACCOUNTS, CYCLES, SECONDS, SEED)
    assert len(HANDS) >= 20
    assert "a unit booked on the other network" in {one.hand for one in found}
    assert [(one.hand, one.wrong) for one in found if one.wrong] == []
    assert (len(found), quiet.cycles, quiet.wrong) == (len(one_each), CYCLES, ())
