"""One measurement: starts a server, sends a load, waits until the server has nothing more to do, and counts.

A server's processor time is read from its process clock, which counts nanoseconds; how it divides into user and system
comes from /proc, which counts in hundredths of a second.
"""
import contextlib, dataclasses, json, os, re, resource, shutil, signal, socket, subprocess, tempfile, time

from . import servers
from .servers import PENSTOCK, TOOL

TICKS = os.sysconf("SC_CLK_TCK")
# A server that has used less than BUSY seconds in each STEP for QUIET seconds has written what it had.
STEP, BUSY, QUIET = 0.01, 0.0002, 0.4
PATIENCE = 300
BURST = 2
SLOWEST, FASTEST, BISECTIONS = 25_000, 800_000, 3
PROBE = 4
TRACED = 20_000
# So many files of a measurement stay until the end.
MANY = 10_000


class Failed(Exception):
    """The measurement says nothing; why."""


class Process:
    """A server of one measurement."""

    def __init__(self, command, environment, log):
        self.log = log
        with open(log, "w") as out:
            self.popen = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.pid = self.popen.pid

    def cpu(self):
        self.check()
        return time.clock_gettime((~self.pid << 3) | 2)

    def parts(self):
        """User and system."""
        with open(f"/proc/{self.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) / TICKS, int(fields[12]) / TICKS

    def peak(self):
        """The most memory it has had, in MiB."""
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmHWM"))

    def check(self):
        if self.popen.poll() is not None:
            with open(self.log, errors="replace") as file:
                raise Failed(f"it ended: {file.read()[-600:].strip()}")

    def complaint(self):
        """rsyslog goes on with a configuration that it understands in part, and says so."""
        with open(self.log, errors="replace") as file:
            return next((line.strip() for line in file if "error" in line.lower()), None)

    def quiet(self, least=0.0):
        """Waits until it does nothing; when it did the last."""
        last, moment, end = self.cpu(), time.monotonic(), time.monotonic() + PATIENCE
        while time.monotonic() - moment < max(QUIET, least):
            time.sleep(STEP)
            now = self.cpu()
            if now - last > BUSY:
                moment = time.monotonic()
            last = now
            if moment > end:
                raise Failed(f"it was still busy after {PATIENCE} s")
        return moment

    def stop(self):
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(60)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.popen.wait()


class Sink:
    """A relay's far end."""

    def __init__(self, work, port, count, certificates):
        files = ["--certificate", f"{certificates}/server.pem", "--key", f"{certificates}/server.key"]
        command = [TOOL, "sink", f"127.0.0.1:{port}", "--count", str(count), *(files if work.transport == "tls" else [])]
        self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def counts(self):
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()
        counts = json.loads(self.popen.stdout.readline())
        del counts["files"]
        return counts

    def stop(self):
        self.popen.kill()
        self.popen.wait()


class Session:
    """What all measurements of one run have in common: a folder with certificates and loads."""

    def __init__(self):
        raise_file_limit()
        self.folder = tempfile.mkdtemp(prefix="penstock-compare-")
        self.certificates = os.path.join(self.folder, "certificates")
        for words in (["ca"], ["server", "127.0.0.1", "localhost"]):
            subprocess.run([PENSTOCK, "cert", *words, "--out", self.certificates], check=True, stdout=subprocess.DEVNULL)

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, work, count):
        """Two files: what goes before the measurement, and the rest."""
        parts = [("warm", 0, work.warm_up), ("load", work.warm_up, count - work.warm_up)]
        for name, first, part in parts:
            subprocess.run([TOOL, "load", os.path.join(self.folder, name), "--first", str(first), "--count", str(part),
                            "--format", work.form, "--size", str(work.size), "--hosts", str(work.hosts),
                            "--programs", str(work.programs)], check=True)
        return [os.path.join(self.folder, name) for name, _, _ in parts]


def raise_file_limit(wanted=150_000):
    """For idle connections and many files; the servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    """Free for both protocols."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", 0))
        datagrams.bind(("127.0.0.1", stream.getsockname()[1]))
        return stream.getsockname()[1]


@contextlib.contextmanager
def running(session, name, work, count):
    """A server that listens and has finished its start, its place, and the sink where it is a relay."""
    folder = tempfile.mkdtemp(prefix="server-", dir=session.folder)
    sink = process = None
    try:
        place = servers.Place(folder, free_port(), free_port(), session.certificates)
        if work.to == "relay":
            sink = Sink(work, place.upstream, count, session.certificates)
            wait_for(lambda: is_bound(place.upstream), sink.popen)
        command = servers.SERVERS[name](work, place)
        process = Process(command, servers.environment(name), os.path.join(folder, "log"))
        wait_for(lambda: is_bound(place.port) if work.transport != "unix" else os.path.exists(place.socket), process.popen)
        process.quiet()
        yield process, place, sink
    finally:
        for each in (process, sink):
            if each:
                each.stop()
        # ext4 passes over inodes that were freed in the last minute one by one: who made many files next would pay for it.
        if work.hosts * work.programs < MANY:
            shutil.rmtree(folder, ignore_errors=True)


