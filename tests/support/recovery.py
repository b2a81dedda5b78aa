"""`onebook recover` in the test's own process, which may end at any of its checkpoints.

done = await recover(house, signer)
with pytest.raises(Killed):
    await recover(house, signer, killed_after="batch")
"""

from dataclasses import dataclass

from base.progress import Progress
from tests.support.signer import RunningSigner
from tests.support.whole_house import WholeHouse
from wiring.recovery import open_recovering
from wiring.recovery_items import Done, Outlook


class Killed(Exception):
    """Stands for the process's end."""


@dataclass
class KillAfter:
    """Ends it after this part."""

    part: str

    def reached(self, name: str) -> None:
        if name == f"recover.{self.part}":
            raise Killed(name)


async def look(house: WholeHouse, signer: RunningSigner) -> Outlook:
    """What would be done."""
    client = signer.client()
    try:
        async with open_recovering(house.parts, client) as recovering:
            return await recovering.outlook(Progress())
    finally:
        await client.close()


async def recover(
    house: WholeHouse, signer: RunningSigner, *, killed_after: str | None = None, leave: tuple[str, ...] = ()
) -> Done:
    """Do it, or go on with it."""
    client = signer.client()
    checkpoint = None if killed_after is None else KillAfter(killed_after)
    try:
        async with open_recovering(house.parts, client, checkpoint=checkpoint) as recovering:
            return await recovering.run(Progress(), leave=leave)
    finally:
        await client.close()
        await house.parts.gate.look()
