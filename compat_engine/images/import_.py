"""`docker import`: the tar of a root filesystem, from the client or from a URL, becomes an image of one layer."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.images import changes
from compat_engine.images.intake import feed, workspace
from compat_engine.images.layers import Incoming, IncomingLayer, Say, add, unpack
from compat_engine.images.library import Library, now_text
from compat_engine.images.records import LAYER, Descriptor, Image
from compat_engine.images.reference import Reference
from compat_engine.images.registry.manifest import Platform
from compat_engine.images.registry.progress import Pace, drawn

_TIMEOUT = 60  # seconds without a byte from a server
_SUFFIX = {"gzip": "+gzip", "zstd": "+zstd"}


async def import_(
    library: Library,
    body: AsyncIterator[bytes],
    name: Reference | None,
    lines: list[str],
    message: str,
    platform: Platform,
    say: Say | None,
) -> Image:
    """Adds the image. `lines`: Dockerfile instructions, checked before the body is read.

    Raises InvalidParameter for bad instructions, another system than Linux, and bad tars.
    """
    runtime = changes.apply({}, lines)
    if platform[0] != "linux":
        raise InvalidParameter("operating system is not supported")
    async with workspace(library.tree.tmp) as work:
        blob = await _receive(library, body, work / "body")
        try:
            unpacked = await unpack(library, IncomingLayer(blob, work / "body"), work / "layer")
        except OSError as error:
            raise Internal(f"failed to register layer: {error.strerror}") from error
        config = _config(platform, runtime, unpacked.diff_id, message)
        names = (name,) if name else ()
        layer = IncomingLayer(blob, work / "body", unpacked)
        return await add(library, Incoming(config, (layer,), names, tagged_at=now_text() if names else ""), work, say)


async def download(url: str, say: Say) -> AsyncIterator[bytes]:
    """The bytes at an http or https URL (http when it says no scheme), once a server has agreed to send them.

    `say` hears how many there are. Raises InvalidParameter for what is no URL, Internal for what the server or the network says,
    here and from the iterator.
    """
    if "://" not in url:
        url = f"http://{url}"
    return _pieces(await asyncio.to_thread(_open, url), url, say)


async def _pieces(response: Any, url: str, say: Say) -> AsyncIterator[bytes]:
    total = -1 if response.length is None else response.length
    pace, current = Pace(), 0
    try:
        while chunk := await asyncio.to_thread(_read, response, url):
            current += len(chunk)
            if pace() and current != total:
                say(_importing(current, total))
            yield chunk
    finally:
        response.close()
    say(_importing(current, total))
    if current < total:
        raise Internal("unexpected EOF")


def _importing(current: int, total: int) -> dict[str, Any]:
    return {"status": "Importing", "progressDetail": {"current": current, "total": total}, "progress": drawn(current, total)}


def _open(url: str) -> Any:
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise Internal(f'Get "{url}": unsupported protocol scheme "{parts.scheme}"')
        return urllib.request.urlopen(url, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        raise Internal(f"Got HTTP status code >= 400: {error.code} {error.reason}") from None
    except (ValueError, InvalidURL) as error:
        raise InvalidParameter(f'parse "{url}": {error}') from None
    except (OSError, HTTPException) as error:
        raise Internal(f'Get "{url}": dial tcp {parts.netloc}: connect: {_text(getattr(error, "reason", error))}') from None


def _text(reason: Any) -> str:
    if isinstance(reason, OSError) and reason.errno is not None and reason.errno > 0:  # below 0 for a name's look-up
        return os.strerror(reason.errno).lower()
    return str(reason)


def _read(response: Any, url: str) -> bytes:
    try:
        content: bytes = response.read1(1 << 20)
    except (OSError, HTTPException) as error:
        raise Internal(f'Get "{url}": {error}') from None
    return content


async def _receive(library: Library, body: AsyncIterator[bytes], file: Path) -> Descriptor:
    """The body, as it comes, in `file`."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        done = await feed(library.workers, "receive", body, fd)
    finally:
        os.close(fd)
    return Descriptor(LAYER + _SUFFIX.get(done["codec"], ""), done["digest"], done["size"])


def _config(platform: Platform, runtime: dict[str, Any], diff_id: str, message: str) -> bytes:
    now = now_text()
    comment = {"comment": message} if message else {}
    config: dict[str, Any] = {
        "architecture": platform[1],
        **comment,
        "config": runtime,
        "created": now,
        "history": [{"created": now, **comment}],
        "os": platform[0],
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    if platform[2]:
        config["variant"] = platform[2]
    return json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()
