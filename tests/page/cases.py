"""Each block of the page in an application of its own: three records arrive once, whole, and as what they are."""

import re
from collections import namedtuple

from place import check, wait_until

INFO, WARNING, ERROR = "order 17 accepted", "Grüße aus Köln — ✓ 日本語", "the order failed"
TRACE = "4bf92f3577b34da6"

Case = namedtuple("Case", "name run needs since blocks")
CASES = []


def case(name, needs=(), since=(3, 8), blocks=()):
    """`needs` are modules; `since` is the first Python on which the page says it works; `blocks` is what it runs of the page."""

    def note(run):
        CASES.append(Case(name, run, needs, since, blocks))
        return run

    return note


def one(place, text, severity, app):
    """The only record with this text."""
    found = [record for record in place.records() if text in record.text]
    check(len(found) == 1, f"`{text}` came {len(found)} times: {found or place.records()}")
    record = found[0]
    check(record.severity == severity, f"severity {severity} is expected: {record}")
    check(record.app == app, f"app name {app} is expected: {record}")
    check(record.age() < 60, f"its time is not that of now: {record}")
    check(record.line["hostname"], f"it has no host: {record}")
    return record


def traceback_in(record, place):
    lines = record.text.split("\n")
    check("Traceback (most recent call last):" in lines, f"no traceback: {record}")
    check(any(line.endswith("in fail") for line in lines), f"the traceback has no line of the function: {record}")
    check(lines[-1] == "ZeroDivisionError: division by zero", f"the traceback has no end: {record}")
    check(lines.count("ZeroDivisionError: division by zero") == 1, f"the traceback is there twice: {record}")
    nothing_is_torn(place)


def nothing_is_torn(place):
    for record in place.records():
        is_piece = record.text.startswith(("Traceback", " ", "ZeroDivisionError", "\x80", "}q"))
        check(not is_piece and not record.line.get("truncated"), f"a piece of a record: {record}")


def three(place, app, begin="", fields=None):
    """What `probe` logs, each behind `begin`, where `{}` is the level; `fields` are those of `extra=`."""
    place.wait_for(ERROR)
    records = [one(place, text, severity, app) for text, severity in ((INFO, "info"), (WARNING, "warning"), (ERROR, "err"))]
    for record, level in zip(records, ("INFO", "WARNING", "ERROR")):
        prefix = re.escape(begin.replace("{}", level)).replace("PID", r"\d+")
        first = record.text.split("\n")[0]
        text = {"INFO": INFO, "WARNING": WARNING, "ERROR": ERROR}[level]
        check(re.fullmatch(prefix + re.escape(text), first), f"another text is expected than `{first}`")
    traceback_in(records[2], place)
    check(all(f"/{app}.json" in path or path.startswith("traces/") for path in files_of(place)), f"files: {list(place.files())}")
    if fields:
        got = {key: records[1].json.get(key) for key in fields}
        check(got == fields, f"fields {fields} are expected: {records[1]}")


def files_of(place):
    """The files of the three, not those of what frameworks say besides."""
    return [path for path, text in place.files().items() if "Köln" in text or "K\\u00f6ln" in text]


FIELDS = {"order": 17, "trace_id": TRACE, "user": {"id": "u1"}}
AS_TEXT = {"order": "17", "trace_id": TRACE, "user": "{'id': 'u1'}"}
TAG = "shop[PID]: {} shop.orders: "


def script(place, snippet, *inputs, app="plain.py"):
    """Runs an application to its end."""
    place.configure(*inputs)
    place.start()
    place.app("probe.py")
    place.app(app, place.snippet(snippet))
    code, said = place.run("main.py", (place.folder / "app" / app).read_text(encoding="utf-8"))
    check((code, said) == (0, ""), f"the application ended with {code} and said {said}")


def handler_case(name, inputs, needs=(), since=(3, 8), **expected):
    @case(name, needs, since, (name, *inputs))
    def run(place):
        script(place, name, *inputs)
        three(place, **expected)


