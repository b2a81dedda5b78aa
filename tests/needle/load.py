"""What goes on beside clean cycles: payments in and out, transfers, statements, card payments, reorganisations."""

import random
from collections import Counter
from dataclasses import dataclass, field

from base.errors import Unavailable
from ledger.accounts import user_account
from ledger.commands import Group, Post, Posting
from tests.fiat.statements import Entry
from tests.needle.haystack import DOLLAR, ETHER, POINTS, Haystack, straw_owner

STEPS = 12
"""Steps of the worker between two cycles: fewer than there are, so that each cycle meets something under way."""

DEEPEST = 3
"""Blocks that a reorganisation takes back: fewer than make a block final."""


@dataclass(slots=True)
class Load:
    """A few acts and a few of the worker's steps at a time, on either network, drawn by `chance`."""

    stack: Haystack
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    number: int = 0

    def told(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in sorted(self.done.items()))

    async def go_on(self) -> None:
        """What happens until the next cycle."""
        self.number += 1
        for _ in range(self.chance.randint(1, 3)):
            act = self.chance.choices(
                (
                    self.transfer_points,
                    self.pay_in,
                    self.withdraw,
                    self.transfer,
                    self.mine,
                    self.reorg,
                    self.bank,
                    self.card,
                ),
                (6, 4, 2, 3, 6, 2, 0.4, 0.4),
            )[0]
            await act()
        await self.work()

    async def work(self) -> None:
        """Some of the worker's steps in their order; now and then all, until nothing moves."""
        if self.chance.random() < 0.05:
            await self.stack.settle()
            return
        names = list(self.stack.house.steps)
        chosen = set(self.chance.sample(names, min(STEPS, len(names)))) | {
            f"follow:{name}" for name in self.stack.house.chains
        }
        for name in names:
            if name in chosen:
                try:
                    await self.stack.house.steps[name]()
                except Unavailable:
                    self.done["steps that couldn't"] += 1

    async def transfer_points(self) -> None:
        """Many at once, between users of the haystack."""
        groups = []
        for place in range(self.chance.randint(1, 40)):
            sender, recipient = self.chance.sample(range(self.stack.straws), 2)
            debit, credit = (user_account(straw_owner(one), POINTS) for one in (sender, recipient))
            post = Post(
                id=f"needle:load:{self.number}:{place}:{self.done['transfers']}",
                postings=(Posting(debit, credit, POINTS, 1),),
            )
            groups.append(Group((post,)))
        await self.stack.house.services.ledger.submit(*groups)
        self.done["transfers"] += len(groups)

    async def pay_in(self) -> None:
        """A stranger pays one of the people, or the house."""
        asset = self.chance.choice(("USDC", "ETH"))
        to = self.chance.choice([*(person.address for person in self.stack.people), self.stack.hot])
        unit = DOLLAR if asset == "USDC" else ETHER // 100
        chain = self.chance.choice([*self.stack.house.chains.values()])
        chain.faucet(to, unit * self.chance.randint(1, 5) + self.number, asset)
        self.done["payments in"] += 1

    async def withdraw(self) -> None:
        person = self.stack.person()
        asset, amount = self.chance.choice((("USDC", "1.5"), ("ETH", "0.001")))
        to = f"0x{0xABCD_0000 + self.number:040x}"
        network = self.chance.choice([*self.stack.house.chains])
        body = {"asset": asset, "network": network, "amount": amount, "address": to}
        answer = await person.caller.post("/v1/withdrawals", body, key=f"withdrawal-{self.number}-{self.done.total()}")
        self.done["withdrawals" if answer.status_code == 201 else f"withdrawals {answer.json().get('code')}"] += 1

    async def transfer(self) -> None:
        sender, recipient = self.chance.sample(self.stack.people, 2)
        body = {"recipient": recipient.id, "asset": "USDC", "amount": "0.01"}
        answer = await sender.caller.post("/v1/transfers", body, key=f"transfer-{self.number}-{self.done.total()}")
        self.done["transfers" if answer.status_code in (200, 201) else f"transfers {answer.json().get('code')}"] += 1

    async def mine(self) -> None:
        blocks = self.chance.randint(1, 3)
        for chain in self.stack.house.chains.values():
            chain.mine(blocks)
        self.done["blocks"] += blocks

    async def reorg(self) -> None:
        """The last blocks are replaced, and what was in them is forgotten."""
        deep = self.chance.randint(1, DEEPEST)
        self.chance.choice([*self.stack.house.chains.values()]).reorg(deep, longer=1)
        self.done["reorganisations"] += 1

    async def bank(self) -> None:
        await self.stack.bank_sends(Entry(self.chance.randint(1, 100_00), f"invoice {self.number}"))
        self.done["statements"] += 1

    async def card(self) -> None:
        body = {"rail": "sandbox", "asset": "EUR", "amount": "12.34", "method": "tok_visa"}
        answer = await self.stack.person().caller.post(
            "/v1/top-ups", body, key=f"card-{self.number}-{self.done.total()}"
        )
        self.done["card payments" if answer.status_code == 201 else f"card payments {answer.json().get('code')}"] += 1
