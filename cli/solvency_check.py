"""What `onebook verify solvency` finds out, and how it says it. No database, no installation; a node only if named."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from base.errors import ConfigError
from cli.node_check import AnchorSeen, look_up
from cli.output import say
from ledger import proofs
from ledger.seals import SignedSeal
from treasury import solvency_proofs
from treasury.errors import SolvencyProofInvalid
from treasury.solvency_reading import Held, Place, Standing, check_fits, check_published, read_given, read_published
from treasury.solvency_statements import AnchorTold, BlockTold, Coverage, Published
from treasury.solvency_tree import DIGEST_BYTES, Inclusion


@dataclass(frozen=True, slots=True)
class Checked:
    """What a file shows. `published` and all after it are None where nothing of the epoch came along.

    `anchor`, `confirmed`: what a node of the reader's own shows of it, and which contracts' signatures; nothing where
    none was asked.
    """

    proofs: tuple[Inclusion, ...]
    published: Published | None
    held: tuple[Held, ...]
    seal: SignedSeal | None
    is_root_compared: bool
    is_user_compared: bool
    is_key_compared: bool
    published_at: str | None
    anchor: AnchorSeen | None
    confirmed: frozenset[Place]

    def document(self) -> dict[str, object]:
        """The same as plain JSON."""
        told: dict[str, object] = {
            "proven": True,
            "root_compared": self.is_root_compared,
            "user_compared": self.is_user_compared,
            "proofs": [
                {
                    "user": proof.owner,
                    "epoch": proof.terms.epoch,
                    "asset": proof.terms.asset,
                    "seq": proof.terms.seq,
                    "amount": str(proof.amount),
                    "total": str(proof.total),
                    "users": proof.leaves,
                    "root": proof.root.hex(),
                }
                for proof in self.proofs
            ],
            "epoch": None,
        }
        if self.published is not None:
            statement = self.published.statement
            told["epoch"] = {
                "epoch": statement.epoch,
                "digest": self.published.digest,
                "seq": statement.seq,
                "coverage": msgspec.to_builtins(statement.coverage),
                "held": [
                    {"asset": one.asset} | {name.value: str(amount) for name, amount in one.by_standing.items()}
                    for one in self.held
                ],
                "networks": msgspec.to_builtins(statement.networks),
                "untold": list(statement.untold),
                "books": statement.books,
                "seal": None if self.seal is None else self.seal.document(),
                "key_compared": self.is_key_compared,
                "anchor": self._anchor_document(self.published.anchor),
            }
        return told

    def _anchor_document(self, told: AnchorTold | None) -> dict[str, object] | None:
        if told is None:
            return None
        seen = self.anchor
        return {
            **msgspec.to_builtins(told),
            "checked": seen is not None,
            "written_at": None if seen is None else seen.at.isoformat(),
        }


def check(
    content: bytes,
    *,
    user: str | None,
    epoch: str | None,
    root: str | None,
    published: bytes | None,
    trusted: Collection[bytes],
    rpc: str | None = None,
) -> Checked:
    """Everything that a user's file shows. Raises SolvencyProofInvalid or ProofInvalid at the first thing that's wrong.

    `root` is the list's, or the epoch's hash where the epoch came along; `published` is what the reader fetched from
    where everybody does. `rpc`: the address of a node of their own, which is asked whether the hash is on its chain.
    """
    given = read_given(content)
    if epoch is not None and "/" not in epoch and given.proofs:
        epoch = f"{given.proofs[0].terms.book}/{epoch}"
    shown, compared = given.published, None if root is None else _digest(root)
    if published is not None:
        fetched = read_published(published)
        if shown is not None and shown.digest != fetched.digest:
            raise SolvencyProofInvalid("the file's epoch isn't the one that was published", code="other_epoch")
        shown = fetched
    for proof in given.proofs:
        solvency_proofs.verify(proof, owner=user, epoch=epoch, root=compared if shown is None else None)
        if shown is not None:
            check_fits(proof, shown.statement)
    held: Sequence[Held] = () if shown is None else check_published(shown, digest=compared)
    if shown is not None and epoch is not None and shown.statement.epoch != epoch:
        raise SolvencyProofInvalid(f"it's epoch {shown.statement.epoch}, not {epoch}", code="other_epoch")
    if rpc is not None and shown is None:
        raise SolvencyProofInvalid("a lone proof doesn't say where its epoch's hash is written", code="not_anchored")
    said = None if rpc is None or shown is None else asyncio.run(look_up(rpc, shown))
    if said is not None and shown is not None:
        held = check_published(shown, digest=compared, confirmed=said.confirmed)
    return Checked(
        proofs=given.proofs,
        published=shown,
        held=tuple(held),
        seal=None if shown is None or shown.seal is None else _sealed(shown, trusted),
        is_root_compared=compared is not None or published is not None,
        is_user_compared=user is not None,
        is_key_compared=bool(trusted),
        published_at=given.published_at,
        anchor=None if said is None else said.anchor,
        confirmed=frozenset() if said is None else said.confirmed,
    )


def _sealed(published: Published, trusted: Collection[bytes]) -> SignedSeal:
    """The seal that covers the book's command which states the epoch's hash. Raises ProofInvalid."""
    proven = proofs.verify(proofs.read_proof(msgspec.json.encode(published.seal)), trusted=trusted)
    statement, command = published.statement, proven.command
    facts = {"epoch": statement.epoch, "digest": published.digest}
    facts |= {f"root:{one.asset}": one.root for one in statement.lists}
    try:
        said = msgspec.json.decode(command["detail"] or "null")["terms"]["facts"]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise SolvencyProofInvalid("what is sealed isn't an epoch", code="seal_differs") from error
    kept = (command["kind"], command["book"], command["refusal"], said)
    if kept != ("record", statement.book, None, facts):
        raise SolvencyProofInvalid("what is sealed isn't this epoch's hash", code="seal_differs")
    return proven.seal


def _digest(text: str) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != DIGEST_BYTES:
        raise ConfigError(f"--root: {text!r} isn't 64 hex digits; copy the root from where it was published")
    return found


# Saying it


def show(found: Checked) -> None:
    """What was found, in plain words."""
    for proof in found.proofs:
        _show_owed(proof)
    if not found.proofs:
        say("there is no proof in it: you had no account in this epoch, or it isn't a user's file")
    if found.published is not None:
        _show_held(found.published, found)
    elif not found.is_root_compared:
        for proof in found.proofs:
            say(f"  under the root {proof.root.hex()}: compare it with the one that others were shown (--root)")
    if found.is_root_compared:
        say("the root is the one that you gave")
    elif found.published is not None:
        where = f"; the house says that it's at {found.published_at}" if found.published_at else ""
        say(f"the epoch's hash is {found.published.digest}: compare it with what others were shown (--root){where}")
    if found.proofs and not found.is_user_compared:
        say(f"the proofs are for {found.proofs[0].owner}: that must be your own id; give yours with --user")
    held = "" if found.published is not None else "; nor that anything is held to pay with"
    say(f"not proven: that other users are counted, which each must look up{held}")


def _show_owed(proof: Inclusion) -> None:
    terms = proof.terms
    say(
        f"proven: of {proof.total} {terms.asset} (in its smallest unit) that book {terms.book} owes to"
        f" {proof.leaves} users at seq {terms.seq}, {proof.amount} are counted for {proof.owner} (epoch {terms.epoch})"
    )


def _show_held(published: Published, found: Checked) -> None:
    statement = published.statement
    by_asset = {one.asset: one for one in found.held}
    for coverage in statement.coverage:
        _show_coverage(coverage, by_asset[coverage.asset])
    for block in statement.networks:
        _show_block(block)
    say("  proven: the address's key signed this epoch; attested: a bank or provider told the house; stated: only told")
    for control in published.controls:
        if control.kind == "contract" and (control.network, control.address) not in found.confirmed:
            say(
                f"  not checked: the house says that the contract {control.address} on {control.network} signed; look"
                " at a node of your own with --rpc URL. What is there counts as stated"
            )
    if statement.untold:
        say(f"  not counted, since they couldn't be asked: {', '.join(statement.untold)}")
    if statement.books > 1:
        say(f"  what is held is for the users of {statement.books} books, of which this is one")
    if published.anchor is not None:
        _show_anchor(published.anchor, found.anchor)
    if found.seal is None:
        say("  no seal covers it yet: ask again later")
        return
    seal = found.seal.seal
    trust = "and that is signed by the key that you gave" if found.is_key_compared else f"by key {found.seal.key.hex()}"
    say(f"  the epoch's hash stands in the book under seal {seal.number}, made {seal.sealed_at.isoformat()}, {trust}")


def _show_anchor(told: AnchorTold, seen: AnchorSeen | None) -> None:
    if seen is None:
        say(
            f"  anchored, not checked: the house says that the hash is on {told.network}, in transaction {told.tx} of"
            f" block {told.block_number}; look at a node of your own with --rpc URL"
        )
        return
    say(
        f"  anchored: the hash is on {told.network}, in transaction {told.tx} of block {seen.block_number}, made"
        f" {seen.at.isoformat()} and final, as the node that you named shows; sent by {told.sender}"
    )


def _show_coverage(told: Coverage, held: Held) -> None:
    parts = [f"{amount} {standing.value}" for standing in Standing if (amount := held.by_standing.get(standing))]
    ratio = "nothing is owed" if told.ratio is None else f"coverage {told.ratio}"
    beside = [
        f"{amount} {words}"
        for amount, words in (
            (told.receivable, "is owed to the house by users"),
            (told.in_transit, "is on its way"),
            (told.unassigned, "is nobody's yet"),
        )
        if amount != "0"
    ]
    say(f"held: {told.held} {told.asset} ({', '.join(parts) or 'nothing'}) for {told.owed} owed: {ratio}")
    if beside:
        say(f"  beside that, and in neither sum: {'; '.join(beside)}")


def _show_block(block: BlockTold) -> None:
    nodes = "one node" if block.nodes == 1 else "two nodes"
    say(f"  {block.network} (chain {block.chain_id}) at block {block.block_number} {block.block_hash}, told by {nodes}")
