"""Docker's multiplexed stream: ``[stream][0 0 0][length, 32 bit big endian][data]``."""

from __future__ import annotations

import struct

from .client import ProtocolError, Stream

STDIN, STDOUT, STDERR, SYSTEM = range(4)


def decode(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of a complete stream; raises ProtocolError when it is not one."""
    frames = []
    while data:
        if len(data) < 8 or data[1:4] != b"\0\0\0" or data[0] > SYSTEM:
            raise ProtocolError(f"not a stream frame: {data[:40]!r}")
        (length,) = struct.unpack(">I", data[4:8])
        if len(data) < 8 + length:
            raise ProtocolError(f"a frame of {length} bytes has only {len(data) - 8}")
        frames.append((data[0], data[8 : 8 + length]))
        data = data[8 + length :]
    return frames


def join(data: bytes, *streams: int) -> bytes:
    """The payload of the frames of these streams (of all when none is named)."""
    return b"".join(payload for stream, payload in decode(data) if not streams or stream in streams)


def read_payload_until(stream: Stream, text: bytes) -> bytes:
    """Read frames until their payload contains ``text``; every read must end on a frame's end sooner or later."""
    data = b""
    while True:
        piece = stream.read_some()
        if not piece:
            raise ProtocolError(f"the stream ended without {text!r}: {data[-300:]!r}")
        data += piece
        if text in data:
            try:
                payload = join(data)
            except ProtocolError:
                continue
            if text in payload:
                return payload
