"""The area `treasury` prints one document with the figures that are asked for."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_quick_run_prints_every_figure_beside_its_target():
    command = [sys.executable, "-m", "cli", "bench", "treasury", "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert {figure["name"]: (figure["target"], figure["better"]) for figure in document["figures"]} == {
        "tree_1m_s": (15, "lower"),
        "tree_1m_mib": (2048, "lower"),
        "proof_bytes": (3072, "lower"),
        "proof_verify_ms": (50, "lower"),
        "reconcile_1m_s": (60, "lower"),
        "reconcile_cycle_s": (2, "lower"),
        "report_300k_mib": (64, "lower"),
    }
    assert all(figure["value"] > 0 for figure in document["figures"] if figure["name"] != "report_300k_mib")
    assert document["settings"]["run"]["users"] == 50_000
