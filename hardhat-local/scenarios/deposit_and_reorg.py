"""A deposit comes, a reorganisation takes it away, and the same transaction comes again.

Who follows the chain credits it, takes it back, and credits it anew: one deposit, two versions, counted once.
"""

from chain import local, local_blocks
from cli.scenarios import Scene

USDC = 25 * 10**6


def play(scene: Scene) -> None:
    with scene.blocks_by_hand():
        before = local_blocks.take_snapshot(scene.url)
        tx_hash = local.transfer(scene.url, "USDC", scene.to, USDC, seconds=None)
        local.mine(scene.url)
        block = int(local.await_receipt(scene.url, tx_hash)["blockNumber"], 16)
        scene.say(f"25 USDC to {scene.to} in block {block}, transaction {tx_hash}")

        raw = local_blocks.raw_transaction(scene.url, tx_hash)
        done = local_blocks.reorganise_to(scene.url, before, keep=False)
        scene.say(f"blocks from {done.ancestor + 1} on are others now: the transaction is in none of them")

        local_blocks.send_raw(scene.url, raw)
        local.mine(scene.url)
        block = int(local.await_receipt(scene.url, tx_hash)["blockNumber"], 16)
        scene.say(f"the same bytes again: mined in block {block}, with the same hash")
