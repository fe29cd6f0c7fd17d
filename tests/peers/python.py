"""Logs through CPython's own SysLogHandler, as applications do.

    python.py texts TRANSPORT ADDRESS           all formats and texts; prints what a server must make of each
    python.py readme TRANSPORT ADDRESS          six messages
    python.py flood TRANSPORT ADDRESS NAME...   a thread a name; each line on standard input is worth 20 messages of each

TRANSPORT is udp, tcp, unix-datagram or unix-stream; ADDRESS is HOST:PORT or a path.
"""

import json
import logging
import logging.handlers
import socket
import sys
import threading

SEVERITIES = {10: "debug", 20: "info", 25: "warning", 30: "warning", 40: "err", 50: "crit"}

TEXTS = [
    "user logged in",
    "",
    "gr\u00fc\u00dfe aus K\u00f6ln \u2014 \u2713 \u65e5\u672c\u8a9e \U0001f40d",
    "line one\nline two\n  line three",
    "one\r\ntwo\r\nthree",
    "first\tsecond\t\tthird",
    "\nbegins with a line feed",
    " begins with a blank",
    'says "no" to C:\\temp',
    "\x1b[31mred\x1b[0m",
    "disk /dev/sda1 at 91%: http://example.com/?a=1&b=2",
    "2026-11-20 21:14:26 is a time",
    "17 of 20 <b>done</b>",
]


class Json(logging.Formatter):
    def format(self, record):
        return json.dumps({"logger": record.name, "level": record.levelname, "text": record.getMessage()}, ensure_ascii=False)


# The formatter, and the app name that a server may take from it.
FORMATS = [
    (logging.Formatter("%(message)s"), "unknown"),
    (logging.Formatter("%(name)s[%(process)d]: %(levelname)s %(message)s"), "python-app"),
    (logging.Formatter("%(name)s: %(levelname)s %(message)s"), "python-app"),
    (logging.Formatter("%(levelname)s:%(name)s:%(message)s"), "unknown"),
    (logging.Formatter("%(asctime)s %(name)s: %(levelname)s %(message)s"), "unknown"),
    (Json(), "unknown"),
]


class Expected(logging.Handler):
    """Prints app name, severity, and the whole text as JSON."""

    def __init__(self, syslog):
        super().__init__()
        self.syslog = syslog
        self.app = "unknown"

    def emit(self, record):
        text = self.syslog.ident + self.syslog.format(record)
        print(self.app, SEVERITIES[record.levelno], json.dumps(text, ensure_ascii=False), sep="\t")


def handler(transport, address):
    kind = socket.SOCK_STREAM if transport in ("tcp", "unix-stream") else socket.SOCK_DGRAM
    if transport in ("tcp", "udp"):
        host, port = address.rsplit(":", 1)
        address = (host, int(port))
    return logging.handlers.SysLogHandler(address, socktype=kind)


def logger(name, *handlers):
    log = logging.getLogger(name)
    log.setLevel(1)
    log.propagate = False
    log.handlers = list(handlers)
    return log


def fail(divisor):
    return 1 / divisor


def texts(transport, address):
    syslog = handler(transport, address)
    expected = Expected(syslog)
    log = logger("python-app", syslog, expected)
    for formatter, app in FORMATS:
        syslog.setFormatter(formatter)
        expected.app = app
        for text in TEXTS:
            log.info(text)
        levels(log)
    # A stream that has shown its NULs has line feeds for data, whatever follows them.
    log.info("line one\n<13>line two")
    log.info("x" * 60_000)
    syslog.ident, expected.app = "by-ident: ", "by-ident"
    log.info("user logged in")
    if transport in ("udp", "unix-datagram"):
        datagrams(log, syslog)


def levels(log):
    for level in (logging.DEBUG, logging.INFO, 25, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.log(level, "level %d", level)
    try:
        fail(0)
    except ZeroDivisionError:
        log.exception("boom")


def datagrams(log, syslog):
    log.info("a NUL \0 inside")
    syslog.append_nul = False
    log.info("without NUL")
    log.info("")
    log.info("two lines\nwithout NUL")


def readme(transport, address):
    syslog = handler(transport, address)
    log = logger("python-app", syslog)
    log.info("user logged in")
    syslog.setFormatter(logging.Formatter("%(name)s[123]: %(levelname)s %(message)s"))
    log.info("formatted")
    syslog.setFormatter(None)
    try:
        fail(0)
    except ZeroDivisionError:
        log.exception("boom")
    log.info("gr\u00fc\u00dfe aus K\u00f6ln")
    log.warning("disk almost full")
    log.info("")


def flood(transport, address, *names):
    logs = [logger(name, handler(transport, address)) for name in names]
    for log in logs:
        log.handlers[0].setFormatter(logging.Formatter("%(name)s: %(message)s"))
    sent = 0
    for _ in sys.stdin:
        threads = [threading.Thread(target=burst, args=(log, sent)) for log in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent += 20


def burst(log, first):
    for number in range(first, first + 20):
        log.info("message %d", number)


if __name__ == "__main__":
    logging.addLevelName(25, "NOTICE")
    sys.stdout.reconfigure(encoding="utf-8")
    {"texts": texts, "readme": readme, "flood": flood}[sys.argv[1]](*sys.argv[2:])