def wait_for(condition, popen, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if popen.poll() is not None or time.monotonic() > end:
            return
        time.sleep(0.01)


def is_bound(port):
    """Asked of the kernel: a connection on trial would be one that the server sees."""
    for table, listens in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        with open(f"/proc/net/{table}") as file:
            next(file)
            for _, local, _, state, *_ in map(str.split, file):
                if state == listens and local.endswith(f":{port:04X}"):
                    return True
    return False


def send_command(work, place, load):
    if work.transport == "udp":
        return [TOOL, "datagrams", f"127.0.0.1:{place.port}", load, "--rate", str(work.rate), "--sockets", str(work.connections)]
    to = f"unix://{place.socket}" if work.transport == "unix" else f"{work.transport}://127.0.0.1:{place.port}"
    command = [PENSTOCK, "send", "--to", to, "--format", "raw", "--connections", str(work.connections)]
    if work.transport != "unix":
        command += ["--framing", work.framing]
    if work.rate:
        command += ["--rate", str(work.rate)]
    return command + (["--ca", f"{place.certificates}/ca.pem"] if work.transport == "tls" else [])


def send(work, place, load, *more):
    """Processor seconds that sending took."""
    with open(load) as messages, open(os.path.join(place.folder, "sent"), "w+") as said:
        sender = subprocess.Popen([*send_command(work, place, load), *more], stdin=messages, stdout=said, stderr=said)
        try:
            _, status, usage = os.wait4(sender.pid, 0)
        except BaseException:
            sender.kill()
            raise
        sender.returncode = os.waitstatus_to_exitcode(status)
        if sender.returncode:
            said.seek(0)
            raise Failed(f"sending failed: {said.read().strip()}")
    return usage.ru_utime + usage.ru_stime


def check(folder, count):
    return json.loads(subprocess.run([TOOL, "check", folder, str(count)], check=True, stdout=subprocess.PIPE).stdout)


@contextlib.contextmanager
def idle_connections(work, place, process):
    """They are held by this process, which has nothing else to do."""
    with contextlib.ExitStack() as stack:
        for _ in range(work.idle):
            stack.enter_context(socket.create_connection(("127.0.0.1", place.port), timeout=30))
        if work.idle:
            process.quiet()
        yield


def load(session, name, work, files, count):
    """The ordinary measurement."""
    warm, messages = files
    with running(session, name, work, count) as (process, place, sink):
        with idle_connections(work, place, process):
            if work.warm_up:
                send(work, place, warm)
                process.quiet()
            before, parts, start = process.cpu(), process.parts(), time.monotonic()
            sender = send(work, place, messages)
            end = process.quiet()
            cpu, parts = process.cpu() - before, [now - then for now, then in zip(process.parts(), parts)]
            memory = process.peak()
            counts = sink.counts() if sink else {}
        process.stop()
        counts = counts or check(place.logs, count)
        arrived = max(counts["messages"] - counts["doubled"] - work.warm_up, 0)
        return {**counts, **costs(cpu, parts, arrived), "wall": end - start, "memory": memory, "line": a_line(place.logs),
                "complaint": process.complaint(),
                "sender": sender * 1e6 / (count - work.warm_up), "rate": arrived / max(end - start, 1e-9)}


def costs(cpu, parts, arrived):
    """µs for each message that has arrived, once."""
    micros = cpu * 1e6 / arrived if arrived else float("nan")
    user = parts[0] / sum(parts) if sum(parts) else 0.5
    return {"cpu": micros, "user": micros * user, "system": micros * (1 - user)}


def a_line(folder):
    """The first line of one file, to be looked at."""
    for path, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(path, name)
            with open(path, errors="replace") as file:
                return os.path.relpath(path, folder) + ": " + re.sub("x{9,} ?$", "x…", file.readline().strip())
    return None


def lossless(session, name, work, _load, _count):
    """Doubles the rate until something is lost, then halves the distance a few times."""
    def loses(rate):
        count = rate * BURST
        result = load(session, name, dataclasses.replace(work, rate=rate), session.load(work, count), count)
        return result["missing"] > 0
    good, bad = 0, None
    rate = SLOWEST
    while bad is None and rate <= FASTEST:
        good, bad = (good, rate) if loses(rate) else (rate, None)
        rate *= 2
    for _ in range(BISECTIONS if bad and good else 0):
        middle = (good + bad) // 2
        good, bad = (good, middle) if loses(middle) else (middle, bad)
    return {"rate": good}


def latency(session, name, work, _load, _count):
    count = work.rate * PROBE
    with running(session, name, work, count) as (process, place, _):
        before = process.cpu()
        command = [TOOL, "latency", f"127.0.0.1:{place.port}", os.path.join(place.logs, "all.log"), "--rate", str(work.rate),
                   "--count", str(count)]
        result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout)
        return {**result, "missing": result["sent"] - result["received"], "cpu": (process.cpu() - before) * 1e6 / count}


def can_trace():
    return shutil.which("strace") is not None


def system_calls(session, name, work):
    """A thousand messages; strace slows a server down so much that this is a measurement of its own."""
    warm, messages = session.load(work, TRACED + work.warm_up)
    with running(session, name, work, TRACED) as (process, place, sink):
        if work.warm_up:
            send(work, place, warm)
            process.quiet()
        table = os.path.join(place.folder, "strace")
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", table, "-p", str(process.pid)], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        try:
            send(work, place, messages)
            process.quiet(least=1)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)
        with open(table) as file:
            total = next((line.split() for line in file if line.rstrip().endswith(" total")), None)
        if not total:
            raise Failed("strace said nothing")
        return int(total[3]) * 1000 / TRACED


KINDS = {"load": load, "lossless": lossless, "latency": latency}
