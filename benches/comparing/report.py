"""What was found, for the eye and for docs/performance.md."""
import datetime, os, re, statistics, subprocess

from .servers import PEERS, PENSTOCK, environment, SYSLOG_NG

COLUMNS = {
    "load": [("cpu", "CPU µs", ".2f"), ("user", "user", ".2f"), ("system", "system", ".2f"), ("peer", "to best peer", ".2f"),
             ("floor", "to floor", ".1f"), ("rate", "messages/s", ".0f"), ("memory", "MiB", ".0f"), ("files", "files", ".0f"),
             ("missing", "missing", ".0f"), ("doubled", "doubled", ".0f"), ("sender", "sender's µs", ".2f"),
             ("calls", "calls/1000", ".0f")],
    "lossless": [("rate", "messages/s", ".0f")],
    "latency": [("p50", "p50 µs", ".0f"), ("p99", "p99 µs", ".0f"), ("p99.9", "p99.9 µs", ".0f"), ("cpu", "CPU µs", ".2f"),
                ("missing", "missing", ".0f")],
}
# Of a peer that loses more than this, no ratio is made.
LOST = 0.01


def medians(rounds):
    """Of several rounds of one server."""
    keys = {key for result in rounds for key, value in result.items() if isinstance(value, (int, float))}
    return {key: statistics.median(result[key] for result in rounds) for key in keys}


def with_ratios(by_server):
    """CPU to that of the best peer which lost little, and to the floor's."""
    fair = [result["cpu"] for name, result in by_server.items()
            if name in PEERS and "messages" in result and result["missing"] <= LOST * (result["messages"] + result["missing"])]
    floor = by_server.get("floor", {}).get("cpu")
    for name, result in by_server.items():
        if fair and name != "floor" and "user" in result:
            result["peer"] = result["cpu"] / min(fair)
        if floor and name != "floor" and "user" in result:
            result["floor"] = result["cpu"] / floor
    return by_server


def summary(done, names, markdown):
    """CPU µs a message of every row, in one table."""
    rows = [["", *names, "penstock to best peer"]]
    for name, row in done.items():
        costs = {server: result["cpu"] for server, result in row["medians"].items() if "user" in result}
        if costs:
            ratio = row["medians"].get("penstock", {}).get("peer")
            rows.append([name, *(cell(costs.get(server), ".2f") for server in names), cell(ratio, ".2f")])
    title = "CPU µs a message, user and system"
    return as_markdown("all", title, rows) if markdown else as_text("all", title, rows)


def table(work, count, by_server, markdown):
    title = f"{work.says}; {count} messages" if work.kind == "load" else work.says
    columns = [column for column in COLUMNS[work.kind] if any(column[0] in result for result in by_server.values())]
    rows = [[""] + [heading for _, heading, _ in columns]]
    for name, result in by_server.items():
        cells = [cell(result.get(key), form) for key, _, form in columns]
        rows.append([name, *(cells if result else ["failed", *cells[1:]])])
    return as_markdown(work.name, title, rows) if markdown else as_text(work.name, title, rows)


def cell(value, form):
    return "" if value is None else format(value, form)


def as_markdown(name, title, rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"**{name}**: {title}", "", lines[0], "|---" * len(rows[0]) + "|", *lines[1:], ""])


def as_text(name, title, rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths)))
             for row in rows]
    return "\n".join([f"== {name}: {title}", *lines, ""])


def heading(names):
    """What the figures were taken on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "an unknown processor")
    with open("/proc/sys/net/core/rmem_max") as file:
        rmem = file.read().strip()
    return {"date": datetime.datetime.now().isoformat(" ", "minutes"), "processor": model, "cores": len(os.sched_getaffinity(0)),
            "kernel": os.uname().release, "net.core.rmem_max": rmem, **{name: version(name) for name in names if name != "floor"}}


def version(name):
    if name == "penstock":
        revision = said(["git", "-C", os.path.dirname(PENSTOCK), "describe", "--always", "--dirty"])
        return f"{said([PENSTOCK, '--version'])} {revision}"
    if name == "syslog-ng":
        text = said([os.path.join(SYSLOG_NG, "usr", "sbin", "syslog-ng"), "--version"], environment(name))
        return first(r"Installer-Version: (\S+)", text)
    return first(r"rsyslogd\s+(\S+)", said(["rsyslogd", "-v"]))


def said(command, env=None):
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def first(pattern, text):
    found = re.search(pattern, text)
    return found.group(1) if found else "?"
