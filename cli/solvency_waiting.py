"""Waiting for what the worker adds to an epoch: signatures, the seal, its hash on a chain; and saying what lacks."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack

from base.progress import Progress
from treasury.anchor_states import ENDED, AnchorState
from treasury.solvency_epochs import Epochs, KnownEpoch
from treasury.solvency_reserves import COLD
from treasury.solvency_statements import AtAddress

POLL_SECONDS = 0.5
"""Between two looks at an epoch."""

SIGNED, SEALED, WRITTEN = "signatures of addresses", "the book's seal", "its hash on the chain"


def lacking(epoch: KnownEpoch, *, is_anchored: bool) -> tuple[str, ...]:
    """What is still to come, in words; `is_anchored`: whether its hash is to be written on a chain."""
    found = []
    if epoch.row.controls_at is None:
        done, total = _asked(epoch)
        found.append(f"lacks signatures: {done} of {total} addresses were asked; the worker asks the signer")
    if epoch.row.seal is None:
        found.append("lacks a seal: the worker makes one at the latest ten minutes after the last")
    if is_anchored and not _is_written(epoch):
        found.append(f"isn't final on a chain: {_standing(epoch)}")
    return tuple(found)


async def wait_for(
    epochs: Epochs, epoch: KnownEpoch, progress: Progress, *, seconds: int, is_anchored: bool
) -> KnownEpoch:
    """The epoch once nothing lacks, or as it is after so many seconds. `progress` says what is waited for."""
    until, said = time.monotonic() + seconds, ""
    with ExitStack() as stack:
        bars: dict[str, Callable[[int], None]] = {}
        reached: dict[str, int] = {}
        while True:
            for what, (done, total) in _parts(epoch, is_anchored=is_anchored).items():
                if what not in bars:
                    bars[what], reached[what] = stack.enter_context(progress.bar(f"waiting for {what}", total)), 0
                bars[what](done - reached[what])
                reached[what] = done
            lacks = lacking(epoch, is_anchored=is_anchored)
            if (words := "; ".join(lacks)) != said and lacks:
                progress.note(f"epoch {epoch.statement.epoch} {words}")
                said = words
            left = until - time.monotonic()
            if not lacks or left <= 0:
                return epoch
            await asyncio.sleep(min(POLL_SECONDS, left))
            epoch = await epochs.epoch(epoch.row.number)


def _parts(epoch: KnownEpoch, *, is_anchored: bool) -> dict[str, tuple[int, int]]:
    """How far each part is, of how much."""
    found = {SIGNED: _asked(epoch), SEALED: (int(epoch.row.seal is not None), 1)}
    return found | {WRITTEN: (int(_is_written(epoch)), 1)} if is_anchored else found


def _asked(epoch: KnownEpoch) -> tuple[int, int]:
    """How many addresses have signed or refused, of those that are to be asked."""
    named = {
        (one.network, one.address)
        for one in epoch.statement.reserves
        if isinstance(one, AtAddress) and one.role != COLD
    }
    done = sum(one.signature is not None or one.refusal is not None for one in epoch.controls)
    return (len(named) if epoch.row.controls_at is not None else done), len(named)


def _is_written(epoch: KnownEpoch) -> bool:
    """Whether it is, or won't be by itself: what the signer refused isn't worth waiting for."""
    return epoch.anchor is not None and epoch.anchor.state in ENDED | {AnchorState.FINAL}


def _standing(epoch: KnownEpoch) -> str:
    anchor = epoch.anchor
    if anchor is None:
        return "it's asked for once a seal covers it"
    return f"{anchor.state} on {anchor.network}{f', waits for {anchor.waiting_for}' if anchor.waiting_for else ''}"
