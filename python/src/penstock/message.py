"""A record as an RFC 5424 message, with what `extra=` holds as structured data.

This runs in the thread of whoever logs, because arguments and extras may change as soon as the call returns. So what
repeats is kept: the header of a level and logger, and the text of the current second.
"""

from __future__ import annotations

import json
import logging
import re
import time
from functools import lru_cache
from typing import Any, Optional

LEVELS = {2: "CRITICAL", 3: "ERROR", 4: "WARNING", 6: "INFO", 7: "DEBUG"}
_THRESHOLDS = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

# What LogRecord itself has, and what formatters of other handlers leave there.
_NO_EXTRA = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"asctime", "message", "taskName"}
_TRACE = ("trace_id", "span_id")

# json.dumps with options would make an encoder for each value.
_encode = json.JSONEncoder(default=str, ensure_ascii=False).encode

# Programs that make a logger for each request would fill the memory otherwise.
_MOST_HEADERS = 1024


def severity_of(level: int) -> int:
    """RFC 5424, table 2; a level between two of logging's own counts as the lower one."""
    return next((severity for threshold, severity in _THRESHOLDS if level >= threshold), 7)


def severity_in(message: bytes) -> int:
    return int(message[1 : message.index(b">")]) & 7


def header_field(text: str, most: int) -> str:
    """PRINTUSASCII of this length at most; NILVALUE where there is nothing."""
    return re.sub("[^!-~]", "_", text)[:most] or "-"


@lru_cache(maxsize=1024)
def sd_name(text: str) -> str:
    return re.sub(r'[^!-~]|[="\]]', "_", text)[:32] or "_"


def param_value(value: str) -> str:
    """RFC 5424, section 6.3.3."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if type(value) is int:  # a fifth of the time that the encoder takes; not bool
        return str(value)
    try:
        return _encode(value)
    except Exception:  # circular, keys that are no text, a __str__ that raises: the record must not be lost for that
        return f"<{type(value).__name__}>"


def extra_names(record: logging.LogRecord) -> list[str]:
    fields = record.__dict__
    # Half of the time that the list takes where there are none.
    names = [] if _NO_EXTRA.issuperset(fields) else [name for name in fields if name not in _NO_EXTRA]
    if type(record) is not logging.LogRecord:
        # Tracing libraries may put these on a class of their own.
        names += [name for name in _TRACE if name not in fields and hasattr(record, name)]
    return names


class Renderer:
    def __init__(self, *, hostname: str, app_name: Optional[str], facility: int, sd_id: str) -> None:
        self._hostname = header_field(hostname, 255)
        self._app_name = app_name
        self._facility = facility
        self._sd_id = sd_id
        self._headers: dict[tuple[int, str, Optional[int]], tuple[int, str, str]] = {}
        self._second: tuple[int, str, str] = (-1, "", "")

    def render(self, record: logging.LogRecord, text: str) -> tuple[int, bytes]:
        """The severity and the message."""
        key = (record.levelno, record.name, record.process)
        severity, pri, rest = self._headers.get(key) or self._header(key)
        created = record.created
        second = int(created)
        # One attribute, read once: another thread may put the next second in its place.
        cached = self._second
        if cached[0] != second:
            cached = self._new_second(second)
        micros = min(int((created - second) * 1e6 + 0.5), 999_999)
        extras = extra_names(record)
        params = self._params(record, extras) if extras else ""
        message = f"{pri}{cached[1]}.{micros:06d}{cached[2]}{rest}{params}] {text}"
        return severity, message.encode("utf-8", "backslashreplace")

    def _header(self, key: tuple[int, str, Optional[int]]) -> tuple[int, str, str]:
        level, name, process = key
        severity = severity_of(level)
        app_name = header_field(self._app_name or name, 48)
        rest = f' {self._hostname} {app_name} {process or "-"} - [{self._sd_id} logger="{param_value(name)}"'
        header = (severity, f"<{self._facility << 3 | severity}>1 ", rest)
        if len(self._headers) >= _MOST_HEADERS:
            self._headers.clear()
        self._headers[key] = header
        return header

    def _new_second(self, second: int) -> tuple[int, str, str]:
        local = time.localtime(second)
        minutes = local.tm_gmtoff // 60
        sign = "-" if minutes < 0 else "+"
        offset = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
        self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", local), offset)
        return self._second

    def _params(self, record: logging.LogRecord, extras: list[str]) -> str:
        params = {"logger": ""}
        for extra in extras:
            name = sd_name(str(extra))
            if name not in params:
                params[name] = f' {name}="{param_value(text_of(getattr(record, extra)))}"'
        return "".join(params.values())
