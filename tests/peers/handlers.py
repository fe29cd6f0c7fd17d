"""Logs through CPython's own network handlers, as applications do, and prints what a server must make of each record.

    handlers.py HANDLER ADDRESS [CA]    HANDLER is socket, socket-tls, datagram, http-get, http-post, https-post, syslog-udp,
                                        syslog-tcp; ADDRESS is HOST:PORT or a path
    handlers.py pickles                 records in all protocols: a line of JSON, and the pickle in hexadecimal, for each

A QueueHandler stands in front of every second one of them, as in applications that must not wait.
"""

import collections
import datetime
import decimal
import json
import logging
import logging.handlers
import pickle
import queue
import random
import socket
import ssl
import sys

SEVERITIES = {5: "debug", 10: "debug", 20: "info", 25: "notice", 30: "warning", 35: "warning", 40: "err", 50: "crit", 60: "crit"}

TEXTS = [
    "user logged in",
    "",
    "gr\u00fc\u00dfe aus K\u00f6ln \u2014 \u2713 \u65e5\u672c\u8a9e \U0001f40d",
    "line one\nline two\r\n  line three\n",
    "first\tsecond\x00third",
    'says "no" to C:\\temp \x1b[31mred\x1b[0m',
    "a=1&b=2+3 100% <b>done</b> %41",
    "<14>1 - - - - - - no header",
    "x" * 9000,
    '{"event": "json", "n": 1}',
]


class SecureSocketHandler(logging.handlers.SocketHandler):
    """SocketHandler over TLS, as its documentation leaves it to the application."""

    def __init__(self, host, port, ca):
        super().__init__(host, port)
        self.context = ssl.create_default_context(cafile=ca)

    def makeSocket(self, timeout=5):
        return self.context.wrap_socket(super().makeSocket(timeout), server_hostname=self.host)


def handler(kind, address, ca):
    host, _, port = address.rpartition(":")
    if address.startswith("/"):
        host, port = address, None
    else:
        port = int(port)
    if kind == "socket":
        return logging.handlers.SocketHandler(host, port)
    if kind == "socket-tls":
        return SecureSocketHandler(host, port, ca)
    if kind == "datagram":
        return logging.handlers.DatagramHandler(host, port)
    if kind.startswith("http"):
        secure = {"secure": True, "context": ssl.create_default_context(cafile=ca)} if kind.startswith("https") else {}
        credentials = ("app", "pass:word")
        return logging.handlers.HTTPHandler(address, "/log", kind.split("-")[1].upper(), credentials=credentials, **secure)
    sort = socket.SOCK_STREAM if kind == "syslog-tcp" else socket.SOCK_DGRAM
    syslog = logging.handlers.SysLogHandler(address=(host, port), socktype=sort)
    syslog.setFormatter(logging.Formatter("%(name)s[%(process)d]: %(message)s"))
    return syslog


