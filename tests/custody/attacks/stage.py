"""Where attacks are played: the real signer behind its socket, or a service of our own without a defence.

Every attack has a network of its own in one policy, so that one process serves them all: nonces, windows, budgets,
freezes and open top-ups are kept by network.
"""

import re
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from custody import wire
from custody.approvals import Mandate, mandate_map
from custody.clocks import SystemClocks
from custody.derivation import AccountKeys, Role
from custody.enrolment import enrol
from custody.intents import Intent, KeyRef, Leg, Payment, to_map
from custody.journal import Journal
from custody.policy_file import parse
from custody.rolekeys import HdKeys
from custody.service import SignerService
from tests.custody import samples
from tests.custody.samples import CHAIN, GWEI, full_policy, mandate
from tests.support.signer import RunningSigner

Answer = dict[str, Any]
Edit = Callable[[str], str]
"""Changes the text of one network's part of the policy."""

ACCOUNTS = {role.value: HdKeys(AccountKeys(role, bytes([place]) * 64)) for place, role in enumerate(Role, start=1)}
"""The keys of controls."""

_SHARED = ("version", "threshold", "[[people]]", "[highest_index]")


def unchanged(text: str) -> str:
    return text


def swap(old: str, new: str) -> Edit:
    """An edit that must find what it replaces."""

    def edit(text: str) -> str:
        assert old in text, f"the policy has no {old!r}"
        return text.replace(old, new)

    return edit


def _sections() -> list[str]:
    return re.split(r"\n+(?=\[)", full_policy())


def shared_part() -> str:
    """What a policy says once: people, indexes, a ceiling beyond everything."""
    once = [part for part in _sections() if part.startswith(_SHARED)]
    text = "\n".join(once).replace("deposit = 5000", "deposit = 5000\nhot = 3")
    return text + '\n[ceilings]\nper_day = "unlimited"\napprovals = 2\n'


def network_part(chain_id: int, edit: Edit = unchanged) -> str:
    """What it says of one network."""
    parts = [part for part in _sections() if not part.startswith(_SHARED)]
    token = "0x" + samples.TOKEN.hex()
    for asset in ("native", token):
        until = 'units = "1"\nper = "1"\nuntil = 2100-01-01T00:00:00Z'
        parts.append(f'[[values]]\nchain_id = {CHAIN}\nasset = "{asset}"\n{until}')
    text = edit("\n".join(parts) + "\n").replace(f"chain_id = {CHAIN}", f"chain_id = {chain_id}")
    return re.sub(r'(\[\[rules\]\]\nname = "[^"]*)"', rf'\1 on {chain_id}"', text)


@dataclass(frozen=True)
class Control:
    """The defence that is missing: another policy, or a subclass."""

    policy: Edit = unchanged
    service: type[SignerService] = SignerService
    journal: type[Journal] = Journal


@dataclass(frozen=True)
class Attack:
    """`attempt` tries to get a signature that it shouldn't, `twin` asks for the nearest that it may have."""

    name: str
    attempt: "Callable[[Scene], object]"
    control: Control
    twin: "Callable[[Scene], object]"
    policy: Edit = unchanged


