"""References: Docker's defaults, texts and limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.errors import InvalidParameter
from compat_engine.images.reference import is_digest, parse, repository_tag

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("user/app:v1", "docker.io/user/app:v1", "user/app:v1"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x/y:z", "localhost:5000/x/y:z", "localhost:5000/x/y:z"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("Upper/x", "Upper/x", "Upper/x"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"a:b@{DIGEST}", f"docker.io/library/a:b@{DIGEST}", f"a:b@{DIGEST}"),
        ("a__b--c.d", "docker.io/library/a__b--c.d", "a__b--c.d"),
    ],
)
def test_forms(text: str, canonical: str, familiar: str) -> None:
    reference = parse(text)
    assert (str(reference), reference.familiar) == (canonical, familiar)
    assert parse(canonical) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("NOSUCH", "invalid reference format: repository name (library/NOSUCH) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("a:b:c", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a/" * 128 + "b", "repository name must not be more than 255 characters"),
        (f"a@sha256:{'a' * 63}", "invalid checksum digest length"),
        (f"a@md5:{'a' * 32}", "unsupported digest algorithm"),
        ("a@sha256:abc", "invalid reference format"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        parse(text)
    assert str(error.value) == message


def test_repository_and_tag_as_two_parameters() -> None:
    assert repository_tag("", "x") is None
    assert str(repository_tag("a:1", "2")) == "docker.io/library/a:2"
    assert str(repository_tag("a", "")) == "docker.io/library/a:latest"
    for repository, tag, message in (("a", "::", "invalid tag format"), (f"a@{DIGEST}", "", "cannot import digest reference")):
        with pytest.raises(InvalidParameter, match=message):
            repository_tag(repository, tag)


@given(st.text("abAB01._-/:@[]sha256", max_size=40))
def test_what_is_accepted_reads_back_the_same(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidParameter:
        return
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


def test_digests() -> None:
    assert is_digest(DIGEST)
    assert not any(map(is_digest, ("", "sha256:", DIGEST[:-1], DIGEST.upper(), "md5:" + "a" * 32)))