handler_case("udp", ["udp-input"], app="shop", begin=TAG)
handler_case("tcp", ["tcp-input"], app="shop", begin=TAG)
handler_case("unix", ["unix-input"], app="shop", begin=TAG)
handler_case("tls", ["tls-input"], since=(3, 11), app="shop", begin=TAG)
handler_case("socket-tls", ["socket-tls-input"], app="shop.orders", fields=FIELDS)
handler_case("datagram", ["datagram-input"], app="shop.orders", fields=FIELDS)
handler_case("http", ["http-input"], app="shop.orders", fields=AS_TEXT)
handler_case("https", ["https-input"], app="shop.orders", fields=AS_TEXT)
handler_case("queue", ["http-input"], app="shop.orders", fields=AS_TEXT)
handler_case("queue-312", ["socket-input"], since=(3, 12), app="shop.orders", fields=FIELDS)
handler_case("json-logger", ["tcp-input"], needs=["pythonjsonlogger"], app="shop", fields=FIELDS)


@case("socket")
def socket_handler(place):
    script(place, "socket", "socket-input", "trace")
    three(place, "shop.orders", fields=FIELDS)
    traced = place.files().get(f"traces/{TRACE}.json", "")
    check(traced.count("\n") == 1 and "Köln" in traced, f"the trace's file has `{traced}`")


@case("asctime")
def asctime(place):
    """The time that stands before the text, when the input is told to take it."""
    place.configure("udp-input")
    with (place.folder / "penstock.toml").open("a") as configuration:
        configuration.write("asctime = true\n")
    place.start()
    snippet = place.snippet("udp").replace('"shop[', '"%(asctime)s shop[')
    check(place.run("main.py", snippet + "\nlogging.warning('one')\n") == (0, ""), "it fails")
    place.wait_for("one")
    record = one(place, "one", "warning", "shop")
    check("timestamp" in record.line, f"its time is that of the record: {record}")


@case("http-get")
def http_get(place):
    place.configure("http-input")
    place.start()
    place.app("probe.py")
    snippet = place.snippet("http").replace(', method="POST"', "")
    place.app("plain.py", snippet)
    check(place.run("main.py", (place.folder / "app/plain.py").read_text(encoding="utf-8")) == (0, ""), "it fails")
    three(place, "shop.orders", fields=AS_TEXT)


def own(name, *inputs):
    @case(name, needs=["penstock"])
    def run(place):
        script(place, name, *inputs)
        three(place, "shop")
        data = one(place, WARNING, "warning", "shop").line["structured_data"]["python@32473"]
        expected = {"logger": "shop.orders", "order": "17", "trace_id": TRACE, "user": '{"id": "u1"}'}
        check(data == expected, f"structured data {expected} is expected: {data}")


own("own", "own-input")
own("own-https", "own-https-input")


@case("structlog-socket", needs=["structlog"])
def structlog_socket(place):
    script(place, "structlog-socket", "socket-input", app="structured.py")
    three(place, "shop.orders", fields=FIELDS)


@case("structlog-json", needs=["structlog"])
def structlog_json(place):
    script(place, "structlog-json", "tcp-input", app="structured.py")
    three(place, "shop", fields=dict(FIELDS, logger="shop.orders"))


@case("post")
def post(place):
    place.configure("http-input")
    place.start()
    events = [
        {"event": "first", "level": "warning", "logger": "shop", "order": 17},
        {"msg": "second", "level": "error", "app": "shop"},
    ]
    calls = "".join(f"\nprint(post({events}, 'key').status, file=sys.stderr)" for _ in "12")
    check(place.run("main.py", "import sys\n" + place.snippet("post") + calls) == (0, "200\n200\n"), "two answers of 200")
    first, second = one(place, "first", "warning", "shop"), one(place, "second", "err", "shop")
    check(first.json["order"] == 17 and second.text == "second", f"{first} {second}")


def crash_is_told(place, app, logger_severity="err"):
    """An exception that nobody caught, with its traceback."""
    wait_until(lambda: f"the crash arrives; there is {place.texts()}", lambda: crashes(place, app))
    found = crashes(place, app)
    check(len(found) == 1 and found[0].severity == logger_severity, f"one crash is expected: {found}")
    nothing_is_torn(place)


