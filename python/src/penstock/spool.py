"""What waits on disk while the server is away.

A folder of segments. A segment belongs to the process that holds its lock (flock(2)); the kernel lets go of it however
that process ends, and the next one that looks adopts it. It is 8 octets of magic, 8 of the position up to which
everything has been delivered, then records: 4 octets of length, 4 of CRC-32, the message; all little-endian.
A record is accepted when its write(2) has returned, and forgotten when the position has passed it; a segment is deleted
when all of it has been delivered. A tail that was not written to its end is cut. There is no fsync: this outlives a
killed process, not a power cut.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from collections import deque
from contextlib import suppress
from typing import Iterable, Optional

from .message import severity_in
from .waiting import BATCH_BYTES

_MAGIC = b"penstock"
_POSITION = struct.Struct("<Q")
_RECORD = struct.Struct("<II")
_HEADER_BYTES = len(_MAGIC) + _POSITION.size
# A full spool holds so many segments, each with an open file.
_SEGMENTS = 32


class Segment:
    """An open file whose lock is held."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        #: The first record that has not been delivered.
        self.position = _HEADER_BYTES
        #: The first record that has not been read.
        self.unread = _HEADER_BYTES
        #: Where the last whole record ends.
        self.end = _HEADER_BYTES

    @classmethod
    def create(cls, folder: str) -> Segment:
        while True:
            path = os.path.join(folder, f"{time.time_ns():020d}-{os.getpid()}.segment")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            if _lock(fd):  # else another process has adopted it already
                os.write(fd, _MAGIC + _POSITION.pack(_HEADER_BYTES))
                return cls(path, fd)
            os.close(fd)

    @classmethod
    def adopt(cls, path: str) -> Optional[Segment]:
        try:
            fd = os.open(path, os.O_RDWR)
        except OSError:  # deleted meanwhile, or another user's
            return None
        if not _lock(fd):
            os.close(fd)
            return None
        segment = cls(path, fd)
        header = os.pread(fd, _HEADER_BYTES, 0)
        if len(header) == _HEADER_BYTES and header.startswith(_MAGIC):
            segment.end = os.fstat(fd).st_size
            segment.position = segment.unread = _POSITION.unpack_from(header, len(_MAGIC))[0]
        return segment

    def append(self, records: bytes) -> None:
        written = os.pwrite(self.fd, records, self.end)
        if written != len(records):
            os.ftruncate(self.fd, self.end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self.end += written

    def read(self) -> Optional[bytes]:
        """The next record; None at the end, and where the rest is no record."""
        head = os.pread(self.fd, _RECORD.size, self.unread)
        if len(head) == _RECORD.size:
            length, checksum = _RECORD.unpack(head)
            begin = self.unread + _RECORD.size
            if begin + length <= self.end:
                message = os.pread(self.fd, length, begin)
                if zlib.crc32(message) == checksum:
                    self.unread = begin + length
                    return message
        self.end = self.unread
        return None

    def delivered(self) -> None:
        self.position = self.unread
        os.pwrite(self.fd, _POSITION.pack(self.position), len(_MAGIC))

    def remove(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self.fd)


class Spool:
    """Not for several threads at a time."""

    def __init__(self, folder: str, most_bytes: int) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        #: In the order in which they are read; the last of our own is the one that is written.
        self._segments: deque[Segment] = deque()
        self._written: Optional[Segment] = None
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def adopt(self) -> None:
        """Takes what processes that are gone have left."""
        own = {segment.path for segment in self._segments}
        for path in sorted(entry.path for entry in os.scandir(self._folder) if entry.name.endswith(".segment")):
            segment = None if path in own else Segment.adopt(path)
            if segment is not None:
                self._segments.append(segment)

    def append(self, messages: Iterable[bytes]) -> None:
        """All of them or, with OSError, none."""
        records = b"".join(_RECORD.pack(len(message), zlib.crc32(message)) + message for message in messages)
        if self._written is None or self._written.end >= self._most_bytes // _SEGMENTS:
            self._written = Segment.create(self._folder)
            self._segments.append(self._written)
        self._written.append(records)

    def append_severest(self, messages: list[bytes]) -> list[bytes]:
        """Those for which there is room, in their order; returns the others."""
        room = self.room()
        kept = set()
        for index in sorted(range(len(messages)), key=lambda index: severity_in(messages[index])):
            room -= _RECORD.size + len(messages[index])
            if room < 0:
                break
            kept.add(index)
        if kept:
            self.append(messages[index] for index in sorted(kept))
        return [message for index, message in enumerate(messages) if index not in kept]

    def room(self) -> int:
        """Octets; what other processes have in the folder counts."""
        used = 0
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # delivered in this moment
                used += entry.stat().st_size
        return self._most_bytes - used

    def read(self, most: int) -> list[bytes]:
        """The oldest messages, of one segment. They stay until `delivered`."""
        while self._segments:
            messages = self._read_head(most)
            if messages:
                return messages
            self._remove_head()
        return []

    def delivered(self) -> None:
        """What was read has arrived."""
        head = self._segments[0]
        head.delivered()
        if head.position >= head.end:
            self._remove_head()

    def close(self) -> None:
        """Lets go of the segments, which stay; also after a fork, where they are the parent's."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()
        self._written = None

    def __bool__(self) -> bool:
        return bool(self._segments)

    def _read_head(self, most: int) -> list[bytes]:
        head = self._segments[0]
        messages: list[bytes] = []
        size = 0
        while len(messages) < most:
            begin = head.unread
            message = head.read()
            if message is None:
                break
            size += len(message)
            if messages and size > BATCH_BYTES:
                head.unread = begin
                break
            messages.append(message)
        return messages

    def _remove_head(self) -> None:
        head = self._segments.popleft()
        if head is self._written:
            self._written = None
        head.remove()


def _lock(fd: int) -> bool:
    """Whether the lock is ours, and the file still has a name: its last owner may just have deleted it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(fd).st_nlink > 0