@dataclass
class Scene:
    """One attack under way on its own network. `thefts` are the outcomes of what should have been refused."""

    chain: int
    journal: Path
    answer: Callable[[bytes], Answer | None]
    is_control: bool = False
    thefts: list[str] = field(default_factory=list)
    _made: int = 0
    _payout: bytes | None = None

    def ask(self, question: Answer | bytes) -> Answer | None:
        """The answer to a message, or to a frame's body as it is; None when there is none."""
        return self.answer(question if isinstance(question, bytes) else wire.encode(question)[4:])

    def status(self) -> Answer:
        told = self.ask({"call": "status"})
        assert told is not None
        return dict(told["ok"])

    def payout(self) -> bytes:
        """Where our payout contract comes to lie on this network."""
        if self._payout is None:
            listed = self.status()["contracts"]
            self._payout = next(bytes(place) for _, chain, place in listed if chain == self.chain)
        return self._payout

    def mandate(self, intent: Any, **said: Any) -> Mandate:
        """What people sign about an intent under this signer's policy."""
        return mandate(intent, **({"policy_fingerprint": bytes(self.status()["policy"])} | said))

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.journal)) as connection:
            return connection.execute(sql, values).fetchall()

    def next_nonce(self, sender: KeyRef) -> int:
        place = "chain_id = ? AND sender = ? AND kind = 'intent'"
        (highest,) = self.rows(f"SELECT max(nonce) FROM rows WHERE {place}", self.chain, str(sender))[0]
        return 0 if highest is None else highest + 1

    def make(self, maker: Callable[..., Any], *given: Any, **changes: Any) -> Any:
        """An intent on this network: the next nonce, a fresh subject, and little gas, unless said otherwise."""
        self._made += 1
        intent = maker(*given, **({"chain_id": self.chain} | changes))
        fresh: dict[str, Any] = (
            {"legs": self.legs(100, 200)} if hasattr(intent, "legs") and "legs" not in changes else {}
        )
        if "subject" not in changes:
            fresh["subject"] = f"{intent.subject.partition('_')[0]}_{self.chain}-{self._made}"
        if isinstance(intent, Payment):
            if "nonce" not in changes:
                fresh["nonce"] = self.next_nonce(intent.sender)
            if not {"max_fee_per_gas", "max_priority_fee_per_gas"} & changes.keys():
                fresh |= {"max_fee_per_gas": GWEI, "max_priority_fee_per_gas": 1}
        return replace(intent, **fresh)

    def legs(self, *amounts: int, to: bytes = samples.STRANGER) -> tuple[Leg, ...]:
        """Legs that pay fresh withdrawals."""
        self._made += 1
        return tuple(Leg(f"wdr_{self.chain}-{self._made}-{place}", to, one) for place, one in enumerate(amounts))

    def authorisation(self, *, seconds: int = 1800, **changes: Any) -> Any:
        return self.make(samples.authorisation, valid_before=int(time.time()) + seconds, **changes)

    def honest(self, intent: Intent, mandate: Mandate | Answer | None = None, **also: Any) -> bytes:
        """Ask for what must be signed."""
        told = self.ask(question(intent, mandate, **also))
        assert told is not None
        assert "ok" in told, f"an honest request was refused: {told}"
        return bytes(told["ok"]["raw"])

    def theft(
        self, codes: str, what: Intent | Answer | bytes, mandate: Mandate | Answer | None = None, **also: Any
    ) -> None:
        """Ask for what must be refused with one of `codes` (separated by |) and journalled as such."""
        before = self.rows("SELECT count(*) FROM rows WHERE kind IN ('intent', 'successor', 'signed')")
        told = self.ask(what if isinstance(what, dict | bytes) else question(what, mandate, **also))
        outcome = "silence" if told is None else told.get("refused", {}).get("code", next(iter(told)))
        self.thefts.append("signed" if told and "raw" in told.get("ok", {}) else str(outcome))
        if self.is_control:
            return
        assert outcome in codes.split("|"), f"expected {codes}, got {told}"
        assert told is not None
        row = self.rows("SELECT kind FROM rows WHERE sequence = ?", told["sequence"])
        assert row == [("refused",)], "every no stands in the journal"
        assert before == self.rows("SELECT count(*) FROM rows WHERE kind IN ('intent', 'successor', 'signed')")


def question(intent: Intent, mandate: Mandate | Answer | None = None, highest: Any = None, **also: Any) -> Answer:
    asked: Answer = {"call": "sign", "intent": to_map(intent), "highest": highest, **also}
    if mandate is not None:
        asked["mandate"] = mandate if isinstance(mandate, dict) else mandate_map(mandate)
    return asked


class Line:
    """A connection to the real signer, opened again when it was ended."""

    def __init__(self, signer: RunningSigner, *, seconds: float = 30) -> None:
        self._signer, self._seconds = signer, seconds
        self._socket: socket.socket | None = None

    def answer(self, body: bytes) -> Answer | None:
        """The answer to a frame's body; None when the connection ends without one."""
        return self.speak(len(body).to_bytes(4, "big") + body)

    def speak(self, frame: bytes) -> Answer | None:
        """The same for raw bytes."""
        used = self._socket is not None
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(self._signer.socket))  # waits while the signer's queue is full
            self._socket.settimeout(self._seconds)
        try:
            self._socket.sendall(frame)
            head = self._exactly(4)
            return wire.decode(self._exactly(int.from_bytes(head, "big")))
        except (ConnectionError, EOFError):
            self.close()
            return self.speak(frame) if used else None

    def _exactly(self, count: int) -> bytes:
        assert self._socket is not None
        told = b""
        while len(told) < count:
            piece = self._socket.recv(count - len(told))
            if not piece:
                raise EOFError
            told += piece
        return told

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def play(attack: Attack, chain: int, line: Line, journal: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Play an attack, its twin and its control; what the thefts came to, really and without the defence."""
    real = Scene(chain, journal, line.answer)
    attack.attempt(real)
    assert real.thefts, "an attack attempts something"
    attack.twin(real)
    return real.thefts, play_control(attack, chain, folder)


def play_control(attack: Attack, chain: int, folder: Path) -> list[str]:
    """The outcomes of the same attempts where the defence is missing."""
    edited = network_part(chain, lambda text: attack.control.policy(attack.policy(text)))
    policy = parse(shared_part() + edited)
    path = folder / "control.sqlite"
    enrol(path, ACCOUNTS, policy, clocks=SystemClocks())
    journal = attack.control.journal.open(path, SystemClocks())
    try:
        service = attack.control.service(ACCOUNTS, policy, journal)
        scene = Scene(chain, path, lambda body: _or_silence(service, body), is_control=True)
        attack.attempt(scene)
    finally:
        journal.close()
    assert "signed" in scene.thefts, f"without the defence the attack should succeed, but: {scene.thefts}"
    return scene.thefts


def _or_silence(service: SignerService, body: bytes) -> Answer | None:
    """The answer of a service that may fall over what it doesn't check."""
    try:
        return service.answer(body)
    except Exception:
        return None
