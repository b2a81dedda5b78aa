"""A signer's inside with a journal of its own and clocks driven by hand: started again, asked, and looked into."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from custody import wire
from custody.approvals import Mandate, freeze_statement, lift_statement, mandate_map, sign_statement, time_statement
from custody.derivation import AccountKeys, AddressSource, Role
from custody.enrolment import enrol
from custody.intents import Intent, KeyRef, to_map
from custody.journal import Journal, TakenBack
from custody.policy_file import parse
from custody.policy_signatures import PolicySignatures
from custody.rolekeys import HdKeys, RoleKeys
from custody.service import SignerService
from custody.transactions import created_address
from tests.custody.clocks import ManualClocks
from tests.custody.samples import GAS, PEOPLE, full_policy

ACCOUNTS = {role: AccountKeys(role, bytes([place]) * 64) for place, role in enumerate(Role, start=1)}
KEYS: dict[str, RoleKeys] = {role.value: HdKeys(account) for role, account in ACCOUNTS.items()}
_SOURCES = {role: AddressSource(account.xpub) for role, account in ACCOUNTS.items()}


def address(key: KeyRef) -> bytes:
    """One of the bench's own addresses."""
    return _SOURCES[key.role].address(key.index)


PAYOUT = created_address(address(GAS), 0)
"""Where the full policy's payout contract comes to lie."""


def question(intent: Intent, *, highest: Any = None, mandate: Mandate | None = None, **more: Any) -> bytes:
    """The body of a frame that asks for a signature."""
    asked: dict[str, Any] = {"call": "sign", "intent": to_map(intent), "highest": highest}
    if mandate is not None:
        asked["mandate"] = mandate_map(mandate)
    return wire.encode(asked | more)[4:]


def outcome(told: dict[str, Any]) -> Any:
    """The bytes of an answer, or the code of a refusal."""
    return told["ok"]["raw"] if "ok" in told else told["refused"]["code"]


class Bench:
    """A service that can be started again."""

    def __init__(self, folder: Path, text: str | None = None, *, clocks: ManualClocks | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.path, self.text = folder / "journal.sqlite", full_policy() if text is None else text
        self.opened = False
        self.clocks = clocks or ManualClocks()
        enrol(self.path, KEYS, parse(self.text), clocks=self.clocks)
        self.start()

    def start(self, signatures: PolicySignatures | None = None) -> None:
        self.journal, self.opened = Journal.open(self.path, self.clocks), True
        try:
            self.service = SignerService(KEYS, parse(self.text), self.journal, signatures=signatures)
        except BaseException:
            self.close()
            raise

    def again(self, signatures: PolicySignatures | None = None) -> None:
        self.close()
        self.start(signatures)

    def close(self) -> None:
        """Close the journal, unless a start that failed has closed it."""
        if self.opened:
            self.journal.close()
        self.opened = False

    def ask(self, **asked: Any) -> dict[str, Any]:
        return wire.decode(wire.encode(self.service.answer(wire.encode(asked)[4:]))[4:])

    def sign(self, intent: Intent, highest: Any = None, mandate: Mandate | None = None) -> Any:
        """The raw bytes, or the code of a refusal."""
        return outcome(self.service.answer(question(intent, highest=highest, mandate=mandate)))

    def together(self, *bodies: bytes) -> list[Any]:
        return [outcome(told) for told in self.service.answer_all(bodies)]

    def freeze(self, *names: str, chain_id: int | None = None, asset: str | None = None, lifted: bool = False) -> str:
        """`ok`, or the code of a refusal."""
        serial = self.journal.serial
        make = lift_statement if lifted else freeze_statement
        statement = make(serial=serial, chain_id=chain_id, asset=asset)
        told = self.ask(
            call="lift" if lifted else "freeze",
            chain_id=chain_id,
            asset=asset,
            serial=serial,
            signatures=signed_by(names, statement),
        )
        return "ok" if "ok" in told else str(told["refused"]["code"])

    def confirm_time(self, *names: str, seconds: int | None = None) -> str:
        """`ok`, or the code of a refusal."""
        serial, said = self.journal.serial, self.clocks.wall_us // 1_000_000 if seconds is None else seconds
        statement = time_statement(serial=serial, seconds=said)
        told = self.ask(call="confirm_time", seconds=said, serial=serial, signatures=signed_by(names, statement))
        return "ok" if "ok" in told else str(told["refused"]["code"])

    def resync(self, *transactions: TakenBack) -> None:
        """What `onebook signer resync` leaves behind; the service is started again."""
        self.journal.record_resync(transactions, approved_by=frozenset({"ada", "ben"}))
        self.again()

    def rows(self, kind: str) -> int:
        with sqlite3.connect(self.path) as connection:
            (count,) = connection.execute("SELECT count(*) FROM rows WHERE kind = ?", (kind,)).fetchone()
        connection.close()
        return int(count)


def signed_by(names: Iterable[str], statement: bytes) -> list[list[object]]:
    """Signatures as a question carries them."""
    signatures = (sign_statement(name, PEOPLE[name], statement) for name in names)
    return [[one.by, one.scheme, one.signature] for one in signatures]


@contextmanager
def benched(folder: Path, text: str | None = None, *, clocks: ManualClocks | None = None) -> Iterator[Bench]:
    """A bench that is closed in the end."""
    made = Bench(folder, text, clocks=clocks)
    try:
        yield made
    finally:
        made.close()
