"""Images without a registry: load, save, import, tag, list, inspect, history, rm."""

import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support import busybox_image
from tests.support.docker import Docker
from tests.support.tars import Item, legacy_archive, tar


@pytest.fixture
def tag(docker: Docker, unique: str) -> Iterator[str]:
    yield f"{unique}:1"
    docker.clean()
    docker.run("rmi", "-f", f"{unique}:1")


def archive(tmp_path: Path, tag: str) -> str:
    path = tmp_path / "image.tar"
    path.write_bytes(busybox_image.archive(tag))
    return str(path)


def root_tar(tmp_path: Path) -> str:
    """A root filesystem with busybox alone."""
    path = tmp_path / "root.tar"
    with tarfile.open(path, "w") as tar:
        for name, content, mode in (("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755), ("mark", b"imported", 0o644)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return str(path)


def test_load_and_run(docker: Docker, tag: str, tmp_path: Path) -> None:
    assert docker("load", "-q", "-i", archive(tmp_path, tag)) == f"Loaded image: {tag}"
    assert docker("run", "--rm", tag, "echo", "hi") == "hi"


@pytest.mark.parametrize("command", [["gzip", "-1"], ["zstd", "-1"]])
def test_load_compressed(docker: Docker, tag: str, tmp_path: Path, command: list[str]) -> None:
    path = Path(archive(tmp_path, tag))
    try:
        packed = subprocess.run(command, input=path.read_bytes(), capture_output=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    path.write_bytes(packed)
    assert tag in docker("load", "-i", str(path))


def test_the_id_is_the_configuration_s_digest(docker: Docker, tag: str, tmp_path: Path) -> None:
    docker("load", "-i", archive(tmp_path, tag))
    found = docker.inspect(tag, "image")
    assert found["Id"] == busybox_image.image_id()
    assert (found["RepoTags"].count(tag), found["Os"], found["Config"]["Cmd"]) == (1, "linux", ["sh"])
    assert len(found["RootFS"]["Layers"]) == 1


def test_save_gives_back_what_was_loaded(docker: Docker, tag: str, tmp_path: Path) -> None:
    docker("load", "-i", archive(tmp_path, tag))
    out = tmp_path / "saved.tar"
    docker("save", "-o", str(out), tag)
    docker("rmi", tag)
    with tarfile.open(out) as tar:
        names = set(tar.getnames())
        manifest = json.load(tar.extractfile("manifest.json") or io.BytesIO())
    assert "manifest.json" in names
    assert manifest[0]["RepoTags"] == [tag]
    assert {manifest[0]["Config"], *manifest[0]["Layers"]} <= names
    docker("load", "-i", str(out))
    assert docker.inspect(tag, "image")["Id"] == busybox_image.image_id()


def test_save_is_an_oci_layout_too(docker: Docker, tmp_path: Path) -> None:
    out = tmp_path / "saved.tar"
    docker("save", "-o", str(out), "busybox")
    with tarfile.open(out) as tar:
        index = json.load(tar.extractfile("index.json") or io.BytesIO())
        digest = index["manifests"][0]["digest"].removeprefix("sha256:")
        manifest = json.load(tar.extractfile(f"blobs/sha256/{digest}") or io.BytesIO())
        assert f"blobs/sha256/{manifest['config']['digest'].removeprefix('sha256:')}" in tar.getnames()


def test_import(docker: Docker, tag: str, tmp_path: Path) -> None:
    changes = ["-c", 'CMD ["/bin/busybox","cat","/mark"]', "-c", "ENV A=1", "-c", "WORKDIR /bin", "-m", "by hand"]
    assert docker("import", *changes, root_tar(tmp_path), tag).startswith("sha256:")
    assert docker("run", "--rm", tag) == "imported"
    found = docker.inspect(tag, "image")
    assert (found["Config"]["Env"], found["Config"]["WorkingDir"], found["Comment"]) == (["A=1"], "/bin", "by hand")


@pytest.mark.skipif("COMPAT_TEST_HOST" in os.environ, reason="another engine may not share this host's loopback")
def test_import_from_a_url(docker: Docker, tag: str, tmp_path: Path) -> None:
    root = root_tar(tmp_path)
    with serving(tmp_path) as address:
        url = f"http://{address}/{Path(root).name}"
        said = docker("import", "--message", "from afar", url, tag).splitlines()
        assert (said[0], said[-1][:7]) == (f"Downloading from {url}", "sha256:")
        assert docker("history", "--format", "{{.Comment}}", tag) == "from afar"
        assert "404" in docker.fails("import", f"http://{address}/missing", tag)
    assert f'Get "{url}": dial tcp {address}: connect: connection refused' in docker.fails("import", url, tag)


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """host:port of an HTTP server of a directory's files."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_archive_of_old(docker: Docker, unique: str, tmp_path: Path) -> None:
    (tmp_path / "old.tar").write_bytes(legacy_archive(tar(Item("a", b"1")), tar(Item("b", b"2")), repository=unique))
    docker("load", "-i", str(tmp_path / "old.tar"))
    steps = docker("history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Size}}", unique + ":1").splitlines()
    assert steps == ["/bin/sh -c step 1 && <done> 1B", "/bin/sh -c step 0 && <done> 1B"]
    docker("rmi", unique + ":1")


def test_tag_and_rmi(docker: Docker, unique: str) -> None:
    docker("tag", "busybox", f"{unique}:a")
    docker("tag", "busybox", f"{unique}:b")
    assert set(docker("images", "--format", "{{.Tag}}", unique).split()) == {"a", "b"}
    assert docker("rmi", f"{unique}:a", f"{unique}:b").splitlines() == [f"Untagged: {unique}:a", f"Untagged: {unique}:b"]
    assert docker("images", "-q", unique) == ""
    docker("run", "--rm", "busybox", "true")


def test_a_bad_reference_is_refused(docker: Docker) -> None:
    docker.fails("tag", "busybox", "x/UPPER:1")
    assert "No such image: no-such:latest" in docker.fails("tag", "no-such", "x:1")


def test_an_image_in_use_stays(docker: Docker, tag: str, tmp_path: Path) -> None:
    docker("import", root_tar(tmp_path), tag)
    id = docker("create", tag, "x")
    error = docker.fails("rmi", tag)
    assert "conflict: unable to" in error
    assert id[:12] in error
    docker("rm", id)
    assert "Deleted: sha256:" in docker("rmi", tag)


def test_list_and_filters(docker: Docker, unique: str) -> None:
    docker("tag", "busybox", f"{unique}:1")
    try:
        line = json.loads(docker("images", "--no-trunc", "--format", "json", "--filter", f"reference={unique}:*"))
        assert (line["Repository"], line["Tag"], line["ID"]) == (unique, "1", docker.inspect("busybox", "image")["Id"])
        assert unique in docker("images", "--filter", "dangling=false", "--format", "{{.Repository}}").split()
        assert unique not in docker("images", "--filter", "dangling=true", "--format", "{{.Repository}}").split()
    finally:
        docker("rmi", f"{unique}:1")


def test_history(docker: Docker) -> None:
    lines = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "busybox").splitlines()
    assert lines == ["busybox of the host"]


def test_ids_and_prefixes_find_it(docker: Docker) -> None:
    id = docker.inspect("busybox", "image")["Id"]
    for word in ("busybox", "busybox:latest", id, id.removeprefix("sha256:"), id.removeprefix("sha256:")[:12]):
        assert docker.inspect(word, "image")["Id"] == id
    assert docker("run", "--rm", id.removeprefix("sha256:")[:12], "echo", "by id") == "by id"


def test_what_is_no_archive_is_refused(docker: Docker, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    for content in (b"this is no archive" * 100, b""):
        path.write_bytes(content)
        docker.fails("load", "-i", str(path))


def test_a_missing_image_says_so(docker: Docker) -> None:
    assert "No such image: no-such:latest" in docker.fails("rmi", "no-such")
    assert "no such image" in docker.fails("image", "inspect", "no-such").lower()


def test_prune(docker: Docker, tmp_path: Path) -> None:
    id = docker("import", root_tar(tmp_path))
    assert id.removeprefix("sha256:")[:12] in docker("images", "-q", "--filter", "dangling=true").split()
    docker("rmi", id)
    assert id not in docker("images", "-aq", "--no-trunc").split()
