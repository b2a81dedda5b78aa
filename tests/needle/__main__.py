"""python -m tests.needle --accounts 100000 --cycles 1000 --seed 7: see docs/needle.md."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tests.needle.hands import Hand
from tests.needle.haystack import Barn, barn
from tests.needle.run import Found, Quiet, hands_named, stay_quiet, try_hand
from tests.support.chain import start_local_chain
from tests.support.postgres import throwaway_server
from tests.support.signer import generous_policy, start_signer


def main() -> int:
    """Run, and say what was found; 0 if every needle was, and nothing else."""
    asked = argparse.ArgumentParser(prog="python -m tests.needle", description=__doc__)
    asked.add_argument("--accounts", type=int, default=100_000, help="accounts of the book")
    asked.add_argument("--cycles", type=int, default=1_000, help="clean cycles under load")
    asked.add_argument(
        "--seconds", type=float, default=3_600, help="no clean cycle begins later than so long after the start"
    )
    asked.add_argument("--seed", type=int, default=time.time_ns() % 10**9)
    asked.add_argument("--hand", default="", help="only hands whose name has this part; `none`: no hand")
    options = asked.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found, quiet = play(
            Path(folder), hands_named(options.hand), options.accounts, options.cycles, options.seconds, options.seed
        )
    missed = [one for one in found if one.wrong]
    print(
        f"seed {options.seed}: {len(found) - len(missed)} of {len(found)} needles found in a book of"
        f" {options.accounts} accounts, each within one cycle and missed without its check;"
        f" {quiet.cycles} clean cycles, {quiet.judged} of which judged the chain: {len(quiet.wrong) or 'nothing'} wrong"
    )
    return 1 if missed or quiet.wrong else 0


def play(
    folder: Path, hands: Sequence[Hand], accounts: int, cycles: int, seconds: float, seed: int
) -> tuple[list[Found], Quiet]:
    """Every hand, then the clean cycles."""
    with (
        throwaway_server("needle") as server,
        start_local_chain(folder) as chain,
        start_local_chain(folder / "beside") as beside,
    ):
        for name in ("signer", "home"):
            (folder / name).mkdir()
        others = {beside.chain_id: [beside.token("USDC").lower()]}
        policy = generous_policy(chain.chain_id, chain.token("USDC").lower(), beside=others)
        signer = start_signer(folder / "signer", policy)
        try:
            making = barn(server, chain, beside, signer, folder / "home", straws=accounts, seed=seed)
            return asyncio.run(_play(making, hands, accounts, cycles, seconds, seed))
        finally:
            signer.stop()


async def _play(
    making: AbstractAsyncContextManager[Barn],
    hands: Sequence[Hand],
    accounts: int,
    cycles: int,
    seconds: float,
    seed: int,
) -> tuple[list[Found], Quiet]:
    begun, found = time.monotonic(), []
    async with making as made:
        print(f"{time.monotonic() - begun:.0f} s: a book of {accounts} accounts", flush=True)
        for number, one in enumerate(hands):
            came = await try_hand(made, one, seed + number)
            found.append(came)
            told = came.wrong or f"{came.kind} in {came.seconds:.2f} s"
            print(f"{time.monotonic() - begun:.0f} s: {one.name}: {told}", flush=True)
        left = seconds - (time.monotonic() - begun)
        quiet = await stay_quiet(made, cycles, seed, lambda line: print(line, flush=True), seconds=left)
        print(f"{quiet.cycles} clean cycles, {quiet.done}; the slowest took {quiet.slowest:.2f} s", flush=True)
        for wrong in quiet.wrong:
            print(f"WRONG: {wrong}")
    return found, quiet


if __name__ == "__main__":
    sys.exit(main())
