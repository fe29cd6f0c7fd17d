"""What waits for a server, what does not, and what is lost of that."""

import re
import signal
import socket
import threading
import time

from cases import one
from losses import loss, only
from place import check, wait_until


@loss("http-waits")
def http_waits(place):
    """A server that takes half a second to answer; whoever logs waits for it, but not through a queue."""
    server = SlowServer(place)
    logging_time = """
import time
begin = time.monotonic()
logging.info("one")
print(time.monotonic() - begin, file=sys.stderr)
"""
    for snippet, waits in (("http", True), ("queue", False)):
        code, said = place.run("main.py", "import sys\n" + place.snippet(snippet) + logging_time)
        check(code == 0 and (float(said) > 0.4) == waits, f"{snippet}: {said}")
    server.close()


class SlowServer:
    """Answers each request after half a second."""

    def __init__(self, place):
        self.listener = socket.create_server(("127.0.0.1", place.port("9080")))
        self.taken = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                self.taken += 1
                time.sleep(0.5)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def close(self):
        self.listener.close()


BURST = "\nfor n in range(500): logging.info('number %d.', n)\n"


@loss("queue-killed")
def queue_killed(place):
    server = SlowServer(place)
    code = BURST + "import os, signal, time\ntime.sleep(1)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    check(place.run("main.py", place.snippet("queue") + code) == (-signal.SIGKILL, ""), "silently")
    server.close()
    check(0 < server.taken < 10, f"a few were sent, the others are lost: {server.taken}")


@loss("queue-fork", ["http-input"])
def queue_fork(place):
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
if os.fork() == 0:
    logging.info("of the child")
    sys.exit()
os.wait()
logging.info("of the parent")
"""
    check(place.run("main.py", place.snippet("queue") + code) == (0, ""), "silently")
    place.wait_for("of the parent")
    only(place, "of the parent")


@loss("queue-not-stopped", ["http-input"])
def queue_not_stopped(place):
    code = place.snippet("queue").replace("atexit.register(listener.stop)\n", "") + BURST
    check(place.run("main.py", code) == (0, ""), "silently")
    check(len(place.records()) < 500, "not all arrive")
    check(place.run("main.py", place.snippet("queue") + BURST.replace("number", "whole")) == (0, ""), "it fails")
    wait_until("all arrive", lambda: sum("whole" in text for text in place.texts()) == 500)


@loss("queue-full")
def queue_full(place):
    code = place.snippet("queue").replace("10_000", "1").split("listener.start()")[0]
    code, said = place.run("main.py", code + "\nlogging.info('one')\nlogging.info('two')\n")
    check(code == 0 and said.count("queue.Full") == 1, said)


@loss("own-server-away", needs=["penstock"])
def own_server_away(place):
    place.configure("own-input")
    check(place.run("main.py", place.snippet("own") + "\nlogging.warning('while it was away')\n")[0] == 0, "it fails")
    place.start()
    check(place.run("main.py", place.snippet("own") + "\nlogging.warning('when it was back')\n") == (0, ""), "it fails")
    for text in ("while it was away", "when it was back"):
        place.wait_for(text)
        one(place, text, "warning", "shop")
    place.stop()
    without = re.sub(r", spool=\"[^\"]*\"", "", place.snippet("own"))
    begin = time.monotonic()
    code, said = place.run("main.py", without + "\nlogging.warning('lost')\n")
    check(code == 0 and "1 messages could not be delivered" in said and time.monotonic() - begin < 15, f"{code} {said}")
