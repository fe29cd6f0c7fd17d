"""The rows: each is one kind of work that every server does with the same messages."""
import dataclasses, fnmatch

BASE = 200_000


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    says: str
    kind: str = "load"          # or "lossless", "latency"
    transport: str = "tcp"      # or "udp", "unix", "tls"
    framing: str = "newline"    # or "octet-counted"
    form: str = "rfc5424"       # or "rfc3164", "python"
    size: int = 256
    hosts: int = 50
    programs: int = 8
    connections: int = 8
    share: float = 1            # of the messages of a plain row
    at_least: int = 0
    rate: int = 0               # messages a second; 0: as fast as the server takes them
    to: str = "files"           # or "file", "relay"
    idle: int = 0               # connections beside those that send
    routes: int = 1
    condition: str = ""         # "select", "contains", "regex"

    def messages(self, base):
        return max(int(base * self.share), self.at_least, 1000)

    @property
    def warm_up(self):
        """So many go before what is measured: the files are there then, as they are on a server that has run for a while."""
        many = self.hosts * self.programs > 1000
        return 0 if many or self.kind != "load" else 2 * self.hosts * self.programs

    @property
    def files(self):
        """How many there must be; None where the output is no file. Python's form names no host."""
        return {"files": self.programs * (1 if self.form == "python" else self.hosts), "file": 1, "relay": None}[self.to]


def udp(name, rate, says=""):
    return Work(name, f"UDP at {rate // 1000} 000 messages/s → 400 files{says}", transport="udp", rate=rate)


def routes(count, condition, share):
    says = f"TCP, {count} route{'s' if count > 1 else ''} with {condition}, the last matches → 400 files"
    return Work(f"routes-{count}-{condition}", says, routes=count, condition=condition, share=share)


ROWS = [
    udp("udp-400", 50_000),
    Work("tcp-400", "TCP by line → 400 files"),
    Work("tcp-counted-400", "TCP octet-counted → 400 files", framing="octet-counted"),
    Work("tls-400", "TLS by line → 400 files", transport="tls"),
    Work("unix-400", "unix datagrams → 400 files", transport="unix", connections=1),
    Work("tcp-3164", "TCP by line, RFC 3164 → 400 files", form="rfc3164"),
    Work("tcp-python", "TCP by line, as Python's SysLogHandler → 8 files", form="python"),
    Work("tcp-64", "TCP by line, messages of 64 bytes → 400 files", size=64),
    Work("tcp-1024", "TCP by line, messages of 1024 bytes → 400 files", size=1024),
    Work("tcp-one", "TCP by line → one file", to="file"),
    Work("relay-tcp", "relay TCP → TCP, by line", to="relay"),
    Work("relay-tls", "relay TLS → TLS, by line", transport="tls", to="relay"),
    Work("connections-1", "TCP, 1 connection → 400 files", connections=1),
    Work("connections-500", "TCP, 500 connections, 50 000 messages/s together → 400 files", connections=500, rate=50_000),
    Work("connections-idle", "TCP, 1 busy and 10 000 idle connections → 400 files", connections=1, idle=10_000),
    routes(1, "select", 1), routes(20, "select", 1), routes(200, "select", 0.5),
    routes(1, "contains", 1), routes(20, "contains", 0.5), routes(200, "contains", 0.2),
    routes(1, "regex", 0.5), routes(20, "regex", 0.2), routes(200, "regex", 0.05),
    udp("udp-100k", 100_000), udp("udp-300k", 300_000),
    Work("udp-lossless", "UDP → 400 files: the highest rate of which nothing is lost in 2 s", kind="lossless", transport="udp"),
    Work("latency-1k", "TCP → one file at 1000 messages/s: from send to file", kind="latency", rate=1000, to="file"),
    Work("latency-50k", "TCP → one file at 50 000 messages/s: from send to file", kind="latency", rate=50_000, to="file"),
    Work("tcp-100k", "TCP by line → 100 000 files", hosts=5000, programs=20, at_least=300_000),
]


def chosen(patterns):
    if not patterns:
        return ROWS
    return [row for row in ROWS if any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns.split(","))]


def unmatched(count):
    """Conditions of which no message of a load meets one: its messages are local4.notice, those of Python user.info."""
    facilities = ["kern", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
                  "local0", "local1", "local2", "local3", "local5", "local6", "local7"]
    severities = ["debug", "info", "notice", "warning", "err", "crit"]
    pairs = [(facility, severity, exact) for exact in (False, True) for facility in facilities for severity in severities]
    return pairs[:count]
