"""The area `custody` measures a real signer and prints one document with the figures that are asked for."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_quick_run_prints_every_figure_and_leaves_no_signer_behind():
    command = [sys.executable, "-m", "cli", "bench", "custody", "--quick", "--seconds", "0.3", "--json"]
    done = subprocess.run(command, capture_output=True, timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert set(figures) == {
        "xpub_addresses_per_s",
        "curve_signatures_per_s",
        "signatures_per_s",
        "signature_p50_ms",
        "signature_p99_ms",
        "signer_mib",
        "fsyncs_per_s",
    }
    assert all(figure["value"] > 0 for figure in figures.values())
    assert {name: figure["target"] for name, figure in figures.items() if figure["target"] is not None} == {
        "xpub_addresses_per_s": 10_000,
        "signatures_per_s": 500,
        "signature_p99_ms": 20,
        "signer_mib": 150,
    }
    assert document["settings"]["run"]["clients"] == 16
    assert document["settings"]["run"]["signatures"] > 0
