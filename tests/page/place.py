"""One case's folder, ports, server and processes. Whatever the page says of places becomes a place of this case's own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

APPS = Path(__file__).resolve().parent / "apps"
DEADLINE = 20.0
PORTS = ("514", "2514", "6514", "9020", "9080")


class Failed(Exception):
    """What is not as the page says."""


def check(is_so, what):
    if not is_so:
        raise Failed(what)


def wait_until(what, is_so, deadline=DEADLINE):
    end = time.monotonic() + deadline
    while not is_so():
        if time.monotonic() > end:
            raise Failed(f"not within {deadline:.0f} s: {what() if callable(what) else what}")
        time.sleep(0.02)


def free_port():
    """One that is free for TCP and for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return tcp.getsockname()[1]


class Place:
    def __init__(self, page, penstock, python):
        self.page, self.penstock, self.python_path = page, penstock, python
        self.folder = Path(tempfile.mkdtemp(prefix="page-"))
        for name in ("run", "log", "state", "app", "shop"):
            (self.folder / name).mkdir()
        self.ports = {}
        self.processes = []
        self.server = None

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()
        shutil.rmtree(self.folder)

    def fill(self, text):
        """The page's text with this case's places."""
        for of_page, own in (
            ("/run/penstock/", "run"),
            ("/var/log/penstock/", "log"),
            ("/etc/ssl/log-ca.pem", "tls/ca.pem"),
            ("/etc/penstock/", ""),
            ("/var/lib/shop/", "shop"),
        ):
            text = text.replace(of_page, f"{self.folder / own}{'/' if of_page.endswith('/') else ''}")
        text = text.replace("log.example.com", "localhost")
        return re.sub(rf"(?<!\w)({'|'.join(PORTS)})(?!\w)", lambda port: str(self.port(port[1])), text)

    def port(self, of_page):
        if of_page not in self.ports:
            self.ports[of_page] = free_port()
        return self.ports[of_page]

    def snippet(self, name):
        return self.fill(self.page.snippet(name))

    # The server.

    def configure(self, *snippets):
        text = f'[server]\nstate-dir = "{self.folder}/state"\n' + "".join(map(self.snippet, ("base",) + snippets))
        (self.folder / "penstock.toml").write_text(text)
        (self.folder / "passwords").write_text("shop:secret\n")
        (self.folder / "tokens").write_text("4f9c2d7be1\n")
        if "/tls/" in text:
            self.make_certificates()

    def make_certificates(self):
        for arguments in (["ca"], ["server", "localhost"]):
            command = [self.penstock, "cert", *arguments, "--out", str(self.folder / "tls")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self, *arguments):
        """Starts the server, and waits for its word."""
        log = self.folder / "penstock.err"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as stderr:
            command = [self.penstock, "run", "--config", str(self.folder / "penstock.toml"), *arguments]
            server = self.spawn(command, stderr=stderr)

        def said():
            return log.read_bytes()[before:].decode()

        wait_until(lambda: f"the server is ready; it said: {said()}", lambda: "is ready" in said() or server.poll() is not None)
        check(server.poll() is None, f"the server ended: {said()}")
        self.server = server

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        check(self.server.wait(DEADLINE) == 0, "the server ended with an error")

    def take_over(self):
        """Another server in this one's place, with its connections."""
        old = self.server
        self.start("--takeover")
        old.wait(DEADLINE)

    def files(self):
        """Everything written, by its path below the folder of messages."""
        root = self.folder / "log"
        return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in root.rglob("*.json")}

    def records(self):
        texts = [text for path, text in sorted(self.files().items()) if not path.startswith("traces/")]
        lines = [line for text in texts for line in text.split("\n")[:-1]]
        return [Record(json.loads(line)) for line in lines]

    def texts(self):
        return [record.text for record in self.records()]

    def wait_for(self, text):
        """A record with this in it is written."""
        wait_until(lambda: f"`{text}` arrives; there is {self.texts()}", lambda: any(text in own for own in self.texts()))

    # Applications.

    def environment(self):
        return dict(os.environ, PYTHONPATH=str(self.folder / "app"), PYTHONIOENCODING="utf-8", PYTHONUNBUFFERED="1")

    def spawn(self, command, **options):
        process = subprocess.Popen(list(map(str, command)), cwd=self.folder / "app", env=self.environment(), **options)
        self.processes.append(process)
        return process

    def write(self, name, text):
        (self.folder / "app" / name).write_text(text, encoding="utf-8")

    def app(self, name, snippet=""):
        """A small application, with the page's text where it says so."""
        text = (APPS / name).read_text(encoding="utf-8")
        self.write(name, text.replace("# SNIPPET\n", snippet))

    def run(self, name, code):
        """Runs a program to its end; its exit code, and what it said on stderr."""
        self.write(name, code)
        process = self.spawn([self.python_path, name], stderr=subprocess.PIPE)
        with process.stderr:
            said = process.communicate(timeout=60)[1].decode()
        return process.returncode, said

    def talk(self, code):
        return Talker(self, code)

    def serve(self, command):
        """Starts an application that serves HTTP at the port that `{port}` becomes; its log is app.err."""
        port = free_port()
        with (self.folder / "app.err").open("wb") as stderr:
            process = self.spawn([str(word).format(port=port) for word in command], stdout=stderr, stderr=stderr)
        return Served(self, process, f"http://127.0.0.1:{port}")

    def said(self):
        return (self.folder / "app.err").read_text(encoding="utf-8")


