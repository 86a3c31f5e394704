"""A small HTTP/1.1 client for Docker's API: unix and tcp sockets, chunked bodies, hijacked connections, half-close.

It decodes nothing it is not asked to decode, so a check can look at what was really sent.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

DEFAULT_TIMEOUT = 60.0
_CHUNK = 65536


class ProtocolError(Exception):
    """The server's answer is not the HTTP it must be, or it never came."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the engine listens: a unix socket path, or a TCP host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read ``unix:///path`` or ``tcp://host:port``; raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme == "unix" and parts.path:
            return cls(path=parts.path)
        if parts.scheme in ("tcp", "http") and parts.hostname:
            return cls(host=parts.hostname, port=parts.port or 2375)
        raise ValueError(f"unsupported host {url!r}: expected unix:///path or tcp://host:port")

    def connect(self, timeout: float) -> socket.socket:
        if self.path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(self.path)
            return sock
        return socket.create_connection((self.host, self.port), timeout)


@dataclass(frozen=True, slots=True)
class Response:
    """One complete answer: status, headers with lower-case names, and the decoded body."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ProtocolError(f"the body is not JSON ({error}): {self.body[:200]!r}") from None

    def json_lines(self) -> list[Any]:
        """The objects of a progress or event stream, in order."""
        return list(decode_json_stream(self.body.decode()))

    @property
    def message(self) -> str:
        """The text of an error body; empty when the body is not an error object."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return ""
        return str(value.get("message", "")) if isinstance(value, dict) else ""


def decode_json_stream(text: str) -> Iterator[Any]:
    """The JSON values of a text in which they simply follow each other."""
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        value, position = decoder.raw_decode(text, position)
        yield value


class Stream:
    """A connection whose answer is read piece by piece; a hijacked one is also written to.

    ``first_packet`` holds the bytes that came together with the end of the header in one read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.first_packet = b""
        self._remaining: int | None = None
        self._chunked = False
        self._ended = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def settimeout(self, seconds: float) -> None:
        self._sock.settimeout(seconds)

    def write(self, data: bytes) -> None:
        self._sock.sendall(data)

    def half_close(self) -> None:
        """Shut the write side; the engine must go on sending."""
        self._sock.shutdown(socket.SHUT_WR)

    def _fill(self) -> bool:
        try:
            data = self._sock.recv(_CHUNK)
        except TimeoutError:
            raise ProtocolError("timed out waiting for the engine") from None
        self._buffer += data
        return bool(data)

    def read_head(self, method: str) -> None:
        """Read status line and headers; raises ProtocolError when the connection ends before them."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                raise ProtocolError(f"connection closed before the headers; got {self._buffer[:200]!r}")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.first_packet = self._buffer
        lines = head.decode("latin-1").split("\r\n")
        _, status, *rest = lines[0].split(" ", 2)
        self.status, self.reason = int(status), rest[0] if rest else ""
        self.headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        self._frame_body(method)

    def _frame_body(self, method: str) -> None:
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        if method == "HEAD" or self.status in (204, 304):
            self._remaining = 0
        elif self.status != 101 and "content-length" in self.headers:
            self._remaining = int(self.headers["content-length"])

    def read_some(self) -> bytes:
        """The next piece of the body as it was sent (one chunk when chunked); ``b""`` at its end."""
        if self._ended:
            return b""
        data = self._read_chunk() if self._chunked else self._read_plain()
        self._ended = not data
        return data

    def _read_chunk(self) -> bytes:
        size = int(self._line().split(b";")[0], 16)
        data = self._exactly(size)
        self._line()
        return data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._fill():
                raise ProtocolError("connection closed inside a chunked body")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._fill():
                raise ProtocolError(f"connection closed with {size - len(self._buffer)} bytes missing")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _read_plain(self) -> bytes:
        if self._remaining == 0:
            return b""
        if not self._buffer and not self._fill():
            if self._remaining:
                raise ProtocolError(f"connection closed with {self._remaining} bytes of the body missing")
            return b""
        size = len(self._buffer) if self._remaining is None else min(len(self._buffer), self._remaining)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        if self._remaining is not None:
            self._remaining -= size
        return data

    def read_all(self) -> bytes:
        return b"".join(iter(self.read_some, b""))

    def next_answer(self) -> None:
        """Forget the answer read so far: the next head on this connection belongs to another request."""
        self._remaining, self._chunked, self._ended = None, False, False

    def raw_rest(self) -> bytes:
        """All that comes until the engine closes the connection, undecoded."""
        while self._fill():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def read_until(self, text: bytes) -> bytes:
        """Body bytes up to the piece that completes ``text``; raises ProtocolError when the body ends before."""
        data = b""
        while text not in data:
            piece = self.read_some()
            if not piece:
                raise ProtocolError(f"the stream ended without {text!r}: {data[-300:]!r}")
            data += piece
        return data


