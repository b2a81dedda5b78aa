"""The file of listed addresses: what it may hold, what is said of a fault, and that a change is seen."""

import os

import pytest

from chain.errors import InvalidScreeningList, ScreeningUnavailable
from chain.evm.addresses import show_address
from chain.screening import AllOf, ScreeningList, parse_list

ONE, TWO, THREE = ("0x" + digits * 20 for digits in ("1a", "2b", "3c"))
BLOCK = "0x" + "00" * 32


def test_comments_and_empty_lines_are_for_people_and_a_comment_behind_an_address_is_its_reason():
    text = f"# a list\n\n{ONE}\n  {show_address(TWO)}   # a mixer\n{THREE.upper().replace('0X', '0x')}#x\n"
    assert parse_list(text, source="l.txt") == {ONE: "l.txt:3", TWO: "l.txt:4 (a mixer)", THREE: "l.txt:5 (x)"}


def mistyped(address: str) -> str:
    return show_address(address).swapcase().replace("0X", "0x")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0x1234", "an address is 0x and 40 hexadecimal digits"),
        (f"{ONE},{TWO}", "an address is 0x and 40 hexadecimal digits"),
        (f"{ONE} a reason without its sign", "an address is 0x and 40 hexadecimal digits"),
        (mistyped(TWO), "checksum"),
        ("0x" + "00" * 20, "nobody holds the zero address"),
        (show_address(THREE), "stands in line 1 already"),
    ],
)
def test_a_bad_line_is_named_with_its_file_its_number_and_the_reason(line, why):
    with pytest.raises(InvalidScreeningList) as raised:
        parse_list(f"{THREE}\n# fine\n{line}\n", source="listed.txt")
    assert "listed.txt:3: " in raised.value.message
    assert why in raised.value.message


def test_every_fault_is_named_up_to_a_bound():
    with pytest.raises(InvalidScreeningList, match=r"l:1: .*; l:2: .*; l:20: .*; and 5 more") as raised:
        parse_list("x\n" * 25, source="l")
    assert "l:21:" not in raised.value.message


async def test_a_changed_file_is_read_again_and_one_that_cannot_be_is_no_list(tmp_path):
    path = tmp_path / "listed.txt"
    listed = ScreeningList(path)
    with pytest.raises(InvalidScreeningList, match=r"listed\.txt can't be read: No such file"):
        listed.load()
    path.write_text(f"{ONE}\n")
    assert await listed.objections([ONE, TWO], block=BLOCK) == {ONE: f"{path}:1"}
    path.write_text(f"{TWO} # new\n{ONE}\n")
    assert await listed.objections([ONE, TWO], block=BLOCK) == {ONE: f"{path}:2", TWO: f"{path}:1 (new)"}
    for fault in (f"{TWO}\n{TWO}\n".encode(), b"\xff\xfe\x00"):
        path.write_bytes(fault)
        for _ in range(2):  # the list that was good before isn't used, however often it's asked
            with pytest.raises(ScreeningUnavailable, match=r"listed\.txt"):
                await listed.objections([ONE], block=BLOCK)
    os.unlink(path)
    with pytest.raises(ScreeningUnavailable, match="can't be read"):
        await listed.objections([ONE], block=BLOCK)
    path.write_text("# nobody\n")
    assert await listed.objections([ONE], block=BLOCK) == {}


async def test_any_of_several_objects_and_all_must_be_able_to_tell(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(f"{ONE}\n{TWO}\n")
    two.write_text(f"{TWO}\n")
    both = AllOf([ScreeningList(one), ScreeningList(two)])
    told = await both.objections([ONE, TWO, THREE], block=BLOCK)
    assert told == {ONE: f"{one}:1", TWO: f"{one}:2; {two}:1"}
    two.unlink()
    with pytest.raises(ScreeningUnavailable):
        await both.objections([ONE], block=BLOCK)
