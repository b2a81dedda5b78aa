"""Trees of what is owed against a naive model written from docs/solvency.md; and every way to forge a proof."""

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from treasury.errors import ListUnfit, NoLeaf, SolvencyProofInvalid, TreasuryCorrupt
from treasury.solvency_proofs import DOCUMENT_BYTES_MAX, read_proof, verify, write_proof
from treasury.solvency_tree import LEAVES_MAX, SUM_END, Inclusion, Step, SumTree, Terms, build_tree, levels_of

KEY = bytes(range(32))
TERMS = Terms("main/7", "USDC", 1234)

amounts = st.one_of(st.integers(0, 3), st.integers(0, 10**24), st.integers(0, 2**240))
lists = st.lists(amounts, min_size=1, max_size=40)


def owner(number: int) -> str:
    return f"usr_{number:026}"


def tree_over(owed: list[int], *, terms: Terms = TERMS, key: bytes = KEY) -> SumTree:
    return build_tree(terms, [(owner(number).encode(), amount) for number, amount in enumerate(owed)], key=key)


def told(proof: Inclusion) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(write_proof(proof))
    return document


def check(document: dict[str, Any], **given) -> None:
    verify(read_proof(json.dumps(document).encode()), **given)


# A model by docs/solvency.md alone


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def number(value: int, size: int = 32) -> bytes:
    return value.to_bytes(size, "big")


