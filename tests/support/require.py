"""Tests that need a package of the operating system say so here: they skip without it, or fail if all is wanted."""

import os

import pytest


def require(found: object, what: str) -> None:
    """Skip the test unless `found`; with ONEBOOK_REQUIRE_ALL=1 fail instead. `what` names it and how to get it."""
    if found:
        return
    if os.environ.get("ONEBOOK_REQUIRE_ALL") == "1":
        pytest.fail(f"ONEBOOK_REQUIRE_ALL=1, but missing: {what}")
    pytest.skip(f"missing: {what}")