class Served:
    def __init__(self, place, process, url):
        self.place, self.process, self.url = place, process, url

    def get(self, path):
        """The status of the answer, as soon as there is one."""
        answers = []

        def is_answered():
            check(self.process.poll() is None, f"the application ended: {self.place.said()}")
            try:
                with urllib.request.urlopen(self.url + path, timeout=DEADLINE) as answer:
                    answers.append(answer.status)
            except urllib.error.HTTPError as error:
                answers.append(error.code)
                error.close()
            except OSError:
                return False
            return True

        wait_until(lambda: f"an answer; the application said {self.place.said()}", is_answered)
        return answers[0]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)


class Talker:
    """An application that logs what it is told, one text after the other."""

    LOOP = """
import json as _json, sys as _sys
for _line in _sys.stdin:
    _kind, _text = _json.loads(_line)
    if _kind == "log":
        logging.getLogger("shop.orders").warning(_text)
    print(_json.dumps(None if _kind == "log" else eval(_text)), flush=True)
"""

    def __init__(self, place, code):
        place.write("talker.py", code + self.LOOP)
        self.errors = place.folder / "talker.err"
        with self.errors.open("wb") as stderr:
            pipe = subprocess.PIPE
            command = [place.python_path, "talker.py"]
            self.process = place.spawn(command, stdin=pipe, stdout=pipe, stderr=stderr, encoding="utf-8")

    def log(self, text):
        return self._ask("log", text)

    def value(self, expression):
        return self._ask("value", expression)

    def said(self):
        return self.errors.read_text(encoding="utf-8")

    def _ask(self, kind, text):
        self.process.stdin.write(json.dumps([kind, text]) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        check(answer, f"the application ended: {self.said()}")
        return json.loads(answer)


class Record:
    """A line of the format `json`."""

    def __init__(self, line):
        self.line = line
        self.json = line.get("json", {})
        self.app, self.severity = line.get("app_name"), line["severity"]
        message = line.get("message")
        self.text = message if message is not None else self._text_of_object()

    def _text_of_object(self):
        parts = [self.json.get(key) for key in ("message", "event", "exc_info", "exception")]
        return "\n".join(part for part in parts if part)

    def age(self):
        time = self.line.get("timestamp", self.line["received"])
        return abs((datetime.now(timezone.utc) - datetime.fromisoformat(time)).total_seconds())

    def __repr__(self):
        return json.dumps(self.line, ensure_ascii=False)
