"""What the page says of losses, as far as it is no matter of chance."""

import socket
import subprocess
import time

from cases import Case, one
from place import check, wait_until

CASES = []


def loss(name, inputs=(), needs=(), since=(3, 8)):
    """A case whose server runs, with these inputs."""

    def note(show):
        def run(place):
            if inputs:
                place.configure(*inputs)
                place.start()
            show(place)

        CASES.append(Case(name, run, needs, since, ()))
        return show

    return note


def arrives(place, talker, text):
    talker.log(text)
    place.wait_for(text)


def only(place, *texts):
    """These have arrived, each once, and nothing else; what was lost before them would have come before them."""
    got = [record.text for record in place.records()]
    check(len(got) == len(texts) and all(any(text in own for own in got) for text in texts), f"{texts} are expected: {got}")


@loss("udp-too-long", ["udp-input"])
def udp_too_long(place):
    too_long(place, "udp")


@loss("datagram-too-long", ["datagram-input"])
def datagram_too_long(place):
    too_long(place, "datagram")


def too_long(place, snippet):
    talker = place.talk(place.snippet(snippet))
    talker.log("x" * 66_000)
    check("Message too long" in talker.said(), f"stderr says {talker.said()}")
    arrives(place, talker, "the next")
    only(place, "the next")


@loss("udp-server-away", ["udp-input"])
def udp_server_away(place):
    talker = place.talk(place.snippet("udp"))
    arrives(place, talker, "before")
    place.stop()
    talker.log("meanwhile")
    talker.log("meanwhile")
    place.start()
    arrives(place, talker, "after")
    only(place, "before", "after")
    check(talker.said() == "", f"stderr says {talker.said()}")


@loss("tcp-without-server")
def tcp_without_server(place):
    code, said = place.run("main.py", place.snippet("tcp"))
    check(code == 1 and "ConnectionRefusedError" in said, said)


@loss("tcp-never-again", ["tcp-input"])
def tcp_never_again(place):
    talker = place.talk(place.snippet("tcp"))
    arrives(place, talker, "before")
    place.stop()
    place.start()
    talker.log("first")
    check(talker.said() == "", f"the first is lost silently: {talker.said()}")
    for text in ("second", "third"):
        talker.log(text)
    check(talker.said().count("BrokenPipeError: ") == 2, talker.said())
    other = place.talk(place.snippet("tcp"))
    arrives(place, other, "from another")
    only(place, "before", "from another")


@loss("tcp-cut", ["tcp-input"])
def tcp_cut(place):
    talker = place.talk(place.snippet("tcp"))
    talker.log("x" * 70_000)
    arrives(place, talker, "the next")
    first, _ = place.records()
    check(first.line.get("truncated") and len(first.text) <= 65_536, f"it is cut and marked: {len(first.text)}")


@loss("takeover", ["tcp-input", "unix-input", "socket-input"])
def takeover(place):
    talkers = {name: place.talk(place.snippet(name)) for name in ("tcp", "unix", "socket")}
    for round_ in ("before", "after", "again"):
        for name, talker in talkers.items():
            arrives(place, talker, f"{name} {round_}")
        place.take_over()
    check(len(place.records()) == 9, f"{place.texts()}")
    check(not any(talker.said() for talker in talkers.values()), "nothing is said")


@loss("unix-server-away")
def unix_server_away(place):
    place.configure("unix-input")
    talker = place.talk(place.snippet("unix"))
    talker.log("before")
    check("Error" in talker.said(), "an error on stderr")
    place.start()
    arrives(place, talker, "first")
    place.stop()
    talker.log("meanwhile")
    check(talker.said().count("Logging error") == 2, talker.said())
    place.start()
    arrives(place, talker, "second")
    only(place, "first", "second")


