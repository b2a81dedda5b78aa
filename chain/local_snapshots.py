"""Snapshots of a local chain by name: kept in a file beside the chain's record, since the node knows only numbers.

The file belongs to the chain with its id and genesis block: after the chain was started anew the names are gone. (Two
that begin within a second may have the same genesis block, but for their ids.)
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

from base.errors import NotFound, Rejected
from base.files import write_atomically
from chain import local
from chain.local_blocks import Reorganised, Snapshot, reorganise, revert, take_snapshot

FILE = "snapshots.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""What a snapshot may be called."""


class Snapshots:
    """The named snapshots of the chain that answers at `url`, kept in `folder`. One process at a time."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._path = folder / FILE
        genesis_hash = str(local.rpc(url, "eth_getBlockByNumber", "0x0", False)["hash"])
        self._chain = {"chain_id": int(local.rpc(url, "eth_chainId"), 16), "genesis_hash": genesis_hash}

    def listed(self) -> dict[str, Snapshot]:
        """Each name with its snapshot, in the order in which they were taken."""
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        if found["chain"] != self._chain:
            return {}
        return {name: Snapshot(**told) for name, told in found["snapshots"].items()}

    def take(self, name: str) -> Snapshot:
        """Take one called `name`. Raises Rejected for a name that's taken, or is none."""
        if NAME.fullmatch(name) is None:
            raise Rejected(
                f"{name[:60]!r} is no name for a snapshot: 1 to 40 letters, digits, dots, dashes and underscores",
                param="name",
            )
        known = self.listed()
        if name in known:
            raise Rejected(
                f"there is a snapshot {name!r} already, at height {known[name].height}: choose another name",
                param="name",
            )
        taken = take_snapshot(self._url)
        self._write({**known, name: taken})
        return taken

    def revert(self, name: str) -> Snapshot:
        """Go back to the one called `name`; it stays, those taken after it are gone. Raises NotFound, Rejected."""
        known = self.listed()
        if name not in known:
            told = f"there are: {', '.join(known)}" if known else "there is none on this chain"
            raise NotFound(f"no snapshot {name[:60]!r}; {told}", param="name")
        before = dict(list(known.items())[: list(known).index(name)])
        self._write(before)  # first: what going back uses up mustn't be found after a crash
        taken = revert(self._url, known[name])
        self._write({**before, name: taken})
        return taken

    def reorganise(self, depth: int, *, keep: bool) -> Reorganised:
        """As `chain.local_blocks.reorganise`, with these snapshots; those that it uses up or replaces are gone."""
        known = self.listed()
        done = reorganise(self._url, depth, keep=keep, marks=tuple(known.values()))
        names, left = list(known), {name: one for name, one in known.items() if one.height <= done.ancestor}
        if done.mark is not None:
            name = next(name for name in reversed(left) if left[name].height == done.ancestor)
            left = {earlier: known[earlier] for earlier in names[: names.index(name)]} | {name: done.mark}
        self._write(left)
        return done

    def _write(self, snapshots: dict[str, Snapshot]) -> None:
        told = {name: asdict(one) for name, one in snapshots.items()}
        document = {"chain": self._chain, "snapshots": told}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, json.dumps(document, indent=2).encode() + b"\n", mode=0o644)
