import logging

from probe import fail, probe


def app(environ, start_response):
    if environ["PATH_INFO"] == "/crash":
        fail(0)
    probe(logging.getLogger("shop.orders"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
