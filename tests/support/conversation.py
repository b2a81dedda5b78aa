"""`onebook keys` as a person uses it: a real process, read line by line, answered from what it has shown."""

import os
import re
from pathlib import Path
from typing import IO

from tests.support.command import ENTRY, PROGRAM, surroundings
from tests.support.forked import PIPE, STDOUT, Forked

_CARD_WORD = re.compile(r"\s*(\d{1,2})\. (\S+)")


class Conversation:
    """A started `onebook keys ...`. It answers like somebody who writes down every card and can read it back.

    `answers` are given in turn to the prompts that are neither a word of the last card nor a plain Enter.
    """

    def __init__(self, *arguments: str | Path, cwd: Path, answers: list[str], terminal: bool = False, **more: str):
        self.shown = ""
        self.cards: list[list[str]] = []
        self._card: list[str] = []
        self._answers = list(answers)
        parent, child = os.openpty() if terminal else (-1, -1)
        self._process = Forked(
            ENTRY,
            [PROGRAM, "keys", *arguments],
            cwd=cwd,
            env=surroundings(**more),
            stdin=child if terminal else PIPE,
            stdout=child if terminal else PIPE,
            stderr=STDOUT,
            terminal=terminal,
        )
        if terminal:
            os.close(child)
        self._reading = parent if terminal else self._pipe(self._process.stdout).fileno()
        self._writing = parent if terminal else self._pipe(self._process.stdin).fileno()
        self.code = self._talk()

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream

    def _talk(self) -> int:
        pending = b""
        while True:
            try:
                chunk = os.read(self._reading, 65_536)
            except OSError:  # the terminal's other end was closed
                chunk = b""
            if not chunk:
                break
            pending += chunk
            self.shown += chunk.decode(errors="replace").replace("\r\n", "\n")
            last = self.shown.rsplit("\n", 1)[-1]
            if last.endswith(": "):
                self._read_card()
                answer = self._answer(last)
                os.write(self._writing, answer.encode() + b"\n")
                self.shown += "\n"
        return self._process.wait(timeout=30)

    def _read_card(self) -> None:
        words = _CARD_WORD.findall(self.shown)
        found = [word for _, word in words]
        if len(found) > sum(map(len, self.cards)):
            self._card = found[sum(map(len, self.cards)) :]
            self.cards.append(self._card)

    def _answer(self, prompt: str) -> str:
        asked = re.search(r"Word (\d+) of the card: $", prompt)
        if asked:
            return self._card[int(asked[1]) - 1]
        if "press Enter: " in prompt:
            return ""
        if not self._answers:
            self._process.kill()
            raise AssertionError(f"no answer to {prompt!r} after:\n{self.shown}")
        return self._answers.pop(0)
