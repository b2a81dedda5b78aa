"""When two chains part: where they were last one. Pure."""

from collections.abc import Mapping, Sequence

from chain.observations import BlockRef


def common_ancestor(ours: Mapping[int, str], theirs: Mapping[int, str | None]) -> int | None:
    """The highest height at which our block's hash is the node's, of the heights in both; None if there is none."""
    return max((height for height, block_hash in ours.items() if theirs.get(height) == block_hash), default=None)


def connected(tip_hash: str | None, headers: Sequence[BlockRef]) -> list[BlockRef]:
    """The longest beginning of `headers`, one height after another, that hangs together on `tip_hash` (None: any)."""
    chain: list[BlockRef] = []
    for header in headers:
        if tip_hash is not None and header.parent_hash != tip_hash:
            break
        if chain and header.number != chain[-1].number + 1:
            break
        chain.append(header)
        tip_hash = header.block_hash
    return chain
