"""A token that keeps one percent of each transfer is paid in: less arrives than was sent.

Never credit what a call says: what arrived is the difference of two balances.
"""

from chain import local
from cli.scenarios import Scene

SENT = 100 * 10**6
"""100 of the token, which has six decimals."""


def play(scene: Scene) -> None:
    payer = local.accounts(scene.url)[1]
    token = scene.create("FeeToken", "address,uint256", payer, SENT)
    scene.say(f"a token with a fee is at {token}; six decimals")
    before = scene.balance(token, scene.to)
    tx_hash = scene.call(token, "transfer(address,uint256)", scene.to, SENT)
    arrived = scene.balance(token, scene.to) - before
    scene.say(f"{SENT} units sent to {scene.to}, transaction {tx_hash}")
    scene.say(f"{arrived} units arrived: {SENT - arrived} less than the call says")
