import logging

from fastapi import FastAPI
from probe import fail, probe

app = FastAPI()


@app.get("/order")
async def order():
    probe(logging.getLogger("shop.orders"))
    return "ok"


@app.get("/crash")
async def crash():
    fail(0)
