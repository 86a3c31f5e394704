"""nftables through the system's libnftables, in-process: a transaction costs a tenth of a millisecond, a subprocess several.

The language is nft(8)'s. Version 1.0.6 is the oldest known to read what firewall.py writes.
"""

import ctypes
import json
import os
import socket
from typing import Any, Final

from compat_engine.errors import Internal
from compat_engine.network.lowfds import FD_SETSIZE, LowDescriptors

NFT_CTX_OUTPUT_JSON: Final = 1 << 4
NETLINK_NETFILTER: Final = 12
_LIBRARY = "libnftables.so.1"
_LOW = LowDescriptors()


class Nft:
    """One libnftables context. Not for two threads at once."""

    def __init__(self) -> None:
        try:
            self._library = _declare(ctypes.CDLL(_LIBRARY))
        except OSError as error:
            raise Internal(f"cannot load {_LIBRARY}: install the nftables package ({error})") from error
        self._context: int | None
        with _LOW.lock:
            self._context, self._socket = self._open()
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None
            os.close(self._socket)
            with _LOW.lock:
                _LOW.fill()

    @property
    def port(self) -> int:
        """Of its netlink socket: what announcements of its transactions carry. 0 before the first."""
        with socket.socket(fileno=os.dup(self._socket)) as sock:
            return int(sock.getsockname()[0])

    def _open(self) -> tuple[int, int]:
        """A context, and a descriptor of our own for its socket. Raises Internal."""
        before = _low_netlink_sockets()
        while _LOW.release():
            context = self._library.nft_ctx_new(0)
            for fd in _low_netlink_sockets() - before:
                return context, os.dup(fd)
            self._library.nft_ctx_free(context)  # the number went to another thread
        raise Internal(f"nftables: no descriptor below {FD_SETSIZE} is free")

    def run(self, commands: str) -> str:
        """All commands as one transaction; what they print. Raises Internal with nft's own complaint."""
        code = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context).decode(errors="replace")
        complaint = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        if code:
            raise Internal(f"nftables refused a change: {complaint.strip() or 'unknown reason'}")
        return str(output)

    def list(self, what: str) -> list[dict[str, Any]]:
        """`list WHAT` as libnftables-json(5) objects, without the metainfo."""
        self._library.nft_ctx_output_set_flags(self._context, NFT_CTX_OUTPUT_JSON)
        try:
            found = json.loads(self.run(f"list {what}") or "{}").get("nftables", [])
        finally:
            self._library.nft_ctx_output_set_flags(self._context, 0)
        return [item for item in found if "metainfo" not in item]


def _low_netlink_sockets() -> set[int]:
    """File descriptors of this process that are netfilter's; the library does not tell its own."""
    found = set()
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd >= FD_SETSIZE:
            continue
        try:
            sock = socket.socket(fileno=fd)
        except OSError:  # none, or closed meanwhile
            continue
        if (sock.family, sock.proto) == (socket.AF_NETLINK, NETLINK_NETFILTER):
            found.add(fd)
        sock.detach()
    return found


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    context = ctypes.c_void_p
    for name, result, arguments in (
        ("nft_ctx_new", context, (ctypes.c_uint32,)),
        ("nft_ctx_free", None, (context,)),
        ("nft_ctx_buffer_output", ctypes.c_int, (context,)),
        ("nft_ctx_buffer_error", ctypes.c_int, (context,)),
        ("nft_ctx_get_output_buffer", ctypes.c_char_p, (context,)),
        ("nft_ctx_get_error_buffer", ctypes.c_char_p, (context,)),
        ("nft_ctx_output_set_flags", None, (context, ctypes.c_uint)),
        ("nft_run_cmd_from_buffer", ctypes.c_int, (context, ctypes.c_char_p)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
