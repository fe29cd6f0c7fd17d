"""The records that wait in memory: first in, first out, and when it is full the least severe goes first.

One deque for each severity, merged by number when a batch is taken: to append costs one lock and one append, and the
record that must go when all is full is found without a search.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections import Counter, deque
from contextlib import suppress
from typing import Optional

from .message import severity_in

# Of one batch: what a server reads at once, and what is sent once more when a connection breaks.
BATCH_BYTES = 1 << 20
NEVER = 1 << 62


class Waiting:
    def __init__(self, *, most: int, most_bytes: int, urgent_severity: int) -> None:
        self.most = most
        self.most_bytes = most_bytes
        #: Records dropped since the beginning, by severity.
        self.dropped: Counter[int] = Counter()
        #: So many records wake the worker.
        self.wake_at = 1
        #: A record that must not wait for its batch is among those that wait.
        self.urgent = False
        #: The number of the newest record.
        self.newest = 0
        # SimpleQueue, whose put() may interrupt itself: a signal handler or a finalizer may log. An Event would deadlock.
        self.wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._woken = False
        self._urgent_severity = urgent_severity
        self._numbers = itertools.count(1)
        self._by_severity: list[deque[tuple[int, int, bytes]]] = [deque() for _ in range(8)]
        self._count = 0
        self._bytes = 0
        self._lock = threading.RLock()

    def put(self, severity: int, message: bytes) -> None:
        size = len(message)
        with self._lock:
            if (self._count >= self.most or self._bytes + size > self.most_bytes) and not self._make_room(severity, size):
                self.dropped[severity] += 1
                return
            self.newest = number = next(self._numbers)
            self._by_severity[severity].append((number, severity, message))
            self._count = count = self._count + 1
            self._bytes += size
        if severity <= self._urgent_severity:
            self.urgent = True
            self._wake()
        elif count >= self.wake_at:
            self._wake()

    def take(self, most: int, most_bytes: int = BATCH_BYTES) -> dict[int, bytes]:
        """The oldest records by their numbers; one at least, if any waits."""
        batch: dict[int, bytes] = {}
        severities = []
        size = 0
        with self._lock:
            for number, severity, message in heapq.merge(*filter(None, self._by_severity)):
                if len(batch) >= most or (batch and size + len(message) > most_bytes):
                    break
                batch[number] = message
                severities.append(severity)
                size += len(message)
            for severity in severities:
                self._by_severity[severity].popleft()
            # Counted anew, since a put that a signal interrupted may have been lost from the sum.
            self._count = sum(map(len, self._by_severity))
            self._bytes = self._bytes - size if self._count else 0
            self.urgent = self.urgent and self._count > 0
        return batch

    def put_back(self, batch: dict[int, bytes]) -> None:
        with self._lock:
            for number in sorted(batch, reverse=True):
                severity = severity_in(batch[number])
                self._by_severity[severity].appendleft((number, severity, batch[number]))
                self._count += 1
                self._bytes += len(batch[number])

    def count_dropped(self, severity: int) -> None:
        with self._lock:
            self.dropped[severity] += 1

    def listen(self, wake_at: int, timeout: Optional[float]) -> bool:
        """Waits for so many records, an urgent one, or a wish (True in `wakes`); tells whether it was a wish."""
        self.wake_at = wake_at
        wish = False
        if len(self) < wake_at:
            with suppress(queue.Empty):
                wish = self.wakes.get(timeout=timeout)
        self._woken = False
        return wish

    def oldest(self) -> int:
        """The number of the oldest record, or NEVER."""
        with self._lock:
            return min((waiting[0][0] for waiting in self._by_severity if waiting), default=NEVER)

    def octets(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return self._count

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self.wakes.put(False)

    def _make_room(self, severity: int, size: int) -> bool:
        if size > self.most_bytes:
            return False
        for lower in range(7, severity, -1):
            waiting = self._by_severity[lower]
            while waiting:
                self._bytes -= len(waiting.pop()[2])
                self._count -= 1
                self.dropped[lower] += 1
                if self._count < self.most and self._bytes + size <= self.most_bytes:
                    return True
        return False
