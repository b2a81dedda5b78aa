"""Ten seconds of the fuzzer; `make fuzz-signer` runs it for longer."""

import os
from pathlib import Path

import pytest

from tests.custody.fuzz import fuzz

pytestmark = pytest.mark.slow


def test_fuzzed_questions_get_no_signature_that_they_should_not(tmp_path: Path):
    seed = int.from_bytes(os.urandom(4))
    print(f"python -m tests.custody.fuzz --seed {seed}")
    counts = fuzz(tmp_path, 10, seed)
    assert min(counts[what] for what in ("signed", "malformed", "intent_invalid", "undecoded")) > 10, counts
