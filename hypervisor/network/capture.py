"""Frames in a file that Wireshark, tshark and tcpdump read: pcap with nanoseconds (draft-ietf-opsawg-pcap, sections 4
and 5). Times are virtual, since the world's power-on.
"""

from __future__ import annotations

import os
import struct

from hypervisor.errors import ConfigError
from hypervisor.network.ethernet import MAX_FRAME
from hypervisor.units import NS_PER_S

MAGIC_NS, VERSION, LINKTYPE_ETHERNET = 0xA1B23C4D, (2, 4), 1
LIMIT = 256 << 20
"""Bytes that a file may have unless said otherwise: guests send as much as they like."""
_FILE_HEADER = struct.Struct("<IHHIIII")
_RECORD_HEADER = struct.Struct("<IIII")


class Capture:
    """A file that is being written. `close` it before it is read."""

    def __init__(self, path: str | os.PathLike[str], limit: int = LIMIT) -> None:
        """Raises `ConfigError` where it cannot be written."""
        try:
            self._file = open(path, "wb")
            self._file.write(_FILE_HEADER.pack(MAGIC_NS, *VERSION, 0, 0, MAX_FRAME, LINKTYPE_ETHERNET))
        except OSError as error:
            raise ConfigError(f"{os.fspath(path)} cannot be written: {error.strerror}.") from error
        self.left_out = 0
        """Frames for which the file had no room left, or the host's disk."""
        self._room = limit - _FILE_HEADER.size

    def write(self, now_ns: int, frame: bytes) -> None:
        """A frame came at this time."""
        size = _RECORD_HEADER.size + len(frame)
        if self._file.closed or size > self._room:
            self.left_out += 1
            return
        self._room -= size
        try:
            self._file.write(_RECORD_HEADER.pack(*divmod(now_ns, NS_PER_S), len(frame), len(frame)) + frame)
        except OSError:  # of the host: no guest need know, and its run goes on
            self.left_out += 1

    def flush(self) -> None:
        """Let others read what has been written."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Finish the file. Closing twice is harmless."""
        self._file.close()


__all__ = ["Capture"]
