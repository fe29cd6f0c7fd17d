"""A configuration for each server that does one row's work: the same line in the same files, or the same relay.

Each function writes its files below `place.folder` and returns the command that runs the server in the foreground.
"""
import glob, os

from .work import unmatched

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PENSTOCK = os.path.join(TOP, "target", "release", "penstock")
TOOL = os.path.join(TOP, "target", "release", "examples", "compare-tool")
SYSLOG_NG = os.path.join(TOP, "target", "peers", "syslog-ng")
RECEIVE_BUFFER = 16 << 20
MANY = 20_000


class Place:
    """Where a server of one measurement lives."""

    def __init__(self, folder, port, upstream, certificates):
        self.folder, self.port, self.upstream, self.certificates = folder, port, upstream, certificates
        self.logs = os.path.join(folder, "logs")
        self.socket = os.path.join(folder, "socket")
        os.mkdir(self.logs)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path


def penstock(work, place):
    return [PENSTOCK, "run", "--config", place.write("penstock.toml", penstock_input(work, place) + penstock_output(work, place)
                                                     + penstock_routes(work))]


def penstock_input(work, place):
    if work.transport == "unix":
        return f'[[input.unix]]\nkind = "datagram"\nlisten = "{place.socket}"\n'
    text = f'[[input.{work.transport}]]\nlisten = "127.0.0.1:{place.port}"\n'
    if work.transport != "udp":
        text += f"max-connections = {MANY}\n"
    if work.transport == "tls":
        text += f'certificate = "{place.certificates}/server.pem"\nkey = "{place.certificates}/server.key"\n'
    return text


def penstock_output(work, place):
    if work.to == "relay":
        scheme = "tls" if work.transport == "tls" else "tcp"
        ca = f'ca = "{place.certificates}/ca.pem"\n' if scheme == "tls" else ""
        return f"""[server]
state-dir = "{place.folder}/state"
[[output.forward]]
name = "out"
to = ["{scheme}://127.0.0.1:{place.upstream}"]
framing = "newline"
queue = {{ when-full = "block" }}
{ca}"""
    path = "{hostname}/{app-name}.log" if work.to == "files" else "all.log"
    # The text of a message without header is whole, its tag included.
    tag = "" if work.form == "python" else "{app-name}[{proc-id}]: "
    return f"""[template]
line = "{{timestamp}} {{hostname}} {tag}{{message}}"
[[output.file]]
name = "out"
path = "{place.logs}/{path}"
format = "line"
new-files = 1000000
[[output.file]]
name = "other"
path = "{place.logs}/other.log"
format = "line"
"""


def penstock_routes(work):
    if not work.condition:
        return '[[route]]\nto = ["out"]\n'
    if work.condition == "select":
        conditions = [f'select = "{facility}.{"=" if exact else ""}{severity}"'
                      for facility, severity, exact in unmatched(work.routes - 1)] + ['select = "local4.notice"']
    elif work.condition == "contains":
        conditions = [f"where = 'message contains \"nowhere{i}\"'" for i in range(1, work.routes)]
        conditions += ["where = 'message contains \"seq=\"'"]
    else:
        conditions = [f"where = 'message matches \"unit{i} failed with [0-9]+\"'" for i in range(1, work.routes)]
        conditions += ["where = 'message matches \"seq=[0-9]+ \"'"]
    outputs = ["other"] * (work.routes - 1) + ["out"]
    return "".join(f'[[route]]\n{condition}\nto = ["{output}"]\n' for condition, output in zip(conditions, outputs))


def rsyslog(work, place):
    """As it comes, but for limits that would keep it from the work: sessions, and a cache for the files."""
    return rsyslog_with(work, place, tuned=False)


def rsyslog_tuned(work, place):
    return rsyslog_with(work, place, tuned=True)


def rsyslog_with(work, place, tuned):
    queue = 'main_queue(queue.workerThreads="1" queue.dequeueBatchSize="1024" queue.size="100000")\n' if tuned else ""
    config = place.write("rsyslog.conf", "\n".join([
        f'global(workDirectory="{place.folder}"{rsyslog_tls(work, place)})', queue,
        rsyslog_input(work, place, tuned), rsyslog_templates(work, place), *rsyslog_rules(work, place, tuned), ""]))
    return ["rsyslogd", "-n", "-iNONE", "-f", config]


