"""libnftables in a process with more descriptors than select(2) can name: without care glibc would end it. Needs root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ROOT = Path(__file__).resolve().parents[2]

CROWDED = """
import os, resource
from compat_engine.network.nft import Nft

resource.setrlimit(resource.RLIMIT_NOFILE, (3000, 3000))
first = Nft()
crowd = [os.open(os.devnull, os.O_RDONLY) for _ in range(2000)]
for _ in range(100):  # more than are set aside
    nft = Nft()
    nft.list("tables")
    nft.close()
together = [Nft() for _ in range(10)]
for nft in together:
    nft.list("tables")
    nft.close()
first.close()
"""

FULL = """
import os, resource
from compat_engine.errors import Internal
from compat_engine.network.nft import Nft

resource.setrlimit(resource.RLIMIT_NOFILE, (3000, 3000))
crowd = [os.open(os.devnull, os.O_RDONLY) for _ in range(2000)]
try:
    Nft()
except Internal as error:
    print(error)
os.closerange(crowd[0], crowd[0] + 5)
Nft().list("tables")
"""


def output(code: str) -> str:
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_crowded_process_has_contexts_still() -> None:
    assert output(CROWDED) == ""


def test_no_low_descriptor_is_an_error() -> None:
    assert output(FULL) == "nftables: no descriptor below 1024 is free\n"
