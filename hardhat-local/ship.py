"""Writes what the service knows of the payout contract, `chain/contracts/onebook_payout.json`, out of Hardhat's build.

    .venv/bin/python hardhat-local/prepare.py && .venv/bin/python hardhat-local/ship.py [--check]

Run it after a wanted change of the contract, its compiler or their settings, and commit the result. A new creation code
is another contract: it has to be deployed, and the signer's policy has to name its hash. With `--check` it writes
nothing and fails if the file isn't what the build gives.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

HERE = Path(__file__).resolve().parent
SHIPPED = HERE.parent / "chain" / "contracts" / "onebook_payout.json"
SETTINGS = ("evmVersion", "viaIR", "optimizer", "metadata", "remappings")
"""What of the compiler's settings decides the code; the rest says what it should print."""


def built() -> dict[str, Any]:
    """What the build says, in the shipped form."""
    folder = HERE / "artifacts"
    artifact = json.loads((folder / "contracts/OnebookPayout.sol/OnebookPayout.json").read_bytes())
    build = json.loads((folder / "build-info" / f"{artifact['buildInfoId']}.json").read_bytes())
    creation, runtime = (bytes.fromhex(artifact[name][2:]) for name in ("bytecode", "deployedBytecode"))
    return {
        "contract": artifact["contractName"],
        "source": f"{HERE.name}/{artifact['sourceName']}",
        "compiler": build["solcLongVersion"],
        "settings": {name: build["input"]["settings"][name] for name in SETTINGS},
        "creation_code_sha256": hashlib.sha256(creation).hexdigest(),
        "creation_code_keccak256": keccak(creation).hex(),
        "runtime_code_keccak256": keccak(runtime).hex(),
        "abi": artifact["abi"],
        "creation_code": "0x" + creation.hex(),
        "runtime_code": "0x" + runtime.hex(),
    }


def main() -> int:
    try:
        wanted = json.dumps(built(), indent=2) + "\n"
    except FileNotFoundError as problem:
        sys.stderr.write(f"hardhat-local: {problem.filename} is missing; run prepare.py first\n")
        return 1
    if sys.argv[1:] == ["--check"]:
        if SHIPPED.read_text(encoding="utf-8") != wanted:
            sys.stderr.write(f"hardhat-local: {SHIPPED.name} isn't what the build gives; run ship.py\n")
            return 1
        return 0
    SHIPPED.parent.mkdir(exist_ok=True)
    SHIPPED.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
