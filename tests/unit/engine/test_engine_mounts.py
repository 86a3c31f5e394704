from pathlib import Path

import pytest

from compat_engine.engine.mounts import mount_points, tmpfs_options
from compat_engine.engine.records import MountPoint
from compat_engine.errors import InvalidParameter, NotFound
from compat_engine.wire.container import Config, HostConfig


def points(
    host: dict[str, object], config: dict[str, object] | None = None, **others: tuple[MountPoint, ...]
) -> dict[str, MountPoint]:
    def mounts_of(word: str) -> tuple[MountPoint, ...]:
        if word not in others:
            raise NotFound(f"No such container: {word}")
        return others[word]

    found, _ = mount_points(Config.parse(config or {}), HostConfig.parse(host), mounts_of)
    return {point.destination: point for point in found}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "/x:y",
            "invalid volume specification: '/x:y': invalid mount config for type \"bind\": invalid mount path: 'y' mount path must be absolute",
        ),
        ("a:/x:foo", "invalid mode: foo"),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/tmp:", "invalid volume specification: '/tmp:'"),
        (":/x", "invalid volume specification: ':/x'"),
        ("/x:/y:ro,rw", "invalid mode: ro,rw"),
        ("/x:ro", "invalid volume specification: '/x:ro'"),
        (
            "v:/x:rslave",
            "invalid volume specification: 'v:/x:rslave': invalid mount config for type \"volume\": field BindOptions must not be specified",
        ),
    ],
)
def test_a_bad_bind_is_refused_in_dockers_words(spec: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        points({"Binds": [spec]})
    assert str(refused.value) == message


def test_binds_and_named_volumes() -> None:
    found = points({"Binds": ["/src/../host:/a/:ro,rslave", "data:/b", "logs:/c:nocopy"]})
    assert found["/a"].source == "/host" and not found["/a"].rw and found["/a"].propagation == "rslave"
    assert (found["/b"].type, found["/b"].name, found["/b"].mode, found["/b"].copy_up) == ("volume", "data", "z", True)
    assert not found["/c"].copy_up


def test_an_image_volume_is_anonymous_unless_something_is_mounted_there() -> None:
    found = points({"Binds": ["named:/data"]}, {"Volumes": {"/data": {}, "/cache": {}}})
    assert found["/data"].name == "named" and not found["/data"].anonymous
    assert found["/cache"].anonymous and len(found["/cache"].name) == 64
    assert "/cache" not in points({"Tmpfs": {"/cache": ""}}, {"Volumes": {"/cache": {}}})


def test_two_mounts_on_one_target_are_refused(tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/y"}
    hosts: tuple[dict[str, object], ...] = (
        {"Binds": ["/x:/y", "/z:/y"]},
        {"Binds": ["/x:/y"], "Mounts": [mount]},
        {"Binds": ["/x:/y"], "Tmpfs": {"/y": ""}},
    )
    for host in hosts:
        with pytest.raises(InvalidParameter, match="Duplicate mount point: /y"):
            points(host)


def test_volumes_from_shares_and_can_make_read_only() -> None:
    theirs = (MountPoint("volume", "/v/_data", "/v", "vol", "local", anonymous=True, copy_up=True),)
    taken = points({"VolumesFrom": ["other:ro"]}, other=theirs)["/v"]
    assert (taken.name, taken.rw, taken.anonymous, taken.copy_up) == ("vol", False, False, False)
    with pytest.raises(NotFound, match="No such container: nobody"):
        points({"VolumesFrom": ["nobody"]})


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"Type": "bind", "Source": "/nonexistent/x", "Target": "/x"}, "bind source path does not exist: /nonexistent/x"),
        ({"Type": "bind", "Source": "tmp", "Target": "/x"}, "invalid mount path: 'tmp' mount path must be absolute"),
        ({"Type": "bind", "Target": "/x"}, "field Source must not be empty"),
        ({"Type": "volume", "Source": "v"}, "field Target must not be empty"),
        ({"Type": "foo", "Target": "/x"}, "mount type unknown"),
        ({"Type": "tmpfs", "Source": "x", "Target": "/x"}, "field Source must not be specified"),
        ({"Type": "tmpfs", "Target": "/x", "BindOptions": {"Propagation": "rshared"}}, "field BindOptions must not be specified"),
        (
            {"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": "../up"}},
            "subpath must be a relative path",
        ),
        (
            {"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}},
            "must not set Subpath when using anonymous volumes",
        ),
        (
            {"Type": "npipe", "Source": "v", "Target": "/x"},
            "mount type unknown",
        ),
    ],
)
def test_a_bad_mount_is_refused(mount: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        points({"Mounts": [mount]})


def test_tmpfs_options_override_dockers_defaults() -> None:
    assert tmpfs_options("") == (("noexec", "nosuid", "nodev"), "")
    assert tmpfs_options("exec,size=64m,mode=1770") == (("exec", "nosuid", "nodev"), "size=64m,mode=1770")
    with pytest.raises(InvalidParameter, match=r'invalid tmpfs option "bogus"$'):
        tmpfs_options("bogus=1")
