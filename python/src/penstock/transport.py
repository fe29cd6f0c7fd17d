"""The ways to a server: one connection each, and what "delivered" means on it.

A batch is a dict of numbered messages. A transport deletes from it what has been delivered for good; what is still
there when it raises is to be sent again. It never retries, sleeps or counts: that is the worker's part.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.parse
import uuid
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Callable, ClassVar, Dict, Iterable, Optional, Type

_RELP_WINDOW = 128
_RELP_LAST_NUMBER = 999_999_999
_RELP_FRAME = re.compile(rb"(\d{1,9}) (\w{1,32}) (\d{1,9})( |\n)")
_RELP_LONGEST_HEADER = 53
_LONGEST_ANSWER = 1 << 16
# A server that says "come back tomorrow" is asked again within the hour.
_LONGEST_RETRY_AFTER = 3600.0

#: Told of a message that the server refuses for good, with the reason.
Refused = Callable[[bytes, str], None]


class Unavailable(OSError):
    """The server has answered that it takes nothing now; the connection is sound."""

    def __init__(self, problem: str, retry_after: Optional[float] = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


@dataclass
class Peer:
    """Where to, and how to prove who is who."""

    url: urllib.parse.SplitResult
    port: int
    connect_timeout: float
    timeout: float
    token: Optional[str]
    ca: Optional[str]
    certificate: Optional[str]
    key: Optional[str]
    server_hostname: Optional[str]

    @property
    def host(self) -> str:
        return self.url.hostname or ""

    def tls(self) -> ssl.SSLContext:
        """Made for each connection, so that renewed certificates are found."""
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class Transport:
    """What all have in common."""

    port: ClassVar[int]
    over_tls: ClassVar[bool] = False

    def __init__(self, peer: Peer, refused: Refused) -> None:
        self._peer = peer
        self._refused = refused
        self._socket: Optional[socket.socket] = None
        self._aborted = False

    @property
    def name(self) -> str:
        return f"{self._peer.url.scheme}://{self._peer.host}:{self._peer.port}"

    @property
    def connected(self) -> bool:
        return self._socket is not None

    def deliver(self, batch: dict[int, bytes]) -> None:
        """Raises OSError or http.client.HTTPException."""
        if self._socket is not None and self._gone(self._socket):
            self.forget()
        try:
            self._ensure_connected()
            self._send(batch)
        except Unavailable:
            raise
        except BaseException:
            self.forget()
            raise

    def abort(self) -> None:
        """From another thread: ends a delivery that hangs, and lets none begin."""
        self._aborted = True
        connection = self._socket
        if connection is not None:
            with suppress(OSError):
                # Of the plain socket: SSLSocket's own would take the TLS session from under the thread that uses it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self, timeout: float) -> None:
        connection = self._socket
        if connection is not None:
            with suppress(OSError, ValueError):
                connection.settimeout(timeout)
                self._goodbye()
                if isinstance(connection, ssl.SSLSocket):
                    connection = connection.unwrap()
                connection.shutdown(socket.SHUT_WR)
        self.forget()

    def forget(self) -> None:
        """Closes without a word; also after a fork, where the connection is the parent's."""
        connection, self._socket = self._socket, None
        if connection is not None:
            # Not close(), which an HTTP answer that is being read puts off.
            with suppress(OSError):
                socket.close(connection.detach())

    def _ensure_connected(self) -> None:
        if self._socket is None:
            self._socket = self._connect()
            self._open()

    def _connect(self) -> socket.socket:
        peer = self._peer
        context = peer.tls() if self.over_tls else None
        connection = socket.create_connection((peer.host, peer.port), peer.connect_timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if context is not None:
                connection = context.wrap_socket(connection, server_hostname=peer.server_hostname or peer.host)
            if self._aborted:
                raise ConnectionAbortedError("closed meanwhile")
            connection.settimeout(peer.timeout)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self) -> None:
        """What is said before the first message."""

    def _send(self, batch: dict[int, bytes]) -> None:
        raise NotImplementedError

    def _goodbye(self) -> None:
        """What is said after the last message."""

    def _gone(self, connection: socket.socket) -> bool:
        """Whether the peer has closed: what is written now would be lost without an error. What it says is passed over."""
        connection.setblocking(False)
        try:
            while connection.recv(4096):
                pass
            return True
        except (BlockingIOError, ssl.SSLWantReadError):
            connection.settimeout(self._peer.timeout)
            return False
        except OSError:
            return True

    def _write(self, octets: bytes) -> None:
        assert self._socket is not None, "only while connected"
        self._socket.sendall(octets)