def rsyslog_tls(work, place):
    if work.transport != "tls":
        return ""
    files = place.certificates
    return (f' defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="{files}/ca.pem"'
            f' defaultNetstreamDriverCertFile="{files}/server.pem" defaultNetstreamDriverKeyFile="{files}/server.key"')


def rsyslog_input(work, place, tuned):
    if work.transport == "unix":
        return ('module(load="imuxsock" sysSock.use="off")\n'
                f'input(type="imuxsock" socket="{place.socket}" useSpecialParser="off" parseHostname="on" '
                'useSysTimeStamp="off" ignoreTimestamp="off")')
    if work.transport == "udp":
        module = 'module(load="imudp"' + (' batchSize="128"' if tuned else "") + ")\n"
        buffer = f' rcvbufSize="{RECEIVE_BUFFER}"' if tuned else ""
        return module + f'input(type="imudp" address="127.0.0.1" port="{place.port}"{buffer})'
    sessions = f' maxSessions="{MANY}"'
    if work.transport == "tls":
        return (f'module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon"{sessions})\n'
                f'input(type="imtcp" address="127.0.0.1" port="{place.port}")')
    if tuned:
        return ('module(load="imptcp" threads="2")\n'
                f'input(type="imptcp" address="127.0.0.1" port="{place.port}" socketBacklog="1024")')
    return f'module(load="imtcp"{sessions})\ninput(type="imtcp" address="127.0.0.1" port="{place.port}")'


def rsyslog_templates(work, place):
    # What follows a tag of RFC 3164 begins with its blank.
    blank = " " if work.form == "rfc5424" else ""
    return (f'template(name="path" type="string" string="{place.logs}/%HOSTNAME%/%PROGRAMNAME%.log")\n'
            'template(name="line" type="string" '
            f'string="%timereported:::date-rfc3339% %HOSTNAME% %PROGRAMNAME%[%PROCID%]:{blank}%msg%\\n")')


def rsyslog_rules(work, place, tuned):
    action = rsyslog_relay(work, place) if work.to == "relay" else rsyslog_file(work, place, tuned)
    if not work.condition:
        return [action]
    other = f'action(type="omfile" file="{place.logs}/other.log" template="line")'
    if work.condition == "select":
        rules = [f'{facility}.{"=" if exact else ""}{severity} {other}'
                 for facility, severity, exact in unmatched(work.routes - 1)]
        return rules + [f"local4.notice {action}"]
    if work.condition == "contains":
        rules = [f'if $msg contains "nowhere{i}" then {other}' for i in range(1, work.routes)]
        return rules + [f'if $msg contains "seq=" then {action}']
    rules = [f'if re_match($msg, "unit{i} failed with [0-9]+") then {other}' for i in range(1, work.routes)]
    return rules + [f'if re_match($msg, "seq=[0-9]+ ") then {action}']


def rsyslog_file(work, place, tuned):
    buffers = ' ioBufferSize="64k" asyncWriting="off"' if tuned else ""
    if work.to == "file":
        return f'action(type="omfile" file="{place.logs}/all.log" template="line"{buffers})'
    cache = 1000 if tuned else 500
    return f'action(type="omfile" dynaFile="path" template="line" dynaFileCacheSize="{cache}"{buffers})'


def rsyslog_relay(work, place):
    # A queue of its own makes it dearer.
    tls = ' streamDriver="gtls" streamDriverMode="1" streamDriverAuthMode="anon"' if work.transport == "tls" else ""
    return (f'action(type="omfwd" target="127.0.0.1" port="{place.upstream}" protocol="tcp"'
            f' template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="-1"{tls})')


def syslog_ng(work, place):
    # With threads a datagram costs twice as much, and as many are lost.
    threaded = "no" if work.transport in ("udp", "unix") else "yes"
    config = place.write("syslog-ng.conf", "\n".join([
        "@version: 3.38",
        f"options {{ threaded({threaded}); keep-hostname(yes); use-dns(no); use-fqdn(no); chain-hostnames(no); create-dirs(yes); "
        "stats-freq(0); frac-digits(3); log-msg-size(65536); flush-lines(1000); log-fifo-size(500000); };",
        f"source s {{ {syslog_ng_source(work, place)} }};",
        f"destination out {{ {syslog_ng_destination(work, place)} }};",
        f'destination other {{ file("{place.logs}/other.log"); }};', *syslog_ng_paths(work), ""]))
    own = [f"--{option}={os.path.join(place.folder, name)}"
           for option, name in (("persist-file", "persist"), ("control", "control"), ("pidfile", "pid"))]
    program = os.path.join(SYSLOG_NG, "usr", "sbin", "syslog-ng")
    modules = glob.glob(os.path.join(SYSLOG_NG, "usr", "lib", "syslog-ng", "[0-9]*"))[0]
    return [program, "--foreground", f"--cfgfile={config}", f"--module-path={modules}", *own]


