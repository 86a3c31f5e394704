"""Trees of files as the images of the benchmarks hold them, and images made of them. What is made once is kept in a directory.

The content is real where it can be: files of this host's packages and of its Python, so that it compresses as such files do.
"""

import gzip
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from isal import igzip

SCIENCE_FILES = 10_000
NODE_FILES = 30_000
TREE_FILES, TREE_BYTES = 10_000, 300_000_000
BIG_BYTES = 1_000_000_000
_WORDS = ["const", "return", "function", "module.exports", "require", "=>", "{", "}", "(", ")", ";\n", "'use strict'", "await"]
Member = tuple[str, bytes]


@dataclass(frozen=True)
class Image:
    """One that no engine has seen: `config` and `layers`, plain tars or gzipped ones."""

    config: bytes
    layers: tuple[bytes, ...]
    gzipped: bool


class Corpus:
    """IMAGES names the kinds of images it makes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def image(self, kind: str, mark: str, gzipped: bool) -> Image:
        """An image whose layers differ from all others made, by a small file in front. `mark`: its label."""
        name = random.randbytes(16).hex()
        layers, diff_ids = [], []
        for layer in IMAGES[kind]:
            front, plain = _front(name), self._tar(layer).read_bytes()
            diff_ids.append(f"sha256:{hashlib.sha256(front + plain).hexdigest()}")
            # Two gzip members one after the other are a gzip file, of both contents.
            layers.append(gzip.compress(front) + self._gzip(layer).read_bytes() if gzipped else front + plain)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {mark: ""}, "Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        return Image(json.dumps(config).encode(), tuple(layers), gzipped)

    def archive(self, kind: str, mark: str, tag: str) -> Path:
        """A file for `docker load`, of a new image."""
        image = self.image(kind, mark, gzipped=False)
        names = [f"{number}.tar" for number in range(len(image.layers))]
        layers = zip(names, image.layers, strict=True)
        manifest = json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).encode()
        path = self.directory / "archive.tar"
        with tarfile.open(path, "w") as archive:
            for name, content in [*layers, ("config.json", image.config), ("manifest.json", manifest)]:
                _add(archive, name, content)
        return path

    def tree(self) -> Path:
        """TREE_FILES files of TREE_BYTES together, as a directory."""
        path = self.directory / "tree"
        if not path.exists():
            size = TREE_BYTES // TREE_FILES
            for number, (_, content) in enumerate(islice(cycle(_science()), TREE_FILES)):
                file = path / f"d{number // 100}" / f"f{number}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes((content * (size // max(len(content), 1) + 1))[:size] if content else bytes(size))
        return path

    def tree_archive(self) -> Path:
        """The same as a tar."""
        path = self.directory / "tree.tar"
        if not path.exists():
            with tarfile.open(path, "w") as archive:
                archive.add(self.tree(), "tree")
        return path

    def _tar(self, layer: str) -> Path:
        path = self.directory / f"{layer}.tar"
        if not path.exists():
            with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
                for name, content in LAYERS[layer]():
                    _add(archive, name, content)
        return path

    def _gzip(self, layer: str) -> Path:
        path = self.directory / f"{layer}.tar.gz"
        if not path.exists():
            with self._tar(layer).open("rb") as plain, igzip.open(path, "wb", compresslevel=3) as packed:  # type: ignore[no-untyped-call]
                shutil.copyfileobj(plain, packed, 1 << 20)
        return path


def _debian() -> Iterator[Member]:
    """This host's files of the packages every Debian has."""
    listed = _output("dpkg-query", "-Wf", "${Priority} ${Package}\n").splitlines()
    wanted = [line.split()[1] for line in listed if line.startswith(("required", "important"))]
    yield from _files(Path(name) for name in sorted(set(_output("dpkg", "-L", *wanted).splitlines())))


def _science() -> Iterator[Member]:
    """Python's library and the installed packages, again and again up to SCIENCE_FILES."""
    roots = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    paths = sorted({path for root in roots for path in root.rglob("*") if "test" not in str(path)})
    found = [(f"opt/python/{sys.version_info.minor}{name}", content) for name, content in _files(paths)]
    for number in range(SCIENCE_FILES):
        name, content = found[number % len(found)]
        yield f"copy{number // len(found)}/{name}", content


def _node() -> Iterator[Member]:
    source = random.Random(1)
    for number in range(NODE_FILES):
        text = " ".join(source.choices(_WORDS, k=int(source.lognormvariate(5, 1.2)) + 1))
        yield f"app/node_modules/package-{number // 40}/lib/{number % 5}/module-{number}.js", text.encode()


def _big() -> Iterator[Member]:
    """One file, of which about half is as gzip leaves it."""
    piece = random.Random(1).randbytes(1 << 20) + bytes(1 << 20)
    yield "big", piece * (BIG_BYTES // len(piece))


LAYERS: dict[str, Callable[[], Iterator[Member]]] = {"debian": _debian, "science": _science, "node": _node, "big": _big}
IMAGES = {"debian": ("debian",), "python": ("debian", "science"), "node": ("node",), "big": ("big",)}


def _files(paths: Iterable[Path]) -> Iterator[Member]:
    for path in paths:
        if path.is_file() and not path.is_symlink():
            yield str(path).lstrip("/"), path.read_bytes()


def _front(name: str) -> bytes:
    """A tar's first member, without what ends a tar."""
    info = tarfile.TarInfo(f"mark-{name}")
    info.size = len(name)
    return info.tobuf(tarfile.USTAR_FORMAT) + name.encode().ljust(tarfile.BLOCKSIZE, b"\0")


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), 1_700_000_000
    archive.addfile(info, io.BytesIO(content))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
