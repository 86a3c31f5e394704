"""Patterns of image names, as Go's path.Match has them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.engine.patterns import path_match
from compat_engine.errors import InvalidParameter

CASES = {
    ("a*", "abc"): True,
    ("a*", "ab/c"): False,
    ("a*/b", "abc/b"): True,
    ("a*b?c*x", "abxbbxdbxebxczzx"): True,
    ("a*b?c*x", "abxbbxdbxebxczzy"): False,
    ("ab[c]", "abc"): True,
    ("ab[b-d]", "abc"): True,
    ("ab[e-g]", "abc"): False,
    ("ab[^c]", "abc"): False,
    ("ab[^e-g]", "abc"): True,
    ("a\\*b", "a*b"): True,
    ("a\\*b", "ab"): False,
    ("a?b", "a☺b"): True,
    ("a?b", "a/b"): False,
    ("a[/]b", "a/b"): True,
    ("[a-ζ]*", "α"): True,
    ("[\\]a]", "]"): True,
    ("[\\-x]", "-"): True,
    ("[x\\-]", "z"): False,
    ("[z-a]", "m"): False,
    ("[^z-a]", "m"): True,
    ("[[:alpha:]]", "a]"): True,
    ("a.c", "abc"): False,
    ("(a|b)", "a"): False,
    ("*", "a\nb"): True,
    ("", ""): True,
}
BAD = ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[\\"]


@pytest.mark.parametrize(("pattern", "text"), CASES)
def test_what_matches(pattern: str, text: str) -> None:
    assert path_match(pattern, text) == CASES[pattern, text]


@pytest.mark.parametrize("pattern", BAD)
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^syntax error in pattern$"):
        path_match(pattern, "a")


def test_many_stars_take_no_time() -> None:
    began = time.process_time()
    assert not path_match("a*" * 200 + "b", "a" * 4000)
    assert time.process_time() - began < 1


@given(st.text("ab/*?\\[]^-.", max_size=12), st.text("ab/*?[]-.", max_size=12))
def test_the_same_as_a_plain_reading(pattern: str, text: str) -> None:
    try:
        found = path_match(pattern, text)
    except InvalidParameter:
        return
    assert found == plain(pattern, text)


def plain(pattern: str, text: str) -> bool:
    """Only for patterns that are well formed."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return plain(pattern[1:], text) or (text[:1] not in ("", "/") and plain(pattern, text[1:]))
    if not text:
        return False
    if pattern[0] == "?":
        return text[0] != "/" and plain(pattern[1:], text[1:])
    if pattern[0] != "[":
        literal = pattern.removeprefix("\\")
        return literal[0] == text[0] and plain(literal[1:], text[1:])
    rest, found = pattern[1:].removeprefix("^"), False
    while True:
        ends = []
        for _ in range(2):
            rest = rest.removeprefix("\\")
            ends.append(rest[0])
            rest = rest[1:]
            if not rest.startswith("-"):
                break
            rest = rest[1:]
        found = found or ends[0] <= text[0] <= ends[-1]
        if rest[0] == "]":
            return found != pattern.startswith("[^") and plain(rest[1:], text[1:])
