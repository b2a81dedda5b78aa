"""A token behind a proxy is upgraded between two deposits: the same address runs other code.

Who watches its code stops crediting it until a person has looked.
"""

from chain import local
from chain.tokens import IMPLEMENTATION_SLOT
from cli.scenarios import Scene

PAID = 5 * 10**6


def play(scene: Scene) -> None:
    payer = local.accounts(scene.url)[1]
    first, second = (scene.create("Upgradable", "uint256", version) for version in (1, 2))
    start = local.encode_call("initialize(uint8,address,uint256)", 6, payer, 2 * PAID)
    token = scene.create("TestProxy", "address,bytes", first, start)
    scene.say(f"a token is at {token}; it runs {scene.slot(token, IMPLEMENTATION_SLOT)}")
    scene.say(f"5 of it to {scene.to}: {scene.call(token, 'transfer(address,uint256)', scene.to, PAID)}")

    tx_hash = scene.call(token, "upgradeToAndCall(address,bytes)", second, b"")
    scene.say(f"upgraded in {tx_hash}; it runs {scene.slot(token, IMPLEMENTATION_SLOT)}")
    scene.say(f"5 more to {scene.to}: {scene.call(token, 'transfer(address,uint256)', scene.to, PAID)}")
    scene.say(f"who trusts the address alone has credited {scene.balance(token, scene.to)} units")
