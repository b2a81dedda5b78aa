"""`onebook rails sim` as a developer runs it."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli", "rails", "sim", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def first_document(process: subprocess.Popen[str]) -> dict[str, object]:
    """What `--json` prints first."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line == "}\n":
            break
    found: dict[str, object] = json.loads(said)
    return found


def test_it_says_where_it_listens_and_ends_on_a_signal():
    process = start("--json", "--seed", "5", "--clock", "2030-01-31T12:00:00Z")
    try:
        told = first_document(process)
        url = str(told["control_url"])
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(url, trust_env=False, timeout=30).json() == told
        stripe = told["providers"]["stripe"]  # type: ignore[index]
        made = httpx.post(
            f"{stripe['base_url']}/v1/customers", auth=(stripe["api_key"], ""), trust_env=False, timeout=30
        )
        assert made.status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_clock_that_is_none_is_refused():
    process = start("--clock", "yesterday")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "no instant with its zone" in said