def model(owed: list[int], terms: Terms = TERMS, key: bytes = KEY) -> tuple[bytes, int]:
    """Root and total by recursion over a list that is padded to a power of two."""
    bound = bytes([len(terms.epoch)]) + terms.epoch.encode() + bytes([len(terms.asset)]) + terms.asset.encode()
    leaves = []
    for place, amount in enumerate(owed):
        name = owner(place).encode()
        salt = hmac.new(key, bound + name, "sha256").digest()
        blinded = sha(b"\x02", salt, name)
        leaves.append((blinded, sha(b"\x00", bound, blinded, salt, number(amount)), amount))
    nodes = [(leaf, amount) for _, leaf, amount in sorted(leaves)]
    size = 1
    while size < len(nodes):
        size *= 2
    nodes += [(sha(b"\x03", bound), 0)] * (size - len(nodes))

    def over(part: list[tuple[bytes, int]]) -> tuple[bytes, int]:
        if len(part) == 1:
            return part[0]
        (left, a), (right, b) = over(part[: len(part) // 2]), over(part[len(part) // 2 :])
        return sha(b"\x01", number(a), left, number(b), right), a + b

    top, total = over(nodes)
    return sha(b"\x04", bound, number(terms.seq, 8), number(len(owed), 8), number(total), top), total


def by_the_book_of_docs(content: bytes) -> bool:
    """A verifier by docs/solvency.md alone: hashlib and no code of ours."""
    proof = json.loads(content)
    names = [proof[name].encode() for name in ("epoch", "asset")]
    bound = b"".join(bytes([len(name)]) + name for name in names)
    salt, amount, place, leaves = bytes.fromhex(proof["salt"]), int(proof["amount"]), proof["index"], proof["leaves"]
    blinded = sha(b"\x02", salt, proof["owner"].encode())
    node = sha(b"\x00", bound, blinded, salt, number(amount))
    if not 0 <= place < leaves <= 2**40 or 2 ** len(proof["path"]) < leaves or 2 ** len(proof["path"]) >= 2 * leaves:
        return False
    for beside, text in proof["path"]:
        if int(text) < 0 or amount + int(text) >= 2**256:
            return False
        here, there = (number(amount), node), (number(int(text)), bytes.fromhex(beside))
        node = sha(b"\x01", *there, *here) if place % 2 else sha(b"\x01", *here, *there)
        amount, place = amount + int(text), place // 2
    root = sha(b"\x04", bound, number(proof["seq"], 8), number(leaves, 8), number(amount), node)
    return amount == int(proof["total"]) and root.hex() == proof["root"]


@given(lists, st.integers(0, 39))
def test_a_verifier_written_from_the_docs_says_the_same(owed, who):
    proof = write_proof(tree_over(owed).inclusion(owner(who % len(owed))))
    assert by_the_book_of_docs(proof)
    assert not by_the_book_of_docs(proof.replace(b'"seq":1234', b'"seq":1235'))


@given(lists)
def test_a_tree_is_the_naive_model_and_every_user_finds_their_own_leaf(owed):
    tree = tree_over(owed)
    assert (tree.root, tree.total) == model(owed)
    assert tree.total == sum(owed)
    for place, amount in enumerate(owed):
        proof = read_proof(write_proof(tree.inclusion(owner(place))))
        assert proof.amount == amount
        verify(proof, owner=owner(place), epoch="main/7", asset="USDC", root=tree.root)


def test_the_order_in_which_users_are_told_makes_no_difference():
    rows = [(owner(place).encode(), place) for place in range(11)]
    assert build_tree(TERMS, rows, key=KEY).root == build_tree(TERMS, rows[::-1], key=KEY).root


def test_no_two_leaves_share_a_salt():
    salts = {
        tree_over([1] * 20, terms=Terms(epoch, asset, 1)).inclusion(owner(place)).salt
        for epoch in ("main/1", "main/11", "main1/1")
        for asset in ("ETH", "USDC")
        for place in range(20)
    }
    assert len(salts) == 3 * 2 * 20


def test_users_stand_in_another_order_in_each_epoch():
    first, second = (tree_over([1] * 20, terms=Terms(f"main/{epoch}", "ETH", 1)) for epoch in (1, 2))
    places = [[tree.inclusion(owner(place)).index for place in range(20)] for tree in (first, second)]
    assert places[0] != places[1]


# What can't be listed


def test_an_owner_told_twice_is_refused():
    with pytest.raises(TreasuryCorrupt, match="told twice"):
        build_tree(TERMS, [(b"usr_a", 1), (b"usr_b", 1), (b"usr_a", 0)], key=KEY)


@pytest.mark.parametrize("amount", [-1, -(2**255), SUM_END])
def test_an_amount_below_zero_or_too_large_is_no_leaf(amount):
    with pytest.raises(TreasuryCorrupt, match="can't be"):
        tree_over([5, amount])


@pytest.mark.parametrize("owed", [[SUM_END - 1, 1], [2**255, 0, 2**255], [SUM_END - 1] * 3])
def test_a_sum_of_2_to_the_256_is_refused(owed):
    with pytest.raises(TreasuryCorrupt, match="2\\^256"):
        tree_over(owed)


def test_the_largest_sum_is_proven():
    tree = tree_over([SUM_END - 2, 1, 0])
    assert tree.total == SUM_END - 1
    verify(read_proof(write_proof(tree.inclusion(owner(0)))), root=tree.root)


def test_who_has_no_account_has_no_proof():
    with pytest.raises(NoLeaf, match="usr_nobody has no USDC account in epoch main/7"):
        tree_over([1, 2, 3]).inclusion("usr_nobody")
    with pytest.raises(NoLeaf):
        build_tree(TERMS, [], key=KEY).inclusion(owner(0))


@pytest.mark.parametrize(
    "terms", [("main", "USDC", 1), ("main/0", "USDC", 1), ("main/1", "US DC", 1), ("a/1", "B", -1)]
)
def test_terms_that_name_no_epoch_are_refused(terms):
    with pytest.raises(ListUnfit):
        Terms(*terms)


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ListUnfit, match="32 bytes, not 16"):
        tree_over([1], key=bytes(16))


# Forgeries


def changed_digest(text: str, nibble: int) -> str:
    place = nibble % len(text)
    return text[:place] + f"{(int(text[place], 16) + 1) % 16:x}" + text[place + 1 :]


NEVER = 2**256 - 1
FORGERIES = {
    "amount": lambda d, n: d | {"amount": str(int(d["amount"]) + 1 + n)},
    "lower amount": lambda d, n: d | {"amount": str(max(0, int(d["amount"]) - 1 - n))},
    "salt": lambda d, n: d | {"salt": changed_digest(d["salt"], n)},
    "owner": lambda d, n: d | {"owner": owner(10**6 + n)},
    "epoch": lambda d, n: d | {"epoch": f"main/{8 + n}"},
    "book": lambda d, n: d | {"epoch": "other/7"},
    "asset": lambda d, n: d | {"asset": "ETH"},
    "seq": lambda d, n: d | {"seq": d["seq"] + 1 + n},
    "place": lambda d, n: d | {"index": (d["index"] + 1 + n % (d["leaves"] - 1)) % d["leaves"]},
    "place outside": lambda d, n: d | {"index": d["leaves"] + n},
    "number of users": lambda d, n: d | {"leaves": d["leaves"] + 1 + n},
    "no users": lambda d, n: d | {"leaves": 0},
    "total": lambda d, n: d | {"total": str(int(d["total"]) + 1 + n)},
    "lower total": lambda d, n: d | {"total": str(max(0, int(d["total"]) - 1 - n))},
    "root": lambda d, n: d | {"root": changed_digest(d["root"], n)},
    "sibling's hash": lambda d, n: d | {"path": step(d, n, lambda s: [changed_digest(s[0], n), s[1]])},
    "sibling's sum": lambda d, n: d | {"path": step(d, n, lambda s: [s[0], str(int(s[1]) + 1 + n)])},
    "negative sibling": lambda d, n: d | {"path": step(d, n, lambda s: [s[0], str(-1 - n)])},
    "negative amount": lambda d, n: d | {"amount": str(-1 - n)},
    "sibling's overflow": lambda d, n: d | {"path": step(d, n, lambda s: [s[0], str(NEVER - n)])},
    "sum past the bound": lambda d, n: d | {"path": step(d, n, lambda s: [s[0], str(NEVER + 1 + n)])},
    "amount moved to the sibling": lambda d, n: (
        d | {"amount": "0", "path": [[d["path"][0][0], str(int(d["path"][0][1]) + int(d["amount"]))], *d["path"][1:]]}
    ),
    "siblings swapped": lambda d, n: d | {"index": d["index"] ^ 1},
    "steps swapped": lambda d, n: d | {"path": d["path"][::-1]},
    "step left out": lambda d, n: d | {"path": d["path"][:-1]},
    "first step left out": lambda d, n: d | {"path": d["path"][1:]},
    "step too much": lambda d, n: d | {"path": [*d["path"], d["path"][-1]]},
}


def step(document: dict[str, Any], which: int, change) -> list[Any]:
    path = document["path"]
    which %= len(path)
    return [*path[:which], change(path[which]), *path[which + 1 :]]


@pytest.mark.parametrize("forgery", FORGERIES)
@given(owed=st.lists(st.integers(0, 10**24), min_size=2, max_size=20), who=st.integers(0, 19), how=st.integers(0, 63))
def test_a_forged_proof_is_refused(forgery, owed, who, how):
    proof = tree_over(owed).inclusion(owner(who % len(owed)))
    good = told(proof)
    check(good)  # what is forged was one
    forged = FORGERIES[forgery](good, how)
    assume(forged != good)
    with pytest.raises(SolvencyProofInvalid):
        check(forged)


@given(
    owed=st.lists(st.integers(0, 5), min_size=2, max_size=12), pair=st.tuples(st.integers(0, 11), st.integers(0, 11))
)
def test_no_user_can_show_anothers_leaf_or_salt(owed, pair):
    mine, theirs = (place % len(owed) for place in pair)
    assume(mine != theirs)
    tree = tree_over(owed)
    me, them = tree.inclusion(owner(mine)), tree.inclusion(owner(theirs))
    with pytest.raises(SolvencyProofInvalid, match="not for") as refused:
        verify(them, owner=owner(mine), root=tree.root)
    assert refused.value.code == "other_owner"
    for forged in (replace(them, owner=me.owner), replace(me, salt=them.salt), replace(them, salt=me.salt)):
        with pytest.raises(SolvencyProofInvalid):
            verify(forged)


def test_two_users_of_the_same_balance_cannot_share_one_leaf():
    """Who is shown another's leaf as theirs finds it out: the leaf binds whose it is."""
    tree = tree_over([100, 100])
    shared = replace(tree.inclusion(owner(0)), owner=owner(1))
    with pytest.raises(SolvencyProofInvalid) as refused:
        verify(shared, owner=owner(1), root=tree.root)
    assert refused.value.code == "root_differs"


def test_a_node_cannot_be_opened_with_other_sums_of_the_same_total():
    """The flaw of the first such trees: where only the children's total is hashed, these two would be one node."""
    left, right = tree_over([70, 30]).inclusion(owner(0)), tree_over([70, 30]).inclusion(owner(1))
    for proof in (left, right):
        moved = replace(proof, path=(Step(proof.path[0].digest, proof.total),), amount=0)
        assert moved.amount + moved.path[0].amount == proof.total
        with pytest.raises(SolvencyProofInvalid):
            verify(moved)


def test_an_inner_node_is_no_leaf():
    """A path that ends one level higher, at a node that really is in the tree."""
    tree = tree_over([1, 2, 3, 4])
    proof = tree.inclusion(owner(0))
    with pytest.raises(SolvencyProofInvalid, match="its path has 1 steps; in a list of 4 it has 2"):
        verify(replace(proof, path=proof.path[1:], index=proof.index // 2))


@pytest.mark.parametrize("given", [{"epoch": "main/8"}, {"asset": "ETH"}, {"root": bytes(32)}, {"owner": "usr_x"}])
def test_a_good_proof_of_something_else_is_refused(given):
    proof = tree_over([1, 2, 3]).inclusion(owner(1))
    verify(proof)
    with pytest.raises(SolvencyProofInvalid, match="the proof is for the") as refused:
        verify(proof, **given)
    assert refused.value.code == f"other_{next(iter(given))}"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("negative_amount", {"amount": -1}),
        ("negative_amount", {"path": (Step(bytes(32), -5), Step(bytes(32), 1))}),
        ("sum_too_large", {"path": (Step(bytes(32), SUM_END - 1), Step(bytes(32), 1))}),
        ("sum_too_large", {"path": (Step(bytes(32), SUM_END), Step(bytes(32), 1))}),
        ("place_outside_list", {"leaves": LEAVES_MAX + 1}),
        ("place_outside_list", {"index": -1}),
    ],
)
def test_a_proof_that_never_was_a_file_is_refused_too(code, change):
    with pytest.raises(SolvencyProofInvalid) as refused:
        verify(replace(tree_over([1, 2, 3]).inclusion(owner(1)), **change))
    assert refused.value.code == code


# The file


@pytest.mark.parametrize(
    "change",
    [
        {"format": "onebook-solvency-1"},
        {"more": 1},
        {"amount": 5},
        {"amount": "05"},
        {"amount": "+5"},
        {"amount": "5 "},
        {"amount": "٥"},
        {"amount": "1e3"},
        {"index": True},
        {"index": 1.0},
        {"index": -1},
        {"seq": 2**63},
        {"leaves": "3"},
        {"salt": "AB" * 32},
        {"salt": "ab" * 31 + " b"},
        {"root": "ab" * 33},
        {"owner": "usr_a\n"},
        {"owner": 5},
        {"epoch": "main"},
        {"path": {}},
        {"path": [["ab" * 32]]},
        {"path": [["ab" * 32, "1", "2"]]},
        {"path": ["ab"]},
    ],
)
def test_a_file_of_another_form_is_refused(change):
    with pytest.raises(SolvencyProofInvalid) as refused:
        check(told(tree_over([1, 2, 3]).inclusion(owner(1))) | change)
    assert refused.value.code == "proof_malformed"


@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"\xff", b"[" * 100_000, b" " * (DOCUMENT_BYTES_MAX + 1), b"1"]
)
def test_what_is_no_json_of_a_proof_is_refused(content):
    with pytest.raises(SolvencyProofInvalid) as refused:
        read_proof(content)
    assert refused.value.code == "proof_malformed"


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(content):
    with pytest.raises(SolvencyProofInvalid):
        read_proof(content)


def test_a_proof_among_a_million_users_fits_3072_bytes():
    """Twenty steps, each with a sum of 48 digits: more than any asset's whole supply in its smallest unit."""
    proof = tree_over([10**47, 5]).inclusion(owner(0))
    steps = (Step(b"\xff" * 32, 10**48 - 1),) * levels_of(1_000_000)
    long = replace(proof, path=steps, leaves=1_000_000, index=999_999, total=10**48 - 1, amount=10**47)
    assert len(steps) == 20
    assert len(write_proof(long)) <= 3072


@given(st.integers(1, 10**6))
def test_the_levels_are_those_of_the_next_power_of_two(leaves):
    levels = levels_of(leaves)
    assert 2**levels >= leaves > (2**levels) // 2
