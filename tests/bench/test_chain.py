"""The area `chain` reads and takes in a real local chain and prints one document with the figures asked for."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


READING = ("extract*", "verified*", "watch*", "backfill*", "deposit_seen*", "gas_per_leg*")
COMMAND = [sys.executable, "-m", "cli", "bench", "chain", "--quick", "--seconds", "0.2", "--json"]


@pytest.mark.timeout(240)
@pytest.mark.long
def test_quick_run_brings_withdrawals_to_their_end_in_batches_in_a_whole_installation():
    done = subprocess.run([*COMMAND, "--only", "withdrawals_500_batched_s"], capture_output=True, timeout=230)
    assert done.returncode == 0, done.stderr.decode()
    (figure,) = json.loads(done.stdout)["figures"]
    assert (figure["name"], figure["unit"], figure["target"]) == ("withdrawals_500_batched_s", "s", 60)
    assert figure["value"] > 0


def test_quick_run_prints_every_figure_of_a_chain_that_was_taken_in_whole():
    only = [word for row in READING for word in ("--only", row)]
    done = subprocess.run([*COMMAND, *only], capture_output=True, timeout=110)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    figures = {figure["name"]: figure for figure in document["figures"]}
    gas = {name: figures.pop(name)["value"] for name in list(figures) if name.startswith("gas_per_leg_")}
    assert len(gas) == 12
    assert gas["gas_per_leg_usdc_known_10"] < gas["gas_per_leg_usdc_known_alone"] < gas["gas_per_leg_usdc_known_1"]
    assert gas["gas_per_leg_eth_new_alone"] == 21_000 < gas["gas_per_leg_eth_new_10"]
    assert {name: figure["target"] for name, figure in figures.items()} == {
        "extract_logs_per_s": 50_000,
        "verified_receipts_per_s": 3_000,
        "watch_1m_mib": 300,
        "watch_1m_over_1k": 0.9,
        "backfill_s": 60,
        "deposit_seen_s": 1,
    }
    assert all(figure["value"] > 0 for figure in figures.values())
    assert document["settings"]["run"]["blocks"] == 60
    assert b"taking in, 10,000 watched" in done.stderr