class Expected(logging.Handler):
    """Prints what a server must make of each record."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def emit(self, record):
        is_syslog = self.kind.startswith("syslog")
        text = record.getMessage()
        if self.kind.startswith("http"):
            # It sends what was raised as an object's repr, and the stack never.
            if record.exc_info:
                text += "\n" + str(record.exc_info)
        elif record.exc_info:
            text = logging.Formatter().format(record)
        if is_syslog:
            text = "%s[%d]: %s" % (record.name, record.process, text)
            # One line feed at the end belongs to the framing.
            text = text[:-1] if text.endswith("\n") else text
            # To the handler they are none of its own names.
            severity = "warning" if record.levelno not in (10, 20, 30, 40, 50) else SEVERITIES[record.levelno]
        else:
            severity = SEVERITIES[record.levelno]
        expected = {
            "id": record.number,
            "app_name": record.name,
            "proc_id": str(record.process),
            "severity": severity,
            "message": text,
            "created": None if is_syslog else record.created,
            "user": None if is_syslog else record.user,
        }
        print(json.dumps(expected))


def log(kind, address, ca):
    logger = logging.getLogger("shop.orders")
    logger.setLevel(1)
    logger.propagate = False
    network = handler(kind, address, ca)
    inner = [network, Expected(kind)]
    waiting = queue.Queue()
    listener = logging.handlers.QueueListener(waiting, *inner)
    # The queue's handler renders a record for good: what was raised is text afterwards.
    is_queued = kind in ("datagram", "syslog-udp")
    if is_queued:
        listener.start()
        logger.addHandler(logging.handlers.QueueHandler(waiting))
    else:
        for one in inner:
            logger.addHandler(one)
    number = 0
    for text in TEXTS:
        if kind == "syslog-tcp" and "\x00" in text:
            # There it ends a message.
            continue
        for level in (10, 20, 25, 30, 35, 40, 50):
            number += 1
            logger.log(level, "[%d] %s", number, text, extra={"number": number, "user": {"id": number, "name": "J\u00f6rg"}})
    for _ in range(3):
        number += 1
        try:
            raise ValueError("caf\u00e9 \u2014 %s")
        except ValueError:
            if kind.startswith("syslog") or is_queued:
                logger.error("[%d] failed", number, extra={"number": number, "user": None})
            else:
                logger.exception("[%d] failed", number, extra={"number": number, "user": None})
    if is_queued:
        listener.stop()
    network.close()


def plain(value):
    """A value as JSON has it, by the rules of the documentation."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(inner) for inner in value), key=repr)
    if isinstance(value, bytearray):
        return "b'" + escaped(value) + "'"
    if isinstance(value, bytes):
        return "b'" + escaped(value) + "'"
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return value


def escaped(data):
    return "".join(escape(byte) for byte in data)


def escape(byte):
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 39: "\\'", 92: "\\\\"}
    return named.get(byte) or (chr(byte) if 32 <= byte < 127 else "\\x%02x" % byte)


def random_value(source, depth):
    kinds = [
        lambda: None,
        lambda: source.random() < 0.5,
        lambda: source.choice([0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, 2**100, -(2**90)]),
        lambda: source.uniform(-1e6, 1e6),
        lambda: source.choice([0.0, 1e300, 1.5e-9, float("inf")]),
        lambda: "".join(chr(source.choice([9, 10, 34, 39, 65, 92, 228, 8364, 128013])) for _ in range(source.randrange(300))),
        lambda: bytes(source.randrange(256) for _ in range(source.randrange(300))),
        lambda: bytearray(b"ab\x00\xff"),
        lambda: datetime.datetime(2026, 11, 21, 10, 0, 0, source.randrange(1000000)),
        lambda: datetime.date(2026, 11, 21),
        lambda: decimal.Decimal("1.50"),
    ]
    if depth:
        kinds += [
            lambda: [random_value(source, depth - 1) for _ in range(source.randrange(6))],
            lambda: tuple(random_value(source, depth - 1) for _ in range(source.randrange(5))),
            lambda: {"k%d" % i: random_value(source, depth - 1) for i in range(source.randrange(6))},
            lambda: collections.OrderedDict(("o%d" % i, random_value(source, depth - 1)) for i in range(3)),
            lambda: {source.randrange(100)},
            lambda: frozenset(["one"]),
            lambda: ["shared"] * 3,
        ]
    return source.choice(kinds)()


def pickles():
    source = random.Random(7)
    for _ in range(200):
        record = logging.LogRecord("shop", 20, "shop.py", 7, "text", None, None).__dict__
        record.update(("extra%d" % i, random_value(source, 3)) for i in range(6))
        repeated = ["again", record["extra0"]]
        record.update(first=repeated, second=repeated)
        expected = json.dumps(plain(record))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            print(expected)
            print(pickle.dumps(record, protocol).hex())


if __name__ == "__main__":
    if sys.argv[1] == "pickles":
        pickles()
    else:
        log(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
