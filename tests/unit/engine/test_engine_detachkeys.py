import pytest

from compat_engine.engine.detachkeys import DetachKeys
from compat_engine.errors import InvalidParameter

P, Q = b"\x10", b"\x11"


def test_the_default_sequence_wherever_it_is_cut() -> None:
    assert DetachKeys().feed(b"ab" + P + Q + b"cd") == (b"ab", True)
    keys = DetachKeys()
    assert keys.feed(b"a" + P) == (b"a", False)
    assert keys.feed(Q) == (b"", True)


def test_what_only_began_is_passed_on() -> None:
    keys = DetachKeys()
    assert keys.feed(P) == (b"", False)
    assert keys.feed(b"x") == (P + b"x", False)
    assert keys.feed(P) == (b"", False)
    assert keys.feed(P) == (P, False)
    assert keys.feed(Q) == (b"", True)


def test_a_sequence_that_repeats_itself() -> None:
    keys = DetachKeys("a,a,b")
    assert keys.feed(b"aaa") == (b"a", False)
    assert keys.feed(b"b") == (b"", True)


def test_the_names_of_keys() -> None:
    assert DetachKeys("ctrl-@,ctrl-[,ctrl-_,x,DEL").sequence == b"\x00\x1b\x1fx\x7f"


@pytest.mark.parametrize("keys", ["ctrl-zz", "ab", "a,,b", "ctrl-A", "ctrl-"])
def test_unknown_keys(keys: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        DetachKeys(keys)
    assert str(caught.value) == f"Invalid detach keys ({keys}) provided"
