"""The handler: what runs in the application's threads, which is to render a record and put it where it waits."""

from __future__ import annotations

import logging
import logging.handlers
import os
import socket
import sys
import threading
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, Optional, Union

from .message import LEVELS, Renderer, sd_name, severity_of
from .transport import Peer, transport_for
from .waiting import Waiting
from .worker import Pace, Reporter, Worker

if TYPE_CHECKING:
    from .spool import Spool

_FACILITIES = logging.handlers.SysLogHandler.facility_names


class Handler(logging.Handler):
    """Sends records as RFC 5424 messages to `url`: `tls`, `tcp`, `relp`, `relps`, `https` or `http`.

    All arguments are plain values, so that `logging.config.dictConfig` can give them; README.md says what each means.
    Raises ValueError or OSError where one is wrong; after that nothing is ever raised to whoever logs.
    """

    def __init__(
        self,
        url: str,
        *,
        app_name: Optional[str] = None,
        hostname: Optional[str] = None,
        facility: Union[str, int] = "user",
        sd_id: str = "python@32473",
        level: Union[str, int] = logging.NOTSET,
        token: Optional[str] = None,
        ca: Optional[str] = None,
        certificate: Optional[str] = None,
        key: Optional[str] = None,
        server_hostname: Optional[str] = None,
        batch_size: int = 500,
        batch_seconds: float = 2.0,
        flush_level: Union[str, int] = logging.ERROR,
        queue_size: int = 10_000,
        queue_bytes: int = 64 << 20,
        spool: Optional[str] = None,
        spool_bytes: int = 256 << 20,
        connect_timeout: float = 10.0,
        timeout: float = 30.0,
        close_timeout: float = 5.0,
        retry_first: float = 0.5,
        retry_most: float = 30.0,
    ) -> None:
        super().__init__(level)
        if sd_name(sd_id) != sd_id:
            raise ValueError(f"sd_id `{sd_id}` is no SD-ID of RFC 5424")
        transport, parsed = transport_for(url)
        peer = Peer(
            url=parsed,
            port=parsed.port or transport.port,
            connect_timeout=connect_timeout,
            timeout=timeout,
            token=token,
            ca=ca,
            certificate=certificate,
            key=key,
            server_hostname=server_hostname,
        )
        if transport.over_tls:
            peer.tls()  # a file that cannot be read is said now
        urgent_severity = severity_of(_level(flush_level))
        pace = Pace(batch_size, batch_seconds, retry_first, retry_most)
        renderer = Renderer(
            hostname=hostname or socket.gethostname(), app_name=app_name, facility=_facility(facility), sd_id=sd_id
        )

        def make_worker() -> tuple[Waiting, Worker]:
            waiting = Waiting(most=queue_size, most_bytes=queue_bytes, urgent_severity=urgent_severity)
            disk = None if spool is None else _spool(spool, spool_bytes)
            return waiting, Worker(waiting, lambda refused: transport(peer, refused), disk, pace, self._notice)

        self._renderer = renderer
        self._make_worker = make_worker
        self._waiting, self._worker = make_worker()
        self._started = False
        self._closed = False
        #: Of those who log, such as arguments that do not fit; by itself, lest a server that is away hide them.
        self._mistakes = Reporter()
        self._close_timeout = close_timeout
        #: When a flush has last waited in vain.
        self._flush_failed = float("-inf")
        _handlers.add(self)

    @property
    def dropped(self) -> dict[str, int]:
        """How many records of each level were dropped, since the process began."""
        return {LEVELS[severity]: count for severity, count in sorted(self._waiting.dropped.copy().items())}

    def handle(self, record: logging.LogRecord) -> Any:
        # Without the handler's lock, which logging holds while a record is rendered: nothing here needs it.
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "penstock" or threading.get_ident() == self._worker.ident:
            return
        try:
            if self.formatter is None and not (record.exc_info or record.exc_text or record.stack_info):
                text = record.getMessage()
            else:
                text = self.format(record)
            severity, message = self._renderer.render(record, text)
            if self._closed:
                self._waiting.count_dropped(severity)
                return
            self._waiting.put(severity, message)
            if not self._started:
                self._start()
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        if self._mistakes.may_speak():
            super().handleError(record)

    def flush(self, timeout: Optional[float] = None) -> bool:  # type: ignore[override]  # logging ignores the answer
        """Sends all that waits, and tells whether it has been delivered within `timeout` (`close_timeout` if not given)."""
        if self._closed or not self._started:
            return not len(self._waiting)
        reached = self._worker.flush(self._close_timeout if timeout is None else timeout)
        if not reached:
            self._flush_failed = time.monotonic()
        return reached

    def close(self) -> None:
        """Delivers what waits for up to `close_timeout`; the rest goes to the spool, or is counted as dropped."""
        if not self._closed:
            self._closed = True
            # logging.shutdown flushes first: who has waited for that in vain does not wait again.
            waited = time.monotonic() - self._flush_failed < 1.0
            self._worker.close(0.0 if waited else self._close_timeout)
        super().close()

    def _start(self) -> None:
        self._started = self._worker.start()
        # A child of multiprocessing ends without atexit, and so without logging.shutdown.
        if "multiprocessing.process" in sys.modules:
            from multiprocessing import parent_process, util

            if parent_process() is not None:
                util.Finalize(self, self.close, exitpriority=0)

    def _after_fork(self) -> None:
        """The child begins with nothing: what waits is the parent's to send, and no thread came along."""
        self._worker.forget()
        self._waiting, self._worker = self._make_worker()
        self._started = False

    def _notice(self, dropped: Counter[int]) -> bytes:
        levels = {LEVELS[severity]: dropped[severity] for severity in sorted(dropped)}
        text = ", ".join(f"{count} {level}" for level, count in levels.items())
        extra = {f"dropped_{level.lower()}": count for level, count in levels.items()}
        record = logging.LogRecord("penstock", logging.WARNING, "", 0, f"records dropped: {text}", (), None)
        record.__dict__.update(extra)
        return self._renderer.render(record, record.getMessage())[1]


_handlers: weakref.WeakSet[Handler] = weakref.WeakSet()


def _forked() -> None:
    for handler in list(_handlers):
        handler._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _level(level: Union[str, int]) -> int:
    number = logging.getLevelName(level) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"`{level}` is no level")
    return number


def _facility(facility: Union[str, int]) -> int:
    number = _FACILITIES.get(facility, -1) if isinstance(facility, str) else facility
    if not 0 <= number <= 23:
        raise ValueError(f"`{facility}` is no facility")
    return number



def _spool(folder: str, most_bytes: int) -> Spool:
    from .spool import Spool  # needs flock(2), which not every system has

    return Spool(folder, most_bytes)
