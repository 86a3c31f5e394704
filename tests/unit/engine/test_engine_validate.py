import os

import pytest

from compat_engine.engine.validate import cpu_set, signal_number, validate, validate_start
from compat_engine.errors import EngineError, InvalidParameter
from compat_engine.wire.container import Config, HostConfig

CPUS = os.cpu_count() or 1


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Memory": 1 << 20}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 10 << 20, "MemorySwap": 5 << 20}, "Minimum memoryswap limit should be larger than memory limit, see usage"),
        ({"MemorySwap": 5 << 20}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"NanoCpus": (CPUS + 1) * 10**9}, f"Range of CPUs is from 0.01 to {CPUS}.00, as there are only {CPUS} CPUs available"),
        ({"CpusetCpus": "8191"}, "Requested CPUs are not available - requested 8191, available: "),
        ({"OomScoreAdj": 3000}, "Invalid value 3000, range for oom score adj is [-1000, 1000]"),
        ({"AutoRemove": True, "RestartPolicy": {"Name": "always"}}, "can't create 'AutoRemove' container with restart policy"),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "maximum retry count cannot be negative"),
        ({"IpcMode": "foo"}, "invalid IPC mode: foo"),
        ({"PidMode": "bogus"}, "invalid PID mode: bogus"),
        ({"CgroupnsMode": "bogus"}, "invalid cgroup namespace mode: bogus"),
        (
            {"NetworkMode": "container:x", "PortBindings": {"80/tcp": []}},
            "conflicting options: port publishing and the container type network mode",
        ),
        ({"LogConfig": {"Type": "foo"}}, 'error looking up logging plugin foo: plugin "foo" not found'),
        ({"LogConfig": {"Type": "json-file", "Config": {"foo": "1"}}}, "unknown log opt 'foo' for json-file log driver"),
        ({"Runtime": "foo"}, "unknown or invalid runtime name: foo"),
        ({"CapAdd": ["FOO"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ({"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
        ({"PortBindings": {"foo": []}}, 'invalid port specification: "foo"'),
        ({"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}, 'invalid port specification: "x"'),
        ({"PortBindings": {"80/tcp": [{"HostPort": "9" * 5000}]}}, 'invalid port specification: "9999'),
        ({"PortBindings": {"1-9999999999/tcp": []}}, 'invalid port specification: "1-9999999999/tcp"'),
        ({"Memory": (1 << 63) - 1}, "invalid memory limit: 9223372036854775807"),
        ({"LogConfig": {"Type": "json-file", "Config": {"mode": "x"}}}, "logger: logging mode not supported: x"),
        ({"DeviceCgroupRules": ["c " + "9" * 5000 + ":1 rwm"]}, "invalid device cgroup rule format: 'c 9999"),
    ],
)
def test_refused_in_dockers_words(host: dict[str, object], message: str) -> None:
    with pytest.raises(EngineError) as refused:
        validate(Config(), HostConfig.parse(host))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("config", "host", "name"),
    [
        ({"Cmd": ["echo", "a\0b"]}, {}, "Cmd"),
        ({"Env": ["A=\0"]}, {}, "Env"),
        ({"WorkingDir": "/a\0"}, {}, "WorkingDir"),
        ({"Volumes": {"/a\0": {}}}, {}, "Volumes"),
        ({}, {"Mounts": [{"Type": "tmpfs", "Target": "/a\0"}]}, "Mounts"),
        ({}, {"Tmpfs": {"/a": "size=1\0"}}, "Tmpfs"),
        ({}, {"Ulimits": [{"Name": "no\0file"}]}, "Ulimits"),
        ({}, {"CgroupParent": "/\0"}, "CgroupParent"),
    ],
)
def test_a_nul_byte(config: dict[str, object], host: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid {name}: contains a NUL byte$"):
        validate(Config.parse(config), HostConfig.parse(host))


def test_what_a_plain_run_sends_passes() -> None:
    host = {
        "NetworkMode": "default",
        "RestartPolicy": {"Name": "no"},
        "PidsLimit": 0,
        "MemorySwappiness": -1,
        "Dns": [],
        "CpuShares": 0,
    }
    assert validate(Config.parse({"Hostname": "h", "Env": ["A=b"]}), HostConfig.parse(host)) == []


@pytest.mark.parametrize(
    ("word", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+3", 37), ("RTMIN+15", 49), ("rtmax-14", 50), ("SIGRTMAX-1", 63)],
)
def test_signals(word: str, number: int) -> None:
    assert signal_number(word) == number


@pytest.mark.parametrize("word", ["FOO", "0", "65", "-1", "TERM+1", "SIG", "BLOCK", "_DFL", "", "1.5", "9" * 5000, "RTMIN+40", "RTMIN+16", "RTMIN-1", "RTMAX-15", "RTMIN+0"])
def test_no_signal(word: str) -> None:
    with pytest.raises(InvalidParameter, match=r"invalid signal|does not support signal 65"):
        signal_number(word)


def test_cpu_sets() -> None:
    assert cpu_set("0-2,4") == {0, 1, 2, 4}
    for bad in ("", "a", "2-1", "-1"):
        with pytest.raises(ValueError):
            cpu_set(bad)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (
            {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]},
            'could not select device driver "" with capabilities: [[gpu]]',
        ),
        ({"Sysctls": {"kernel.foo": "1"}}, 'sysctl "kernel.foo" is not in a separate kernel namespace'),
        ({"Sysctls": {"net.core.somaxconn": "1"}, "NetworkMode": "host"}, "not allowed in host network namespace"),
    ],
)
def test_refused_only_at_start(host: dict[str, object], message: str) -> None:
    asked = HostConfig.parse(host)
    validate(Config(), asked)
    with pytest.raises(EngineError) as refused:
        validate_start(asked)
    assert message in str(refused.value)
