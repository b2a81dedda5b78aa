"""Ten blocks of forty payments each, one of them in every block to the address: something to keep up with."""

from chain import local
from cli.scenarios import Scene

BLOCKS, PAYMENTS = 10, 40
CROWD = 0xC0FFEE << 128
"""Where the other payments go: addresses that nobody has keys for."""


def play(scene: Scene) -> None:
    scene.say(f"{BLOCKS} blocks of {PAYMENTS} payments begin at height {local.height(scene.url) + 1}")
    paid = []
    with scene.blocks_by_hand():
        for block in range(BLOCKS):
            for number in range(1, PAYMENTS):
                local.transfer(scene.url, "ETH", f"0x{CROWD + block * PAYMENTS + number:040x}", 1, seconds=None)
            paid.append(local.transfer(scene.url, "USDC", scene.to, 10**6, seconds=None))
            local.mine(scene.url)
        heights = [int(local.await_receipt(scene.url, tx_hash)["blockNumber"], 16) for tx_hash in paid]
    scene.say(f"done at height {max(heights)}: {len(paid)} times 1 USDC to {scene.to}")
