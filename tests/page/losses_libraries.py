"""What the page says of libraries that are set up otherwise."""

from losses import loss
from place import check


@loss("django-without-filter", ["socket-input"], needs=["django"])
def django_without_filter(place):
    place.app("probe.py")
    place.app("django_app.py", place.snippet("django").replace(', "filters": ["without_request"]', ""))
    served = place.serve([place.python_path, "django_app.py", "runserver", "--noreload", "127.0.0.1:{port}"])
    check((served.get("/nowhere"), served.get("/crash"), served.get("/order")) == (404, 500, 200), "answers")
    place.wait_for("order failed")
    check(not any(record.app == "django.request" for record in place.records()), f"{place.texts()}")
    check(place.said().count("--- Logging error ---") == 2, place.said())


@loss("structlog-keys", needs=["structlog"])
def structlog_keys(place):
    code, said = place.run("main.py", place.snippet("structlog-socket") + "\nstructlog.get_logger('shop').info('text', name='x')\n")
    check(code == 1 and "KeyError" in said, said)


@loss("structlog-traceback", ["tcp-input"], needs=["structlog"])
def structlog_traceback(place):
    own, other = "structlog.make_filtering_bound_logger(logging.INFO)", "structlog.stdlib.BoundLogger"
    other = place.snippet("structlog-json").replace(own, other)
    code = other + "\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    structlog.get_logger('shop').exception('failed')\n"
    check(place.run("main.py", code) == (0, ""), "it fails")
    place.wait_for("failed")
    (record,) = place.records()
    check(record.text.count("Traceback") == 2 and not record.json, f"{record}")


@loss("gunicorn-without-loggers", ["unix-input"], needs=["gunicorn"])
def gunicorn_without_loggers(place):
    place.app("probe.py")
    place.app("wsgi_app.py")
    lines = [line for line in place.snippet("gunicorn").split("\n") if '"loggers"' not in line]
    place.write("gunicorn.conf.py", "\n".join(lines))
    arguments = ["gunicorn", "wsgi_app:app", "--bind", "127.0.0.1:0"]
    code = f"import sys\nfrom gunicorn.app.wsgiapp import run\nsys.argv = {arguments}\nrun()\n"
    code, said = place.run("main.py", code)
    check(code == 1 and "Unable to configure logger 'gunicorn.error'" in said, f"{code} {said}")
