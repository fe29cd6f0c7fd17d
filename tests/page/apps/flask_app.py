# SNIPPET
from flask import Flask
from probe import fail, probe

app = Flask("shop.orders")


@app.get("/order")
def order():
    probe(app.logger)
    return "ok"


@app.get("/crash")
def crash():
    fail(0)
