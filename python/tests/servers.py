"""Small servers that take what a handler sends, and fail as they are told."""

import atexit
import os
import re
import socket
import ssl
import subprocess
import tempfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE = 20.0


class Certificate:
    """A certificate for localhost that is its own authority, made once for all tests."""

    _folder = None

    @classmethod
    def paths(cls):
        if cls._folder is None:
            cls._folder = tempfile.TemporaryDirectory()
            atexit.register(cls._folder.cleanup)
            command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
            command += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out certificate.pem"
            subprocess.run(command.split(), cwd=cls._folder.name, check=True, stderr=subprocess.DEVNULL)
        return [os.path.join(cls._folder.name, name) for name in ("certificate.pem", "key.pem")]

    @classmethod
    def server_context(cls):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*cls.paths())
        return context


class Received:
    """Messages in the order of their arrival, for others to wait on."""

    def __init__(self):
        self.messages = []
        self.changed = threading.Condition()

    def add(self, message):
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, condition):
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self.messages), PATIENCE):
                raise AssertionError(f"only {len(self.messages)} messages came: {self.messages[-3:]}")
            return list(self.messages)

    def wait_for(self, count):
        return self.wait(lambda messages: len(messages) >= count)


def reserved():
    """A port that stays ours when its server stops: a socket that is bound and does not listen lets another one listen."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    _places.append(place)
    return place.getsockname()[1]


_places = []


class StreamServer:
    """Takes octet-counted messages; subclasses speak something else."""

    def __init__(self, context=None, port=0, received=None):
        self.received = received or Received()
        self.connections = 0
        self.one_ended = threading.Event()
        self._context = context
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", port or reserved()), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError, ValueError):
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
                self._open.append(connection)
            self.connections += 1
            with connection, connection.makefile("rb") as stream:
                self.serve(connection, stream)
                if self._context is not None:
                    connection.unwrap()
                self.one_ended.set()

    def serve(self, connection, stream):
        while True:
            length = read_until(stream, b" ")
            if not length:
                return
            self.received.add(read_exactly(stream, int(length)))


class RelpServer(StreamServer):
    def __init__(self, *arguments, refuses=None, breaks_after=None, **options):
        self.refuses = refuses
        self.breaks_after = breaks_after
        self.closed = threading.Event()
        self.unacknowledged = 0
        super().__init__(*arguments, **options)

    def serve(self, connection, stream):
        taken = 0
        while True:
            head = re.match(rb"(\d+) (\w+) (\d+)", read_until(stream, b" ") + b" " + read_until(stream, b" ") + b" " + digits(stream))
            if head is None:
                return
            number, command, length = int(head[1]), head[2], int(head[3])
            data = read_exactly(stream, length) if length else b""
            if length:
                assert read_exactly(stream, 1) == b"\n"
            if command == b"syslog":
                taken += 1
                if self.breaks_after is not None and taken > self.breaks_after:
                    self.breaks_after = None
                    self.unacknowledged += 1
                    connection.shutdown(socket.SHUT_WR)
                    while stream.read(4096):  # a reset would take answers that are on their way
                        pass
                    return
                if self.refuses is not None and self.refuses(data):
                    self.answer(connection, number, b"500 no")
                    continue
                self.received.add(data)
            self.answer(connection, number, b"200 OK" + (b"\nrelp_version=0\ncommands=syslog" if command == b"open" else b""))
            if command == b"close":
                self.closed.set()

    def answer(self, connection, number, text):
        connection.sendall(b"%d rsp %d %b\n" % (number, len(text), text))


class HttpServer:
    """Answers what the test says: `answers` is asked with the messages of each request and gives status and headers."""

    def __init__(self, context=None, answers=lambda messages: (200, {}), port=0):
        self.received = Received()
        self.requests = []
        self.answers = answers
        outer = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                messages = split_counted(body)
                outer.requests.append((self.path, dict(self.headers), messages, self.client_address))
                status, headers = outer.answers(messages)
                if status == 200:
                    for message in messages:
                        outer.received.add(message)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port or reserved()), Requests)
        self._server.daemon_threads = True
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def read_until(stream, end):
    found = b""
    while True:
        octet = stream.read(1)
        if not octet or octet == end:
            return found
        found += octet


def digits(stream):
    found = b""
    while True:
        octet = stream.read(1)
        if not octet.isdigit():
            return found
        found += octet


def read_exactly(stream, length):
    octets = stream.read(length)
    if len(octets) != length:
        raise OSError("ended within a message")
    return octets


def split_counted(body):
    messages = []
    while body:
        length, _, rest = body.partition(b" ")
        messages.append(rest[: int(length)])
        body = rest[int(length) :]
    return messages


def text_of(message):
    """What stands behind the structured data."""
    return message.partition(b"] ")[2].decode()
