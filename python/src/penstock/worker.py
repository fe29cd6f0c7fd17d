r"""The thread between the records that wait and the server.

    Waiting -> hand -> transport -> forgotten
       \-> Spool -/

What is in the hand stays there until it has been delivered. What is in the spool is older than what waits in memory, so
it goes first. The thread ends when `close` was asked for and nothing is left, or the time for that is over.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, Optional

from .message import severity_in
from .transport import Transport, Unavailable
from .waiting import NEVER, Waiting

if TYPE_CHECKING:
    from .spool import Spool

# A server that answers nothing for so long counts as away, as it does for the server's own queues.
_STALLED_SECONDS = 1.0
# How often what dead processes have left is looked for, and how often the spooler looks at the queue.
_ADOPT_SECONDS = 60.0
_SPOOL_SECONDS = 0.1
_REPORT_SECONDS = 60.0
# How long the last words of RELP and TLS may take, and a delivery that was broken off.
_GOODBYE_SECONDS = 1.0


class Reporter:
    """Problems of the handler itself: on stderr, a line a minute, and none twice before something was delivered again."""

    def __init__(self) -> None:
        self._last = ""
        self._quiet_until = 0.0

    def report(self, problem: str) -> None:
        if logging.raiseExceptions and problem != self._last and self.may_speak():
            self._last = problem
            with suppress(Exception):  # stderr may be closed, full or None
                sys.stderr.write(f"penstock: {problem}\n")

    def last_words(self, problem: str) -> None:
        self._last, self._quiet_until = "", 0.0
        self.report(problem)

    def may_speak(self) -> bool:
        # Set before anything is written: stderr may be an object that logs.
        now = time.monotonic()
        due = now >= self._quiet_until
        if due:
            self._quiet_until = now + _REPORT_SECONDS
        return due

    def recovered(self) -> None:
        self._last = ""


@dataclass
class Barrier:
    """Somebody waits until all up to this number has been delivered."""

    number: int
    reached: threading.Event = field(default_factory=threading.Event)


@dataclass
class Pace:
    batch_size: int
    batch_seconds: float
    retry_first: float
    retry_most: float


class Worker:
    def __init__(
        self,
        waiting: Waiting,
        make_transport: Callable[[Callable[[bytes, str], None]], Transport],
        spool: Optional[Spool],
        pace: Pace,
        notice: Callable[[Counter[int]], bytes],
    ) -> None:
        self.reporter = Reporter()
        #: The thread whose records are not taken; 0 before it runs.
        self.ident = 0
        self.transport = make_transport(self._refused)
        self._waiting = waiting
        self._spool = spool
        self._pace = pace
        self._notice = notice
        #: What is being delivered, by number.
        self._hand: dict[int, bytes] = {}
        #: Whether that is what was last read from the spool.
        self._hand_spooled = False
        #: Dropped records that a message has told of.
        self._told: Counter[int] = Counter()
        #: When those that wait are a batch, whatever their number.
        self._due: Optional[float] = None
        self._barriers: list[Barrier] = []
        #: Whether the last attempt was a success.
        self._reached = False
        #: Failures since the last success.
        self._failures = 0
        #: Since when nothing in hand has been delivered; None while there is nothing.
        self._busy_since: Optional[float] = None
        self._busy = threading.Event()
        self._adopt_at = 0.0
        #: When to give up; None until `close`.
        self._deadline: Optional[float] = None
        self._ended = False
        #: Held where a record changes its place between memory and disk.
        self._moving = threading.RLock()
        self._threads: list[threading.Thread] = []
        #: Held from the start of the threads on.
        self._begun = threading.Lock()

    def start(self) -> bool:
        # A signal handler that logs may interrupt the next lines: only one can take this.
        if not self._begun.acquire(blocking=False):
            return True
        with self._moving:
            self._threads = [threading.Thread(target=self.run, name="penstock", daemon=True)]
            if self._spool is not None:
                self._threads.append(threading.Thread(target=self._run_spooler, name="penstock-spool", daemon=True))
            try:
                for thread in self._threads:
                    thread.start()
            except RuntimeError:  # none can be started at the interpreter's end; `close` does the work then
                self._threads = []
                self._begun.release()
        return bool(self._threads)

    def flush(self, timeout: float) -> bool:
        barrier = Barrier(self._waiting.newest)
        self._barriers.append(barrier)
        self._waiting.wakes.put(True)
        reached = barrier.reached.wait(timeout)
        with suppress(ValueError):
            self._barriers.remove(barrier)
        return reached

    def close(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._waiting.wakes.put(True)
        if not self._threads:
            self.run()
            return
        self._threads[0].join(timeout + _GOODBYE_SECONDS / 2)
        if self._threads[0].is_alive():
            self.transport.abort()
            self._threads[0].join(_GOODBYE_SECONDS / 2)
            self._abandon()  # a name that is being resolved, or a connect, cannot be broken off

    def forget(self) -> None:
        """After a fork: the descriptors here are copies, and their connections and locks the parent's."""
        self.transport.forget()
        if self._spool is not None:
            self._spool.close()

    def run(self) -> None:
        self.ident = threading.get_ident()
        while not self._finished():
            try:
                self._turn()
            except Exception as error:  # nobody could restart this thread
                self.reporter.report(f"{type(error).__name__}: {error}")
                self._pause(self._retry_delay())
        self._abandon()
        self.transport.close(_GOODBYE_SECONDS / 2)

    def _finished(self) -> bool:
        if self._deadline is None:
            return False
        if not (self._hand or self._spool or len(self._waiting)):
            return True
        return self._ended or time.monotonic() >= self._deadline

    def _turn(self) -> None:
        if not self._hand:
            self._settle()
            if not self._fill():
                self._rest()
                return
        self._deliver()

    def _fill(self) -> bool:
        """Takes a batch in hand, if one is due."""
        with self._moving:
            spooled = self._read_spool()
            self._hand_spooled = bool(spooled)
            if spooled:
                self._hand = dict(enumerate(spooled))
            elif self._reached and self._waiting.dropped != self._told:
                dropped = self._waiting.dropped.copy()
                self._hand = {0: self._notice(dropped - self._told)}
                self._told = dropped
            elif self._is_due():
                self._due = None
                self._hand = self._waiting.take(self._pace.batch_size)
        return bool(self._hand)

    def _is_due(self) -> bool:
        waiting = self._waiting
        if not len(waiting):
            self._due = None
            return False
        if self._due is None:
            self._due = time.monotonic() + self._pace.batch_seconds
        hurry = waiting.urgent or self._barriers or self._deadline is not None
        return bool(hurry) or len(waiting) >= self._pace.batch_size or time.monotonic() >= self._due

    def _deliver(self) -> None:
        in_hand = len(self._hand)
        established = self.transport.connected
        self._busy_since = self._busy_since or time.monotonic()
        self._busy.set()
        self._reached = False
        try:
            self.transport.deliver(self._hand)
        except Exception as error:
            if self._ended:
                return
            if len(self._hand) < in_hand:
                self._failures = 0
            self._failed(error, established)
        else:
            self._reached = True
            self._failures = 0
            self._busy_since = None
            self._busy.clear()
            self.reporter.recovered()
            self._forget_hand()

    def _forget_hand(self) -> None:
        with self._moving:
            if self._hand_spooled and self._spool and not self._ended:
                self._spool.delivered()
            self._hand_spooled = False

    def _failed(self, error: Exception, established: bool) -> None:
        if established and self._failures == 0 and not isinstance(error, Unavailable):
            # An old connection broke, as they do when a server restarts: the next one is tried at once.
            self._failures = 1
            return
        self.reporter.report(f"{self.transport.name}: {error}")
        self._spool_hand()
        retry_after = error.retry_after if isinstance(error, Unavailable) else None
        delay = self._retry_delay()
        self._pause(delay if retry_after is None else retry_after)

    def _retry_delay(self) -> float:
        delay = min(self._pace.retry_first * 2.0 ** min(self._failures, 30), self._pace.retry_most)
        self._failures += 1
        return delay * random.uniform(0.75, 1.25)

    def _pause(self, seconds: float) -> None:
        """Until the time is over or somebody wants a flush or the end, who gets an attempt at once."""
        until = time.monotonic() + seconds
        while True:
            end = until if self._deadline is None else min(until, self._deadline)
            left = end - time.monotonic()
            if left <= 0 or self._waiting.listen(NEVER, left):
                return

    def _rest(self) -> None:
        """Until a batch may be due."""
        if self._due is not None:
            self._waiting.listen(self._pace.batch_size, max(self._due - time.monotonic(), 0.0))
        else:
            self._waiting.listen(1, None if self._spool is None else _ADOPT_SECONDS)

    def _settle(self) -> None:
        """With nothing in hand, whoever waits for a number lower than all that is left waits no longer."""
        oldest = 0 if self._spool else self._waiting.oldest()
        for barrier in list(self._barriers):
            if oldest > barrier.number:
                barrier.reached.set()
                self._barriers.remove(barrier)

    def _refused(self, message: bytes, reason: str) -> None:
        self._waiting.count_dropped(severity_in(message))
        self.reporter.report(f"{self.transport.name} refuses a message: {reason}")

    def _read_spool(self) -> list[bytes]:
        if self._spool is None:
            return []
        now = time.monotonic()
        if now >= self._adopt_at:
            self._adopt_at = now + _ADOPT_SECONDS
            self._spool.adopt()
        return self._spool.read(self._pace.batch_size)

    def _spool_hand(self) -> None:
        """An attempt has failed: what is in hand is safe from a kill, too, where nothing younger is on disk already."""
        if self._spool is None or self._spool or self._hand_spooled:
            return
        with self._moving:
            try:
                if self._spool.room() <= sum(map(len, self._hand.values())):
                    return
                self._spool.append(self._hand.values())
            except OSError as error:
                self.reporter.report(f"spool: {error}")
                return
            self._spool.read(len(self._hand))  # it is in hand
            self._hand_spooled = True

    def _run_spooler(self) -> None:
        """A thread of its own, since a connect that hangs must not let the queue run full."""
        spooled_at = 0.0
        while not self._ended:
            self._busy.wait()
            time.sleep(_SPOOL_SECONDS)
            now = time.monotonic()
            stalled = self._busy_since is not None and now - self._busy_since > _STALLED_SECONDS
            full = 2 * len(self._waiting) > self._waiting.most or 2 * self._waiting.octets() > self._waiting.most_bytes
            if full or (stalled and now - spooled_at > self._pace.batch_seconds):
                spooled_at = now
                self._spool_waiting()

    def _spool_waiting(self) -> None:
        with self._moving:
            spool = self._spool
            if spool is None or self._ended:
                return
            try:
                room = spool.room()
                while len(self._waiting) and room > self._waiting.octets():
                    batch = self._waiting.take(self._pace.batch_size)
                    self._append(spool, batch)
                    room -= sum(map(len, batch.values()))
            except OSError as error:
                self.reporter.report(f"spool: {error}")

    def _append(self, spool: Spool, batch: dict[int, bytes]) -> None:
        try:
            spool.append(batch.values())
        except OSError:
            self._waiting.put_back(batch)
            raise

    def _abandon(self) -> None:
        """What has not been delivered goes to disk, the most severe first where there is no room for all; else it is lost."""
        with self._moving:
            if self._ended:
                return
            self._ended = True
            self._busy.set()
            left = [] if self._hand_spooled else list(self._hand.values())
            left += self._waiting.take(NEVER, NEVER).values()
            lost = left if self._spool is None else self._spool_last(self._spool, left)
            for message in lost:
                self._waiting.count_dropped(severity_in(message))
            if lost:
                self.reporter.last_words(f"{self.transport.name}: {len(lost)} messages could not be delivered before the end")

    def _spool_last(self, spool: Spool, messages: list[bytes]) -> list[bytes]:
        """Those that are lost."""
        try:
            return spool.append_severest(messages)
        except OSError as error:
            self.reporter.last_words(f"spool: {error}")
            return messages
        finally:
            spool.close()