class Tcp(Transport):
    """RFC 6587, section 3.4.1. Nobody answers: what the kernel has taken counts as delivered."""

    port = 514

    def _send(self, batch: dict[int, bytes]) -> None:
        self._write(octet_counted(batch.values()))
        batch.clear()


class Tls(Tcp):
    """RFC 5425."""

    port = 6514
    over_tls = True


class Relp(Transport):
    """A message is delivered when the server has acknowledged it."""

    port = 2514

    def __init__(self, peer: Peer, refused: Refused) -> None:
        super().__init__(peer, refused)
        self._number = 0
        self._received = b""

    def _gone(self, connection: socket.socket) -> bool:
        return False  # what is not acknowledged is sent again anyway, and answers must not be passed over

    def _open(self) -> None:
        self._number = 0
        self._received = b""
        number, frame = self._frame(b"open", b"relp_version=0\nrelp_software=penstock-python\ncommands=syslog")
        self._write(frame)
        answer = self._answer()
        if answer[0] != number or not answer[1].startswith(b"200"):
            raise ConnectionError(f"RELP session refused: {_shown(answer[1])}")

    def _send(self, batch: dict[int, bytes]) -> None:
        unsent = iter(list(batch.items()))
        pending: dict[int, int] = {}
        while True:
            frames = []
            for position, message in islice(unsent, _RELP_WINDOW - len(pending)):
                number, frame = self._frame(b"syslog", message)
                pending[number] = position
                frames.append(frame)
            if frames:
                self._write(b"".join(frames))
            if not pending:
                return
            # Half a window at a time: a frame for each answer would be a packet for each message.
            while len(pending) > (_RELP_WINDOW // 2 if len(batch) > len(pending) else 0):
                self._acknowledge(pending, batch)

    def _acknowledge(self, pending: dict[int, int], batch: dict[int, bytes]) -> None:
        number, answer = self._answer()
        position = pending.pop(number, None)
        if position is None:
            return
        message = batch.pop(position)
        if not answer.startswith(b"200"):
            self._refused(message, _shown(answer))

    def _goodbye(self) -> None:
        number, frame = self._frame(b"close", b"")
        self._write(frame)
        while self._answer()[0] != number:
            pass

    def _frame(self, command: bytes, data: bytes) -> tuple[int, bytes]:
        self._number = self._number % _RELP_LAST_NUMBER + 1
        head = b"%d %s %d" % (self._number, command, len(data))
        return self._number, head + (b" " + data if data else b"") + b"\n"

    def _answer(self) -> tuple[int, bytes]:
        while True:
            found = _RELP_FRAME.match(self._received)
            if found is None and len(self._received) > _RELP_LONGEST_HEADER:
                raise ConnectionError(f"no RELP: {_shown(self._received)}")
            if found is not None:
                number, command, length = int(found[1]), found[2], int(found[3])
                if length > _LONGEST_ANSWER:
                    raise ConnectionError(f"a RELP answer of {length} octets")
                # A blank and no data, then LF, is how some write an empty answer.
                end = found.end() + (length + 1 if found[4] == b" " else 0)
                if len(self._received) >= end:
                    answer = self._received[found.end() : found.end() + length]
                    self._received = self._received[end:]
                    if command != b"rsp":
                        raise ConnectionError(f"the server ends the session: {_shown(command)}")
                    return number, answer
            self._receive()

    def _receive(self) -> None:
        assert self._socket is not None, "only while connected"
        octets = self._socket.recv(65536)
        if not octets:
            raise ConnectionResetError("closed by the server")
        self._received += octets


class Relps(Relp):
    over_tls = True


@dataclass
class _Part:
    """What goes in one request; the key tells the server that it is the same one again."""

    key: str
    numbers: list[int]


class Http(Transport):
    """Requests of octet-counted messages; delivered with the answer 200."""

    port = 80

    def __init__(self, peer: Peer, refused: Refused) -> None:
        super().__init__(peer, refused)
        #: Of the batch that is being delivered. They outlive a connection, so that keys stay the same.
        self._parts: list[_Part] = []
        self._http: http.client.HTTPConnection
        self._headers = {"Content-Type": "application/syslog", "Host": peer.url.netloc.rpartition("@")[2]}
        if peer.token is not None:
            self._headers["Authorization"] = f"Bearer {peer.token}"
        elif peer.url.username is not None:
            self._headers["Authorization"] = _basic(peer.url)

    def _open(self) -> None:
        self._http = http.client.HTTPConnection(self._peer.host, self._peer.port)
        # It would connect again by itself, and without TLS.
        self._http.auto_open = 0
        self._http.sock = self._socket

    def _send(self, batch: dict[int, bytes]) -> None:
        if not self._parts:
            self._parts = [_Part(uuid.uuid4().hex, list(batch))]
        while self._parts:
            part = self._parts[0]
            status, retry_after = self._post(part.key, octet_counted(batch[number] for number in part.numbers))
            if status in (400, 413, 422):
                self._split(batch, f"HTTP status {status}")
            elif status != 200:
                raise Unavailable(f"HTTP status {status}", retry_after)
            else:
                for number in part.numbers:
                    del batch[number]
                del self._parts[0]

    def _split(self, batch: dict[int, bytes], reason: str) -> None:
        """Halves of halves find the message that spoils the others."""
        numbers = self._parts.pop(0).numbers
        if len(numbers) == 1:
            self._refused(batch.pop(numbers[0]), reason)
            return
        half = len(numbers) // 2
        self._parts[:0] = [_Part(uuid.uuid4().hex, part) for part in (numbers[:half], numbers[half:])]

    def _post(self, key: str, body: bytes) -> tuple[int, Optional[float]]:
        self._ensure_connected()
        url = self._peer.url
        path = (url.path or "/logs") + (f"?{url.query}" if url.query else "")
        # A server may refuse a body before it has read it all: its answer says more than the broken pipe.
        with suppress(BrokenPipeError):
            self._http.request("POST", path, body, {**self._headers, "Idempotency-Key": key})
        response = self._http.getresponse()
        response.read(_LONGEST_ANSWER)
        if self._http.sock is None or not response.isclosed():  # the server closes, or says more than anybody reads
            self.forget()
        return response.status, _retry_after(response.headers.get("Retry-After"))


class Https(Http):
    port = 443
    over_tls = True


TRANSPORTS: Dict[str, Type[Transport]] = {"http": Http, "https": Https, "relp": Relp, "relps": Relps, "tcp": Tcp, "tls": Tls}


def transport_for(url: str) -> tuple[type[Transport], urllib.parse.SplitResult]:
    parsed = urllib.parse.urlsplit(url)
    transport = TRANSPORTS.get(parsed.scheme)
    if transport is None:
        raise ValueError(f"`{url}`: the scheme must be one of {', '.join(TRANSPORTS)}")
    if not parsed.hostname:
        raise ValueError(f"`{url}` names no host")
    return transport, parsed


def octet_counted(messages: Iterable[bytes]) -> bytes:
    return b"".join(b"%d %b" % (len(message), message) for message in messages)


def _basic(url: urllib.parse.SplitResult) -> str:
    parts = (urllib.parse.unquote(part or "") for part in (url.username, url.password))
    return "Basic " + base64.b64encode(":".join(parts).encode()).decode()


def _retry_after(value: Optional[str]) -> Optional[float]:
    """RFC 9110, section 10.2.3: seconds, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.isdigit() else email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def _shown(octets: bytes) -> str:
    return octets[:200].decode("ascii", "backslashreplace")
