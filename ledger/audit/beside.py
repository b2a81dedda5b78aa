"""The rows that hang on commands: holds, metadata, evidence. Each is taken off by what explains it. Pure."""

import hashlib
from typing import Any

import msgspec

from ledger.audit.report import JOURNAL, Findings, Place, at, said
from ledger.audit.rows import Chunk
from ledger.canonical import dump, escaped
from ledger.copying import NULL, plain, rows_of


class Beside:
    """The rows that hang on a chunk's commands, by seq as rows write it."""

    def __init__(self, chunk: Chunk) -> None:
        self.holds: dict[bytes, list[bytes]] = {}
        for row in rows_of(chunk.holds):
            seq, _, rest = row.partition(b"\t")
            if seq in self.holds:
                self.holds[seq].append(rest)
            else:
                self.holds[seq] = [rest]
        self.metadata = {seq: rest for seq, _, rest in (row.partition(b"\t") for row in rows_of(chunk.metadata))}
        self.evidence = {seq: rest for seq, _, rest in (row.partition(b"\t") for row in rows_of(chunk.evidence))}

    def check_evidence(self, findings: Findings, seq: int, told: dict[str, Any]) -> None:
        """Compare the indexed copy of a command's evidence with what the command says; some have none."""
        if "journal_row" in told or "rail" in told:
            return
        columns = ("network", "block_number", "block_hash", "account", "statement", "line")
        expected = b"\t".join(NULL if told.get(c) is None else escaped(str(told[c])).encode() for c in columns)
        found = self.evidence.pop(b"%d" % seq, b"no row")
        findings.expect(Place(JOURNAL, seq), f"evidence of command {seq}", "row", expected=expected, found=found)

    def check_metadata(self, findings: Findings, seq: int, hashed: bytes) -> bool:
        """Compare metadata with its hash in the command; False if it was erased."""
        row = self.metadata.pop(b"%d" % seq, None)
        if row is None:
            return False
        salt, _, metadata = row.partition(b"\t")
        salted = bytes.fromhex(salt.decode()) + dump(msgspec.json.decode(plain(metadata)))
        place, where = Place(JOURNAL, seq), f"metadata of command {seq}"
        findings.expect(place, where, "hash", expected=hashed, found=hashlib.sha256(salted).hexdigest().encode())
        return True

    def finish(self, findings: Findings) -> None:
        """Whatever is left hangs on nothing."""
        for what, seqs in (
            ("hold", self.holds),
            ("metadata of command", self.metadata),
            ("evidence of command", self.evidence),
        ):
            for seq in seqs:
                findings.add(at(seq), f"{what} {said(seq)}", "row", expected="none", found="there")
