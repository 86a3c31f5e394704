"""The spec's way to the shim and to init."""

from compat_engine.shim.channel import decode, encode
from compat_engine.shim.plan import Plan, Stream
from compat_engine.shim.spec import CgroupDir, Log, Mount, Namespaces, Overlay, Process, Rlimit, Spec, User

SPEC = Spec(
    "id", Process(("sh",), ("A=é\"",), user=User("1:2", ("3",)), tty=True, rlimits=(Rlimit("nofile", 1, 2),), oom_score_adj=5),
    Overlay(("/a", "/b"), "/u", "/w"), mounts=(Mount("bind", "/s", "/t", ("ro",)),), log=Log(path="/log", max_size=5),
    namespaces=Namespaces(pid="/proc/1/ns/pid"), cgroups=(CgroupDir("/c", (("pids.max", "9"),)),), annotations={"shim": "x"},
)  # fmt: skip


def test_a_spec_survives_its_dump() -> None:
    assert Spec.load(SPEC.dump()) == SPEC


def test_the_shims_part() -> None:
    plan = Plan(Stream(True, False, False), SPEC.log, "/proc/1/ns/pid", "new", SPEC.cgroups)
    assert Plan.load(SPEC.dump().encode()) == plan


def test_messages() -> None:
    message = {"op": 'a"\n', "n": -5, "list": [{"x": None}, True, False], "empty": {}, "text": "é\ud800"}
    assert decode(encode(message)) == message
