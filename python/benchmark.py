"""What a call of `logger.info` costs the thread that makes it, for handlers side by side.

    python benchmark.py [--rounds N] [--calls N]

The sinks are processes of their own. Each round measures every handler once, in turn, with a burst of calls; a pause
before each lets the threads behind the last one finish. The table shows medians of the rounds.
"""

import argparse
import logging
import logging.handlers
import multiprocessing
import os
import queue
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import penstock


def serve_udp(ready, _):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        ready.put(server.getsockname()[1])
        while True:
            server.recv(65536)


def serve_stream(ready, certificate, answer=None):
    """One connection after another; `answer` makes what is said from what was read."""
    server = socket.create_server(("127.0.0.1", 0))
    ready.put(server.getsockname()[1])
    while True:
        connection = server.accept()[0]
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*certificate)
                connection = context.wrap_socket(connection, server_side=True)
            talk(connection, answer() if answer else None)


def talk(connection, answers):
    while True:
        octets = connection.recv(1 << 16)
        if not octets:
            return
        if answers is not None:
            connection.sendall(answers(octets))


def relp_answers():
    state = {"buffer": b""}

    def answers(octets):
        buffer, found = state["buffer"] + octets, []
        while True:
            head = buffer.split(b" ", 3)
            if len(head) < 4 or len(head[3]) <= int(head[2]):
                state["buffer"] = buffer
                return b"".join(found)
            found.append(b"%b rsp 6 200 OK\n" % head[0])
            buffer = head[3][int(head[2]) + 1 :]

    return answers


def http_answers():
    state = {"buffer": b""}

    def answers(octets):
        state["buffer"] += octets
        head, end, body = state["buffer"].partition(b"\r\n\r\n")
        if not end:
            return b""
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return b""
        state["buffer"] = b""
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    return answers


def start(context, target, *arguments):
    ready = context.Queue()
    context.Process(target=target, args=(ready, *arguments), daemon=True).start()
    return ready.get(timeout=10)


def make_certificate(folder):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    subprocess.run(command.split(), cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return [os.path.join(folder, name) for name in ("certificate.pem", "key.pem")]


def handlers(context, certificate):
    """Name and a function that makes a handler, with what else must be stopped."""
    udp = start(context, serve_udp, None)
    plain = start(context, serve_stream, None)
    tls = start(context, serve_stream, certificate)
    relp = start(context, serve_stream, None, relp_answers)
    https = start(context, serve_stream, certificate, http_answers)
    syslog = logging.handlers.SysLogHandler
    return {
        "NullHandler": logging.NullHandler,
        "SysLogHandler, UDP": lambda: syslog(("127.0.0.1", udp)),
        "SysLogHandler, TCP": lambda: syslog(("127.0.0.1", plain), socktype=socket.SOCK_STREAM),
        "QueueHandler before SysLogHandler, UDP": lambda: Queued(syslog(("127.0.0.1", udp))),
        "SocketHandler": lambda: logging.handlers.SocketHandler("127.0.0.1", plain),
        "penstock, tls": lambda: penstock.Handler(f"tls://localhost:{tls}", ca=certificate[0], queue_size=1 << 20),
        "penstock, relp": lambda: penstock.Handler(f"relp://localhost:{relp}", queue_size=1 << 20),
        "penstock, https": lambda: penstock.Handler(f"https://localhost:{https}", ca=certificate[0], queue_size=1 << 20),
    }


class Queued(logging.handlers.QueueHandler):
    def __init__(self, behind):
        super().__init__(queue.SimpleQueue())
        self.behind = logging.handlers.QueueListener(self.queue, behind)
        self.behind.start()

    def close(self):
        self.behind.stop()
        super().close()


def measure(make, calls, extra):
    handler = make()
    logger = logging.Logger("benchmark.module", logging.INFO)
    logger.addHandler(handler)
    logger.info("the first one connects")
    time.sleep(0.05)
    began, used = time.perf_counter(), time.thread_time()
    for n in range(calls):
        logger.info("user %s has logged in from %s, attempt %d", "somebody", "192.0.2.1", n, extra=extra)
    elapsed, used = time.perf_counter() - began, time.thread_time() - used
    handler.close()
    assert not getattr(handler, "dropped", None), handler.dropped
    return 1e6 * elapsed / calls, 1e6 * used / calls


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--extra", action="store_true", help="with two extras")
    options = parser.parse_args()
    extra = {"user_id": 4711, "request_id": "a1b2c3"} if options.extra else None
    with tempfile.TemporaryDirectory() as folder:
        kinds = handlers(multiprocessing.get_context("spawn"), make_certificate(folder))
        found = {name: [] for name in kinds}
        for _ in range(options.rounds):
            for name, make in kinds.items():
                found[name].append(measure(make, options.calls, extra))
    medians = {name: [statistics.median(column) for column in zip(*rounds)] for name, rounds in found.items()}
    base = medians["SysLogHandler, UDP"][0]
    print(f"Python {sys.version.split()[0]}, {options.rounds} rounds of {options.calls} calls, medians\n")
    print("| handler | µs a call | CPU of the thread, µs | to SysLogHandler, UDP |\n|---|---|---|---|")
    for name, (elapsed, used) in medians.items():
        print(f"| {name} | {elapsed:.1f} | {used:.1f} | {elapsed / base:.2f} |")


if __name__ == "__main__":
    main()