@loss("unix-waits")
def unix_waits(place):
    """Whoever logs waits for a server that does not read, and loses nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(place.folder / "run" / "log"))
        code = place.snippet("unix") + "\nfor n in range(3000): logging.info('n%d', n)"
        process = place.spawn([place.python_path, "-c", code])
        got = 0
        while got < 3000:
            server.settimeout(20)
            check(f"n{got}\0".encode() in server.recv(1000), f"number {got} is the next")
            got += 1
            if got == 1:
                check(process.poll() is None, "it waits")
    check(process.wait(20) == 0, "it ends")


@loss("custom-level", ["udp-input"])
def custom_level(place):
    code = place.snippet("udp") + "\nlogging.addLevelName(45, 'URGENT')\nlogging.log(45, 'a level of its own')\n"
    check(place.run("main.py", code) == (0, ""), "it fails")
    place.wait_for("a level of its own")
    one(place, "a level of its own", "warning", "shop")


@loss("tls-breaks", ["tls-input"], since=(3, 11))
def tls_breaks(place):
    talker = place.talk(place.snippet("tls"))
    arrives(place, talker, "before")
    place.stop()
    place.start()
    talker.log("first")
    check(talker.said() == "", f"the first is lost silently: {talker.said()}")
    talker.log("second")
    check(talker.said().count("Logging error") == 1, talker.said())
    arrives(place, talker, "third")
    only(place, "before", "third")


@loss("tls-not-believed", ["tls-input"], since=(3, 11))
def tls_not_believed(place):
    other = place.folder / "other"
    command = [place.penstock, "cert", "ca", "--out", other]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    code, said = place.run("main.py", place.snippet("tls").replace(str(place.folder / "tls"), str(other)))
    check(code == 1 and "CERTIFICATE_VERIFY_FAILED" in said, said)
    place.stop()
    code, said = place.run("main.py", place.snippet("tls"))
    check(code == 1 and "ConnectionRefusedError" in said, said)


@loss("socket-breaks", ["socket-input"])
def socket_breaks(place):
    talker = place.talk(place.snippet("socket"))
    arrives(place, talker, "before")
    place.stop()
    for text in ("first", "second", "third"):
        talker.log(text)
    check(talker.value("handler.sock") is None and talker.value("handler.retryPeriod") == 1.0, "it waits for a second")
    place.start()
    sent = []

    def is_back():
        sent.append(f"number {len(sent)}.")
        talker.log(sent[-1])
        return talker.value("handler.sock is not None")

    wait_until("it connects again", is_back)
    place.wait_for(sent[-1])
    only(place, "before", sent[-1])
    check(len(sent) > 1 and talker.said() == "", f"all of it silently: {talker.said()}")


@loss("socket-back-off")
def socket_back_off(place):
    talker = place.talk(place.snippet("socket"))
    periods = []
    for _ in range(7):
        talker.log("text")
        periods.append(talker.value("handler.retryPeriod"))
        talker.value("handler.__dict__.update(retryTime=0)")
    check(periods == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0], f"{periods}")
    check(talker.said() == "", "silently")


@loss("socket-not-picklable", ["socket-input"])
def socket_not_picklable(place):
    lost = "\nimport threading\nlogging.info('lost', extra={'lock': threading.Lock()})\nlogging.info('the next')\n"
    code, said = place.run("main.py", place.snippet("socket") + lost)
    check(code == 0 and "pickle" in said, said)
    place.wait_for("the next")
    only(place, "the next")


@loss("socket-tls-not-believed", ["socket-tls-input"])
def socket_tls_not_believed(place):
    code = place.snippet("socket-tls").replace('cafile="', 'cafile="" and "') + "\nlogging.info('lost')\n"
    check(place.run("main.py", code) == (0, ""), "silently")
    check(place.run("main.py", place.snippet("socket-tls") + "\nlogging.info('believed')\n") == (0, ""), "it fails")
    place.wait_for("believed")
    only(place, "believed")
    check("127.0.0.1 was refused" in (place.folder / "penstock.err").read_text(), "the server's log tells")


@loss("socket-stalled")
def socket_stalled(place):
    with socket.create_server(("127.0.0.1", place.port("9020"))):
        talker = place.talk(place.snippet("socket"))
        begin = time.monotonic()
        talker.log(30_000_000 * "x")
        check(0.9 < time.monotonic() - begin < 10, "it waits for a second")
        check(talker.value("handler.sock") is None and talker.said() == "", "it gives up silently")


@loss("socket-cut", ["socket-input"])
def socket_cut(place):
    code = place.snippet("socket") + """
import socket
record = logging.makeLogRecord({"name": "shop", "msg": "half of it", "levelno": 30, "rest": 5000 * "x"})
with socket.create_connection(handler.address) as connection:
    connection.sendall(handler.makePickle(record)[:-3000])
"""
    check(place.run("main.py", code) == (0, ""), "it fails")
    place.wait_for("half of it")
    check(one(place, "half of it", "warning", "shop").line.get("truncated") is True, "it is marked")


@loss("unix-too-long", ["unix-input"])
def unix_too_long(place):
    talker = place.talk(place.snippet("unix"))
    talker.log("cut " + 100_000 * "x")
    place.wait_for("cut x")
    check(place.records()[0].line.get("truncated") is True and talker.said() == "", "it is cut and marked")
    with open("/proc/sys/net/core/wmem_default") as most:
        talker.log(int(most.read()) * "x")
    check("Message too long" in talker.said(), talker.said())


@loss("http-traceback", ["http-input"])
def http_traceback(place):
    plain = place.snippet("http").replace("WholeHTTPHandler(\"", "logging.handlers.HTTPHandler(\"")
    code = plain + "\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')\n"
    check(place.run("main.py", code) == (0, ""), "it fails")
    place.wait_for("failed")
    (record,) = place.records()
    check("ZeroDivisionError" in record.text and "Traceback" not in record.text, f"the name and no traceback: {record}")


@loss("http-answer", ["https-input"])
def http_answer(place):
    wrong = {"password": ('"secret"', '"other"'), "path": ('"/logs"', '"/other"')}
    for what, change in wrong.items():
        code, said = place.run("main.py", place.snippet("https").replace(*change) + f"\nlogging.info('{what}')\n")
        check((code, said) == (0, ""), f"{what}: {said}")
    check(place.run("main.py", place.snippet("https") + "\nlogging.info('right')\n") == (0, ""), "it fails")
    place.wait_for("right")
    only(place, "right")


@loss("http-server-away", ["http-input"])
def http_server_away(place):
    talker = place.talk(place.snippet("http"))
    arrives(place, talker, "before")
    place.stop()
    talker.log("meanwhile")
    check("ConnectionRefusedError" in talker.said(), talker.said())
    place.start()
    arrives(place, talker, "after")
    only(place, "before", "after")


@loss("http-get-too-long", ["http-input"])
def http_get_too_long(place):
    get = place.talk(place.snippet("http").replace(', method="POST"', ""))
    get.log("lost " + 40_000 * "x")
    arrives(place, get, "the next")
    posting = place.talk(place.snippet("http"))
    posting.log("posted " + 40_000 * "x")
    place.wait_for("posted x")
    only(place, "the next", "posted")
