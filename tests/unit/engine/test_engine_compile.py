from compat_engine.engine.compile import MASKED, Inputs, compile_spec
from compat_engine.engine.records import ContainerRecord, MountPoint
from compat_engine.shim.spec import Log, Namespaces, Overlay, Spec
from compat_engine.wire.container import Config, HostConfig

INPUTS = Inputs(
    rootfs=Overlay(("/lower",), "/upper", "/work"),
    namespaces=Namespaces(),
    cgroups=(),
    caps=("CAP_CHOWN",),
    seccomp="",
    devices=(),
    files={"/etc/hosts": "/data/hosts"},
    log=Log(),
    hostname="box",
)


def spec(
    host: dict[str, object] | None = None, config: dict[str, object] | None = None, mounts: tuple[MountPoint, ...] = ()
) -> Spec:
    record = ContainerRecord(
        id="i" * 64, name="n", created="", config=Config.parse(config or {}), host_config=HostConfig.parse(host or {}),
        image="sha256:0", endpoints={}, args=("sh",), mounts=mounts,
    )  # fmt: skip
    return compile_spec(record, INPUTS)


def test_it_survives_the_bundle() -> None:
    made = spec({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "Sysctls": {"net.a": "1"}})
    assert Spec.load(made.dump()) == made


def test_environment_in_dockers_order() -> None:
    env = spec(config={"Env": ["A=1", "PATH=/x", "GONE"], "Tty": True}).process.env
    assert env == ("PATH=/x", "HOSTNAME=box", "TERM=xterm", "A=1")


def test_privileged_has_no_masks_and_a_writable_sys() -> None:
    plain, privileged = spec(), spec({"Privileged": True})
    assert plain.masked_paths == MASKED and privileged.masked_paths == () == privileged.readonly_paths
    flags = {mount.target: mount.flags for mount in privileged.mounts}
    assert "ro" not in flags["/sys"] and "ro" not in flags["/sys/fs/cgroup"]
    assert spec({"MaskedPaths": []}).masked_paths == ()  # systempaths=unconfined


def test_parents_are_mounted_before_children_and_a_users_mount_replaces_the_engines() -> None:
    mounts = (
        MountPoint("bind", "/h", "/a/b/c"),
        MountPoint("bind", "/h", "/a"),
        MountPoint("bind", "/h", "/etc/hosts", rw=False),
    )
    made = spec({"Tmpfs": {"/a/b": "size=1m"}}, mounts=mounts)
    order = [mount.target for mount in made.mounts]
    assert order.index("/a") < order.index("/a/b") < order.index("/a/b/c")
    hosts = [mount for mount in made.mounts if mount.target == "/etc/hosts"]
    assert len(hosts) == 1 and "rro" in hosts[0].flags