def crashes(place, app):
    uncaught = [record for record in place.records() if ERROR not in record.text]
    return [record for record in uncaught if record.app == app and "ZeroDivisionError: division by zero" in record.text]


def web(place, application, inputs, command):
    """Starts the application, asks for an order, and for a crash."""
    place.configure(*inputs)
    place.start()
    place.app("probe.py")
    served = place.serve([place.python_path, *command])
    check(served.get("/order") == 200, "the order is answered")
    check(served.get("/crash") == 500, "the crash is answered")
    return served


@case("django", needs=["django"])
def django(place):
    place.app("django_app.py", place.snippet("django"))
    served = web(place, "django_app", ["socket-input"], ["django_app.py", "runserver", "--noreload", "127.0.0.1:{port}"])
    check(served.get("/nowhere") == 404, "what is not there is answered")
    three(place, "shop.orders", fields=FIELDS)
    crash_is_told(place, "django.request")
    place.wait_for("Not Found: /nowhere")
    record = one(place, "Not Found: /nowhere", "warning", "django.request")
    check(record.json["status_code"] == 404 and "GET '/nowhere'" in record.json["request"], f"{record}")


@case("flask", needs=["flask"])
def flask(place):
    place.app("flask_app.py", place.snippet("flask"))
    web(place, "flask_app", ["unix-input"], ["-m", "flask", "--app", "flask_app", "run", "--port", "{port}"])
    three(place, "shop", begin=TAG)
    crash_is_told(place, "shop")


def uvicorn(place, snippet, inputs):
    place.app("fastapi_app.py")
    place.write("log.json", place.snippet(snippet))
    return web(place, "fastapi_app", inputs, ["-m", "uvicorn", "--log-config", "log.json", "--port", "{port}", "fastapi_app:app"])


@case("fastapi", needs=["fastapi", "uvicorn"])
def fastapi(place):
    uvicorn(place, "fastapi", ["socket-input"])
    three(place, "shop.orders", fields=FIELDS)
    crash_is_told(place, "uvicorn.error")
    place.wait_for("GET /order HTTP/1.1")
    one(place, "GET /order HTTP/1.1", "info", "uvicorn.access")


@case("fastapi-own", needs=["fastapi", "uvicorn", "penstock"])
def fastapi_own(place):
    served = uvicorn(place, "fastapi-own", ["own-input"])
    served.stop()
    three(place, "shop")
    crash_is_told(place, "shop")


def gunicorn(place, snippet, inputs):
    place.app("wsgi_app.py")
    place.write("gunicorn.conf.py", place.snippet(snippet))
    served = web(place, "wsgi_app", inputs, ["-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:{port}", "wsgi_app:app"])
    for text in ("Listening at", "GET /order", "Booting worker"):
        place.wait_for(text)
    return served


@case("gunicorn", needs=["gunicorn"])
def gunicorn_unix(place):
    gunicorn(place, "gunicorn", ["unix-input"])
    three(place, "shop", begin=TAG)
    crash_is_told(place, "shop")


@case("gunicorn-fork", needs=["gunicorn"])
def gunicorn_socket(place):
    gunicorn(place, "gunicorn-fork", ["socket-input"])
    three(place, "shop.orders", fields=FIELDS)
    crash_is_told(place, "gunicorn.error")
    one(place, "GET /order", "info", "gunicorn.access")


@case("celery", needs=["celery"])
def celery(place):
    place.configure("datagram-input")
    place.start()
    place.app("probe.py")
    place.app("celery_app.py", place.snippet("celery"))
    with (place.folder / "app.err").open("wb") as stderr:
        command = [place.python_path, "-m", "celery", "--app", "celery_app", "worker", "--concurrency", "2", "--without-gossip"]
        place.spawn(command, stdout=stderr, stderr=stderr)
    code, said = place.run("main.py", "import celery_app\ncelery_app.order.delay()\ncelery_app.crash.delay()\n")
    check(code == 0, said)
    three(place, "shop.orders", fields=FIELDS)
    crash_is_told(place, "celery.app.trace")
