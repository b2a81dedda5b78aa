import pytest

from tests.support.require import require


def test_what_is_missing_skips_or_fails_where_all_is_wanted(monkeypatch):
    require(True, "nothing")
    monkeypatch.setenv("ONEBOOK_REQUIRE_ALL", "0")
    with pytest.raises(pytest.skip.Exception, match="softhsm"):
        require(None, "softhsm")
    monkeypatch.setenv("ONEBOOK_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="softhsm"):
        require(None, "softhsm")
