"""What Go's encoding/json does, and what dockerd echoes."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.errors import InvalidParameter
from compat_engine.wire.container import Config, CreateRequest, HostConfig, Mount
from compat_engine.wire.exec import ExecCreate

# Order and zero values as dockerd 26 shows them.
HOST_CONFIG = ["Binds", "ContainerIDFile", "LogConfig", "NetworkMode", "PortBindings", "RestartPolicy", "AutoRemove", "VolumeDriver", "VolumesFrom", "ConsoleSize", "CapAdd", "CapDrop", "CgroupnsMode", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "IpcMode", "Cgroup", "Links", "OomScoreAdj", "PidMode", "Privileged", "PublishAllPorts", "ReadonlyRootfs", "SecurityOpt", "UTSMode", "UsernsMode", "ShmSize", "Isolation", "CpuShares", "Memory", "NanoCpus", "CgroupParent", "BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpusetCpus", "CpusetMems", "Devices", "DeviceCgroupRules", "DeviceRequests", "MemoryReservation", "MemorySwap", "MemorySwappiness", "OomKillDisable", "PidsLimit", "Ulimits", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", "MaskedPaths", "ReadonlyPaths"]


def test_zero_values_are_echoed_and_omitempty_is_not() -> None:
    assert list(HostConfig().dump()) == HOST_CONFIG
    assert HostConfig().dump()["ConsoleSize"] == [0, 0]
    assert HostConfig().dump()["RestartPolicy"] == {"Name": "", "MaximumRetryCount": 0}
    assert "StopTimeout" not in Config().dump()
    assert Config.parse({"StopTimeout": 0}).dump()["StopTimeout"] == 0
    assert HostConfig.parse({"Init": False, "Sysctls": {}}).dump()["Init"] is False
    assert "Sysctls" not in HostConfig.parse({"Sysctls": {}}).dump()


def test_null_is_absent_and_case_does_not_matter() -> None:
    nothing = dict.fromkeys((*Config.model_fields, "HostConfig", "NetworkingConfig"))
    assert CreateRequest.parse(nothing) == CreateRequest()
    assert CreateRequest.parse(None) == CreateRequest()
    request = CreateRequest.parse({"image": "b", "hostCONFIG": {"portbindings": {"80/tcp": [{"hostport": "1"}]}}, "Nobody": 1})
    assert request.Image == "b"
    assert request.HostConfig.dump()["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "1"}]}


def test_null_inside_lists_and_maps_is_the_zero_value() -> None:
    config = Config.parse({"Env": ["A=1", None], "Labels": {"a": None}, "Volumes": {"/x": None}})
    assert (config.Env, config.Labels, config.Volumes) == (["A=1", ""], {"a": ""}, {"/x": {}})
    host = HostConfig.parse({"PortBindings": {"80/tcp": None, "81/tcp": [None]}}).dump()
    assert host["PortBindings"] == {"80/tcp": None, "81/tcp": [{"HostIp": "", "HostPort": ""}]}


def test_empty_is_not_null() -> None:
    assert HostConfig.parse({"MaskedPaths": []}).MaskedPaths == []
    assert HostConfig.parse({"MaskedPaths": None}).MaskedPaths is None
    assert HostConfig.parse({"Dns": []}).dump()["Dns"] == []


def test_command_as_a_string_and_half_a_console_size() -> None:
    assert Config.parse({"Cmd": "ls", "Entrypoint": ""}).dump()["Entrypoint"] == [""]
    assert Config.parse({"Cmd": "ls"}).Cmd == ["ls"]
    assert HostConfig.parse({"ConsoleSize": [24]}).ConsoleSize == [24, 0]
    assert ExecCreate.parse({"Cmd": "true"}).Cmd == ["true"]


def test_mounts_show_only_what_was_said() -> None:
    raw = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5, "Mode": 0}, "ReadOnly": False}
    assert Mount.parse(raw).dump() == {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 5}}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"Image": 5}, "cannot unmarshal number into Go struct field CreateRequest.Image of type string"),
        ({"Tty": "x"}, "cannot unmarshal string into Go struct field CreateRequest.Tty of type bool"),
        ({"HostConfig": {"Memory": 1.5}}, "cannot unmarshal number 1.5 into Go struct field CreateRequest.HostConfig.Memory"),
        ({"HostConfig": {"Memory": 1 << 63}}, f"cannot unmarshal number {1 << 63} into Go struct field"),
        ({"HostConfig": {"BlkioWeight": 70000}}, "cannot unmarshal number 70000 into Go struct field"),
        ({"HostConfig": {"Privileged": 1}}, "cannot unmarshal number into Go struct field"),
        ([], "cannot unmarshal array into Go value of type CreateRequest"),
        ("x", "cannot unmarshal string into Go value of type CreateRequest"),
    ],
)
def test_nothing_is_coerced(raw: object, text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        CreateRequest.parse(raw)
    assert str(caught.value).startswith(f"invalid JSON: json: {text}")


def test_what_is_dumped_is_read_back_as_it_was() -> None:
    raw = {"Image": "b", "Cmd": ["a"], "HostConfig": {"Binds": ["/a:/b"], "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}]}}
    request = CreateRequest.parse(raw)
    assert CreateRequest.parse(json.loads(json.dumps(request.dump()))) == request
    assert list(request.config.dump()) == list(Config(Image="b").dump())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*HOST_CONFIG, "Mounts", "x"]), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_whatever_comes_is_read_or_refused(raw: object) -> None:
    with suppress(InvalidParameter):
        HostConfig.parse(raw).dump()
