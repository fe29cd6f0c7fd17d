"""send.py FILE SERVER: sends what the file says to the server of this pid, and returns when it has taken everything.

A line is `WHERE TEXT`: WHERE is udp:PORT, tcp:PORT, tls:PORT, relp:PORT or log (/dev/log), TEXT has the escapes of C. `Nov 21`
becomes the day of today.
"""
import datetime
import fcntl
import os
import re
import socket
import ssl
import struct
import sys
import termios
import time

PATIENCE = 30
ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "\\": b"\\", "a": b"\a", "0": b"\0", '"': b'"'}
server = int(sys.argv[2])


def until(what, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"send.py: {what} did not happen")
        if not os.path.exists(f"/proc/{server}/fd"):
            sys.exit("send.py: the server has ended")
        time.sleep(0.005)


def octets(text):
    day = datetime.date.today().strftime("%b %e")
    text = text.replace("Nov 21", day)
    out, at = b"", 0
    for found in re.finditer(r"\\(x[0-9a-fA-F]{2}|.)", text):
        escape = found.group(1)
        out += text[at : found.start()].encode()
        out += bytes([int(escape[1:], 16)]) if len(escape) == 3 else ESCAPES[escape]
        at = found.end()
    return out + text[at:].encode()


def sockets(kind):
    """(local port, octets that wait) of the sockets here."""
    for family in ("", "6"):
        try:
            lines = open(f"/proc/net/{kind}{family}").read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            yield int(words[1].rsplit(":", 1)[1], 16), int(words[4].split(":")[1], 16), words[3]


class Datagrams:
    def __init__(self, where):
        self.port = None if where == "log" else int(where[4:])
        if self.port:
            until(f"listening on {where}", lambda: any(port == self.port for port, *_ in sockets("udp")))
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.connect(("127.0.0.1", self.port))
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            until("listening on /dev/log", self.connected)

    def connected(self):
        try:
            self.socket.connect("/dev/log")
            return True
        except OSError:
            return False

    def send(self, message):
        self.socket.send(message)

    def taken(self):
        if self.port:
            return not any(waits for port, waits, _ in sockets("udp") if port == self.port)
        waits = struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0]
        return waits == 0

    def close(self):
        until("reading what was sent", self.taken)


class Stream:
    def __init__(self, where):
        kind, port = where.split(":")
        self.port = int(port)
        until(f"listening on {where}", self.connected)
        if kind == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain("/etc/pki/rsyslog/server-cert.pem", "/etc/pki/rsyslog/server-key.pem")
            self.socket = context.wrap_socket(self.socket)

    def connected(self):
        try:
            self.socket = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            return True
        except OSError:
            return False

    def send(self, message):
        self.socket.sendall(message + b"\n")

    def taken(self):
        return not any(waits for port, waits, state in sockets("tcp") if port == self.port and state != "0A")

    def close(self):
        until("reading what was sent", self.taken)
        if isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket = self.socket.unwrap()
            except OSError:
                return
        self.socket.shutdown(socket.SHUT_WR)
        self.socket.settimeout(PATIENCE)
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass


class Relp(Stream):
    number = 0

    def __init__(self, where):
        super().__init__(where)
        self.ask(b"open", b"relp_version=0\nrelp_software=send.py\ncommands=syslog")

    def ask(self, command, data=b""):
        self.number += 1
        self.socket.sendall(b"%d %s %d" % (self.number, command, len(data)) + (b" " + data if data else b"") + b"\n")
        answer = b""
        while not re.search(rb"(^|\n)%d rsp \d+" % self.number, answer):
            got = self.socket.recv(65536)
            if not got:
                break
            answer += got

    def send(self, message):
        self.ask(b"syslog", message)

    def close(self):
        self.ask(b"close")
        self.socket.close()


channels, last = {}, None
for line in open(sys.argv[1], encoding="utf-8", newline="\n"):
    line = line.rstrip("\n")
    if not line or line.startswith("#"):
        continue
    where, _, text = line.partition(" ")
    if last not in (None, where):
        until("reading what was sent", channels[last].taken)
        # From the socket to the rules.
        time.sleep(0.05)
    if where not in channels:
        kind = where.split(":")[0]
        channels[where] = {"tcp": Stream, "tls": Stream, "relp": Relp}.get(kind, Datagrams)(where)
    channels[where].send(octets(text))
    last = where
if last:
    until("reading what was sent", channels[last].taken)
for channel in channels.values():
    channel.close()
time.sleep(0.2)
