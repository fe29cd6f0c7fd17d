"""What every application logs."""


def fail(divisor):
    return 1 / divisor


def probe(log, **fields):
    log.info("order %d accepted", 17)
    extra = {"order": 17, "trace_id": "4bf92f3577b34da6", "user": {"id": "u1"}}
    log.warning("Grüße aus Köln — ✓ 日本語", **(fields or {"extra": extra}))
    try:
        fail(0)
    except ZeroDivisionError:
        log.exception("the order failed")