@dataclass(slots=True)
class Client:
    """Requests to one engine under one API version; each uses its own connection.

    ``version`` is the path prefix without the ``v``; empty means an unversioned path.
    """

    address: Address
    version: str = ""
    timeout: float = DEFAULT_TIMEOUT
    default_headers: dict[str, str] = field(default_factory=dict)

    def url(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        prefix = f"/v{self.version}" if self.version else ""
        text = urlencode([pair for key, value in (query or {}).items() for pair in _pairs(key, value)], quote_via=quote)
        return f"{prefix}{path}" + (f"?{text}" if text else "")

    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 0,
    ) -> Stream:
        """Send a request and read the answer's head.

        ``body``: a ``bytes`` value goes as it is, an iterator goes chunked, anything else as JSON.
        """
        fields = {"Host": "docker", **self.default_headers, **(headers or {})}
        payload, chunks = _encode_body(body, fields)
        fields.setdefault("Connection", "close")
        lines = [f"{method} {self.url(path, query)} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        stream = Stream(self.address.connect(timeout or self.timeout))
        try:
            stream.write("\r\n".join([*lines, "", ""]).encode("latin-1") + payload)
            for chunk in chunks:
                stream.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if fields.get("Transfer-Encoding"):
                stream.write(b"0\r\n\r\n")
            stream.read_head(method)
        except BaseException:
            stream.close()
            raise
        return stream

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 0,
    ) -> Response:
        with self.open(method, path, query, body=body, headers=headers, timeout=timeout) as stream:
            return Response(stream.status, stream.reason, stream.headers, stream.read_all())

    def get(self, path: str, query: Mapping[str, Any] | None = None, **options: Any) -> Response:
        return self.request("GET", path, query, **options)

    def post(self, path: str, query: Mapping[str, Any] | None = None, **options: Any) -> Response:
        return self.request("POST", path, query, **options)

    def delete(self, path: str, query: Mapping[str, Any] | None = None, **options: Any) -> Response:
        return self.request("DELETE", path, query, **options)

    def hijack(self, path: str, query: Mapping[str, Any] | None = None, *, body: Any = None) -> Stream:
        """Ask for a raw connection as the docker CLI does, with ``Upgrade: tcp``."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        return self.open("POST", path, query, body=b"" if body is None else body, headers=headers)

    def raw(self, data: bytes) -> Stream:
        """Send these bytes and nothing else; the caller reads the head."""
        stream = Stream(self.address.connect(self.timeout))
        stream.write(data)
        return stream

    def eventually(self, probe: Any, seconds: float = 60.0) -> Any:
        """The first true value of ``probe()``; raises ProtocolError when none comes in time."""
        deadline = time.monotonic() + seconds
        while True:
            value = probe()
            if value:
                return value
            if time.monotonic() > deadline:
                raise ProtocolError(f"nothing within {seconds:g} s: {probe}")
            time.sleep(0.02)


def _pairs(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield key, "1" if value else "0"
    elif isinstance(value, (list, tuple)):
        yield from ((key, str(item)) for item in value)
    elif isinstance(value, dict):
        yield key, json.dumps(value)
    else:
        yield key, str(value)


def _encode_body(body: Any, fields: dict[str, str]) -> tuple[bytes, Iterable[bytes]]:
    """The bytes to send with the head and the chunks to send after it; sets the headers they need."""
    if body is None:
        return b"", ()
    if isinstance(body, bytes):
        fields.setdefault("Content-Length", str(len(body)))
        return body, ()
    if isinstance(body, Iterator):
        fields["Transfer-Encoding"] = "chunked"
        return b"", body
    payload = json.dumps(body).encode()
    fields.setdefault("Content-Type", "application/json")
    fields.setdefault("Content-Length", str(len(payload)))
    return payload, ()