def syslog_ng_source(work, place):
    flags = "flags(syslog-protocol)" if work.form == "rfc5424" else ""
    if work.transport == "unix":
        return f'unix-dgram("{place.socket}" {flags} so-rcvbuf({RECEIVE_BUFFER}) log-fetch-limit(1000) log-iw-size(100000));'
    where = f'ip("127.0.0.1") port({place.port})'
    if work.transport == "udp":
        return f"network({where} transport(udp) {flags} so-rcvbuf({RECEIVE_BUFFER}) log-fetch-limit(1000) log-iw-size(100000));"
    connections = work.connections + work.idle + 10
    window = f"max-connections({connections}) log-fetch-limit(1000) log-iw-size({max(100_000, 100 * connections)})"
    if work.transport == "tls":
        files = place.certificates
        return (f'network({where} transport(tls) {flags} {window} tls(key-file("{files}/server.key") '
                f'cert-file("{files}/server.pem") peer-verify(optional-untrusted)));')
    if work.framing == "octet-counted":
        return f"syslog({where} transport(tcp) {window});"
    return f"network({where} transport(tcp) {flags} {window});"


def syslog_ng_destination(work, place):
    if work.to == "relay":
        tls = f'tls(ca-file("{place.certificates}/ca.pem") peer-verify(required-trusted))' if work.transport == "tls" else ""
        return (f'network("127.0.0.1" port({place.upstream}) transport({"tls" if tls else "tcp"}) '
                f"flags(syslog-protocol) {tls});")
    path = "${HOST}/${PROGRAM}.log" if work.to == "files" else "all.log"
    return f'file("{place.logs}/{path}" template("${{ISODATE}} ${{HOST}} ${{PROGRAM}}[${{PID}}]: ${{MSG}}\\n"));'


def syslog_ng_paths(work):
    if not work.condition:
        return ["log { source(s); destination(out); flags(flow-control); };"]
    if work.condition == "select":
        filters = [f'facility({facility}) and level({severity if exact else severity + "..emerg"})'
                   for facility, severity, exact in unmatched(work.routes - 1)] + ["facility(local4) and level(notice..emerg)"]
    elif work.condition == "contains":
        filters = [f'message("nowhere{i}" type(string) flags(substring))' for i in range(1, work.routes)]
        filters += ['message("seq=" type(string) flags(substring))']
    else:
        filters = [f'message("unit{i} failed with [0-9]+" type(pcre))' for i in range(1, work.routes)]
        filters += ['message("seq=[0-9]+ " type(pcre))']
    outputs = ["other"] * (work.routes - 1) + ["out"]
    return [f"log {{ source(s); filter {{ {text}; }}; destination({output}); flags(flow-control); }};"
            for text, output in zip(filters, outputs)]


def floor(work, place):
    """Receives and appends raw bytes to one file: for plain work only."""
    command = [TOOL, "floor", os.path.join(place.logs, "all.log")]
    if work.transport == "unix":
        return command + ["unix-datagram", place.socket]
    if work.transport == "udp":
        return command + ["udp", f"127.0.0.1:{place.port}"]
    files = ["--certificate", f"{place.certificates}/server.pem", "--key", f"{place.certificates}/server.key"]
    return command + ["tcp", f"127.0.0.1:{place.port}", *(files if work.transport == "tls" else [])]


def has_floor(work):
    # It has a thread for each connection, which is no floor where there are many.
    return (work.kind != "lossless" and work.framing == "newline" and work.to != "relay" and not work.condition
            and work.connections + work.idle < 100)


SERVERS = {"penstock": penstock, "rsyslog": rsyslog, "rsyslog-tuned": rsyslog_tuned, "syslog-ng": syslog_ng, "floor": floor}
PEERS = ["rsyslog", "rsyslog-tuned", "syslog-ng"]


def environment(server):
    """syslog-ng is unpacked, not installed: it finds its libraries by this."""
    if server != "syslog-ng":
        return dict(os.environ)
    folders = {folder for folder, _, names in os.walk(SYSLOG_NG) if any(".so" in name for name in names)}
    return dict(os.environ, LD_LIBRARY_PATH=":".join(sorted(folders)))
