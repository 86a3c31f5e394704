"""Bind mounts, volumes and tmpfs: through -v, --mount, --tmpfs and --volumes-from."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docker import Docker


@pytest.fixture
def volume(docker: Docker, unique: str) -> Iterator[str]:
    """A name for a volume; the volume, if one was made, goes with the containers that use it."""
    yield unique
    docker.clean()
    docker.run("volume", "rm", "-f", unique)


def test_bind(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from host")
    assert docker("run", "--rm", "-v", f"{tmp_path}:/m", "busybox", "sh", "-c", "cat /m/in; echo -n out > /m/out") == "from host"
    assert (tmp_path / "out").read_text() == "out"


def test_bind_read_only(docker: Docker, tmp_path: Path) -> None:
    assert "Read-only" in docker.run("run", "--rm", "-v", f"{tmp_path}:/m:ro", "busybox", "touch", "/m/x").stderr
    mount = f"type=bind,src={tmp_path},dst=/m,readonly"
    assert "Read-only" in docker.run("run", "--rm", "--mount", mount, "busybox", "touch", "/m/x").stderr


def test_bind_of_a_file(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    assert docker("run", "--rm", "-v", f"{file}:/etc/deep/er/file", "busybox", "cat", "/etc/deep/er/file") == "text"


def test_v_makes_a_missing_source(docker: Docker, tmp_path: Path) -> None:
    docker("run", "--rm", "-v", f"{tmp_path}/new/dir:/m", "busybox", "touch", "/m/x")
    assert (tmp_path / "new/dir/x").exists()


def test_mount_refuses_a_missing_source(docker: Docker, tmp_path: Path) -> None:
    error = docker.fails("run", "--rm", "--mount", f"type=bind,src={tmp_path}/nosuch,dst=/m", "busybox", "true", code=125)
    assert "bind source path does not exist" in error


def test_mounts_nest_in_any_order(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("b")
    args = ["-v", f"{tmp_path}/b:/m/inner", "-v", f"{tmp_path}/a:/m"]
    assert docker("run", "--rm", *args, "busybox", "cat", "/m/inner/file") == "b"


def test_a_mount_target_cannot_escape_through_a_link(docker: Docker, tmp_path: Path, unique: str) -> None:
    docker("create", "--name", unique, "-v", f"{tmp_path}:/link/x", "busybox", "sh", "-c", "test -d /link/x && ls -l /")
    docker("start", "-a", unique)
    assert not Path("/link").exists()


def test_a_named_volume_outlives_its_containers(docker: Docker, volume: str) -> None:
    docker("run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", "echo kept > /v/file")
    assert docker("run", "--rm", "-v", f"{volume}:/v:ro", "busybox", "cat", "/v/file") == "kept"
    found = docker.inspect(volume, "volume")
    assert (found["Driver"], found["Scope"], found["Name"]) == ("local", "local", volume)


def test_an_empty_volume_is_filled_from_the_image(docker: Docker, volume: str) -> None:
    assert "root:" in docker("run", "--rm", "-v", f"{volume}:/etc", "busybox", "cat", "/etc/passwd")
    script = "cat /v/passwd; stat -c %a /v/shadow; readlink /bin/sh"
    assert docker("run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", script).splitlines()[-2:] == ["600", "busybox"]


def test_copy_up_keeps_the_directory_s_owner(docker: Docker, volume: str) -> None:
    assert docker("run", "--rm", "-v", f"{volume}:/var/spool/mail", "busybox", "stat", "-c", "%u:%g", "/var/spool/mail") == "8:8"


def test_nocopy_leaves_it_empty(docker: Docker, volume: str) -> None:
    assert docker("run", "--rm", "-v", f"{volume}:/etc:nocopy", "busybox", "ls", "/etc").split() == ["hostname", "hosts", "resolv.conf"]
    mount = f"type=volume,src={volume},dst=/home,volume-nocopy"
    assert docker("run", "--rm", "--mount", mount, "busybox", "ls", "/home/").split() == ["hostname", "hosts", "resolv.conf"]


def test_a_volume_with_files_is_not_filled(docker: Docker, volume: str) -> None:
    docker("run", "--rm", "-v", f"{volume}:/v", "busybox", "touch", "/v/mine")
    assert "passwd" not in docker("run", "--rm", "-v", f"{volume}:/etc", "busybox", "ls", "/etc").split()


def test_an_anonymous_volume_goes_with_rm_v(docker: Docker, unique: str) -> None:
    docker("run", "--name", unique, "-v", "/data", "busybox", "touch", "/data/x")
    mount = docker.inspect(unique)["Mounts"][0]
    assert (mount["Type"], mount["Destination"], mount["Driver"], mount["RW"]) == ("volume", "/data", "local", True)
    assert len(mount["Name"]) == 64
    docker("rm", "-v", unique)
    assert "no such volume" in docker.fails("volume", "inspect", mount["Name"])


def test_an_anonymous_volume_stays_without_v(docker: Docker, unique: str) -> None:
    docker("run", "--name", unique, "-v", "/data", "busybox", "true")
    name = docker.inspect(unique)["Mounts"][0]["Name"]
    docker("rm", unique)
    assert docker("volume", "rm", name) == name


def test_run_rm_removes_its_anonymous_volumes_only(docker: Docker, volume: str, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    docker("run", "--rm", "--cidfile", str(file), "-v", "/data", "-v", f"{volume}:/v", "busybox", "true")
    assert docker("volume", "ls", "-q", "--filter", f"name={volume}") == volume


def test_volumes_from(docker: Docker, unique: str, tmp_path: Path) -> None:
    docker("run", "--name", unique, "-v", "/data", "-v", f"{tmp_path}:/bind", "busybox", "sh", "-c", "echo x > /data/f; echo y > /bind/f")
    assert docker("run", "--rm", "--volumes-from", unique, "busybox", "cat", "/data/f", "/bind/f") == "x\ny"
    assert "Read-only" in docker.run("run", "--rm", "--volumes-from", f"{unique}:ro", "busybox", "touch", "/data/z").stderr


def test_volumes_from_an_unknown_container(docker: Docker) -> None:
    assert "No such container: nosuch" in docker.fails("run", "--rm", "--volumes-from", "nosuch", "busybox", "true")


def test_tmpfs(docker: Docker) -> None:
    out = docker("run", "--rm", "--tmpfs", "/t:size=1m,mode=700,noexec", "busybox", "grep", " /t ", "/proc/mounts").split()
    assert out[2] == "tmpfs"
    assert {"noexec", "nosuid", "nodev", "size=1024k", "mode=700"} <= set(out[3].split(","))
    mount = "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1770"
    assert {"size=2048k", "mode=1770"} <= set(docker("run", "--rm", "--mount", mount, "busybox", "grep", " /t ", "/proc/mounts").split()[3].split(","))


def test_propagation_is_private_by_default_and_settable(docker: Docker, tmp_path: Path) -> None:
    assert docker.inspect(docker("create", "-v", f"{tmp_path}:/p", "busybox"))["Mounts"][0]["Propagation"] == "rprivate"
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        subprocess.run(["mount", "--make-shared", tmp_path], check=True)
        for how, peers in (("rslave", "master:"), ("shared", "shared:")):
            seen = docker("run", "--rm", "-v", f"{tmp_path}:/p:{how}", "busybox", "grep", " /p ", "/proc/self/mountinfo")
            assert peers in seen.partition(" - ")[0]
        subprocess.run(["mount", "--make-private", tmp_path], check=True)
        for how, wanted in (("rslave", "shared or slave"), ("shared", "shared")):
            error = docker.fails("run", "--rm", "-v", f"{tmp_path}:/p:{how}", "busybox", "true")
            assert f"path {tmp_path} is mounted on {tmp_path} but it is not a {wanted} mount" in error
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("relative/path:/m", "includes invalid characters for a local volume name"),
        ("/a:relative", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/m:nosuch", "invalid mode: nosuch"),
    ],
)
def test_bad_mounts_are_refused(docker: Docker, option: str, error: str) -> None:
    assert error in docker.fails("create", "-v", option, "busybox")


def test_one_target_is_mounted_once(docker: Docker, tmp_path: Path) -> None:
    assert "Duplicate mount point: /m" in docker.fails("create", "-v", f"{tmp_path}:/m", "-v", "/tmp:/m", "busybox")


def test_volume_commands(docker: Docker, volume: str) -> None:
    assert docker("volume", "create", "--label", "a=1", volume) == volume
    assert docker("volume", "create", volume) == volume
    assert docker.inspect(volume, "volume")["Labels"] == {"a": "1"}
    assert volume in docker("volume", "ls", "-q", "--filter", "label=a=1").split()
    assert volume not in docker("volume", "ls", "-q", "--filter", "dangling=false").split()
    assert docker("volume", "rm", volume) == volume
    assert "no such volume" in docker.fails("volume", "rm", volume)


def test_a_volume_in_use_stays(docker: Docker, volume: str, unique: str) -> None:
    id = docker("create", "-v", f"{volume}:/v", "busybox")
    assert f"volume is in use - [{id}]" in docker.fails("volume", "rm", volume)


def test_a_volume_with_options(docker: Docker, volume: str) -> None:
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=33", volume)
    out = docker("run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", "grep ' /v ' /proc/mounts; stat -c %u /v")
    assert "size=1024k" in out
    assert out.endswith("\n33")


def test_an_unknown_driver_is_refused(docker: Docker, unique: str) -> None:
    assert "nosuch" in docker.fails("volume", "create", "-d", "nosuch", unique)


def test_a_subpath_that_becomes_a_link_does_not_leave_the_volume(docker: Docker, unique: str) -> None:
    """Between create and start whoever else writes to the volume may replace the directory."""
    docker("run", "--rm", "-v", f"{unique}:/v", "busybox", "mkdir", "-p", "/v/sub", "/v/other")
    mount = f"type=volume,src={unique},dst=/s,volume-subpath=sub"
    docker("create", "--name", unique, "--mount", mount, "busybox", "ls", "-a", "/s")
    docker("run", "--rm", "-v", f"{unique}:/v", "busybox", "sh", "-c", "rmdir /v/sub && ln -s /etc /v/sub")
    result = docker.run("start", "-a", unique)
    docker("rm", "-v", unique)
    docker("volume", "rm", unique)
    assert result.returncode != 0 and "passwd" not in result.stdout


# --mount type=image: of Docker 28, which an older engine refuses


@pytest.fixture
def images(docker: Docker) -> Docker:
    if tuple(map(int, docker("version", "-f", "{{.Server.APIVersion}}").split("."))) < (1, 48):
        pytest.skip("mounts of images came with API 1.48")
    return docker


def test_an_image_is_mounted_read_only(images: Docker, unique: str) -> None:
    script = "cat /img/bin/busybox | wc -c; wc -c < /bin/busybox; touch /img/x; ls /img/.dockerenv"
    done = images.run("run", "--rm", "--mount", "type=image,source=busybox,target=/img", "busybox", "sh", "-c", script)
    first, second = done.stdout.split()
    assert first == second
    assert "Read-only file system" in done.stderr
    assert "/img/.dockerenv: No such file" in done.stderr


@pytest.mark.parametrize(("subpath", "target"), [("bin", "/x"), ("bin/busybox", "/x/busybox")])
def test_a_part_of_an_image(images: Docker, subpath: str, target: str) -> None:
    mount = f"type=image,source=busybox,target={target},image-subpath={subpath}"
    assert images("run", "--rm", "--mount", mount, "busybox", "/x/busybox", "echo", "hi") == "hi"


def test_an_image_of_several_layers(images: Docker, unique: str, tmp_path: Path) -> None:
    """An overlay, where one layer is a bind mount."""
    base = images("run", "-d", "busybox", "sh", "-c", "echo new > /new; rm -r /home")
    images("wait", base)
    images("commit", base, f"{unique}:two")
    mount = f"type=image,source={unique}:two,target=/img"
    id = images("create", "--mount", mount, "busybox", "sh", "-c", "cat /img/new; ls -d /img/home /img/bin")
    assert images.run("start", "-a", id).stdout.splitlines() == ["new", "/img/bin"]
    found = images.inspect(id)["Mounts"]
    assert [(item["Type"], item["Name"], item["Destination"], item["RW"]) for item in found] == [("image", f"{unique}:two", "/img", False)]
    assert "(must force) - container" in images.fails("rmi", f"{unique}:two")
    images("cp", f"{id}:/img/new", str(tmp_path / "new"))
    assert (tmp_path / "new").read_text() == "new\n"
    images("rm", id)
    images("rmi", f"{unique}:two")


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("source=nosuch:1,target=/x", "No such image: nosuch:1"),
        ("target=/x", "field Source must not be empty"),
        ("source=busybox,target=/x,image-subpath=../bin", "subpath must be a relative path within the image"),
        ("source=busybox,target=/x,image-subpath=nosuch", "no such file or directory"),
    ],
)
def test_a_bad_mount_of_an_image(images: Docker, mount: str, said: str) -> None:
    assert said in images.fails("run", "--rm", "--pull", "never", "--mount", f"type=image,{mount}", "busybox", "true")
