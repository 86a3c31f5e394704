"""What the archive routes make of Accept-Encoding."""

import pytest

from compat_engine.api.routes.archives import negotiated


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", ""),
        ("identity", ""),
        ("gzip", "gzip"),
        ("deflate, gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0", ""),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0.5, identity", ""),
        ("*", "gzip"),
        ("br, gzip;q=bad", ""),
    ],
)
def test_encoding(accepted: str, expected: str) -> None:
    assert negotiated(accepted) == expected
