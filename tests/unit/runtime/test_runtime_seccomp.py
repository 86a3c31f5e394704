import os
from pathlib import Path

import pytest

from compat_engine.errors import InvalidParameter
from compat_engine.kernel.seccomp import Target
from compat_engine.runtime.capabilities import DEFAULT, KNOWN
from compat_engine.runtime.seccomp import SeccompCache, compile_text, default_profile

REFERENCE = os.environ.get("SECCOMP_REFERENCE", "")


def test_programs_are_made_once_and_found_again(tmp_path: Path) -> None:
    caps = frozenset(DEFAULT)
    path = SeccompCache(tmp_path).path_for("builtin", caps)
    made = os.stat(path)
    assert made.st_size % 8 == 0
    assert SeccompCache(tmp_path).path_for("builtin", caps) == path
    assert os.stat(path).st_mtime_ns == made.st_mtime_ns
    assert SeccompCache(tmp_path).path_for("builtin", caps | {"CAP_SYS_ADMIN"}) != path
    assert SeccompCache(tmp_path).path_for("unconfined", caps) == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"defaultAction": "SCMP_ACT_NOTIFY"}'])
def test_malformed_profiles(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^Decoding seccomp profile failed: "):
        SeccompCache(tmp_path).path_for(text, frozenset())


@pytest.mark.skipif(not REFERENCE, reason="SECCOMP_REFERENCE names no profile to compare with")
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_default_profile_compiles_to_the_reference(machine: str) -> None:
    reference, target = Path(REFERENCE).read_text(), Target(machine, (6, 1))
    sets = [frozenset(), frozenset(DEFAULT), frozenset(KNOWN), *(frozenset({cap}) for cap in KNOWN)]
    for caps in sets:
        assert compile_text(default_profile(), caps, target) == compile_text(reference, caps, target)
