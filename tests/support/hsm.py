"""A PKCS#11 token in software: SoftHSM2 with its own folder, as real as a token in a test can be."""

import os
import shutil
import subprocess
from pathlib import Path

import pkcs11

from tests.support.require import require

MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)
PIN = b"1234-of-the-test"
OFFICER_PIN = "87654321"


def softhsm() -> Path:
    """SoftHSM2's module; skips the test without it."""
    found = next((path for path in MODULES if path.exists()), None)
    require(found is not None and shutil.which("softhsm2-util") is not None, "SoftHSM2 (apt-get install softhsm2)")
    assert found is not None
    return found


def make_configuration(folder: Path) -> Path:
    """A configuration of SoftHSM2 whose tokens lie under `folder`."""
    (folder / "tokens").mkdir(parents=True)
    path = folder / "softhsm2.conf"
    path.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return path


def make_token(configuration: Path, label: str) -> None:
    """A new token with PIN."""
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", OFFICER_PIN]
    subprocess.run(
        [*command, "--pin", PIN.decode()],
        env=os.environ | {"SOFTHSM2_CONF": str(configuration)},
        check=True,
        capture_output=True,
        timeout=30,
    )


def use(module: Path, configuration: Path) -> None:
    """Let this process see the tokens of a configuration."""
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    pkcs11.lib(str(module)).reinitialize()
