# SNIPPET
import structlog
from probe import probe

probe(structlog.get_logger("shop.orders"), order=17, trace_id="4bf92f3577b34da6", user={"id": "u1"})
